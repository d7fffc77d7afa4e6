"""Whether a container is online, and what an answer that cannot be read means."""

from __future__ import annotations

import asyncio

import pytest

from fdtcc_dagster.client.endpoint import Endpoint
from fdtcc_dagster.client.health import is_online, lasting_failure
from fdtcc_dagster.sandbox import SandboxContainer


async def test_a_container_is_online_and_has_no_lasting_failure(container: SandboxContainer) -> None:
    endpoint = Endpoint(container.host, container.port)
    assert await is_online(endpoint, 5.0)
    assert await lasting_failure(endpoint, OSError("reset"), 5.0, handshake=True) is None
    container.stop()
    assert not await is_online(endpoint, 5.0)
    assert await lasting_failure(endpoint, OSError("reset"), 5.0, handshake=True) is None


@pytest.mark.parametrize(
    ("answer", "lasting"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "403"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", None),
        (b"220 mail.example.com ESMTP ready\r\n", "it is no valid HTTP"),
    ],
    ids=["refused", "another service", "no HTTP"],
)
async def test_another_server_is_no_container_that_is_online(answer: bytes, lasting: str | None) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        endpoint = Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])
        assert not await is_online(endpoint, 5.0)
        error = await lasting_failure(endpoint, OSError("reset"), 5.0, handshake=True)
    assert (error is None) is (lasting is None)
    assert lasting is None or lasting in str(error)
