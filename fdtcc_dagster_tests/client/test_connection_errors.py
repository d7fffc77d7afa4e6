"""HTTP answers that cannot be read: they are not quoted, and not retried if the next one would be the same.

And whether a container is online at all.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import hashlib
import logging
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl
import pytest

from fdtcc_dagster.client.client import FDTCC
from fdtcc_dagster.client.connection_errors import lasting_failure, refused
from fdtcc_dagster.client.endpoint import Endpoint
from fdtcc_dagster.client.health import is_online
from fdtcc_dagster.client.retry import is_retryable
from fdtcc_dagster.client.settings import ClientSettings
from fdtcc_dagster.client.websocket import connected
from fdtcc_dagster.errors import ServiceUnavailableError
from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster_tests.security.serving import tcp_server

SECRET = b"jane@example.com"
BODY = b"a,b\n1," + SECRET + b"\n"
OK = b"HTTP/1.1 200 OK\r\n"
ENDPOINT = Endpoint("127.0.0.1", 8000)
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ZIPPED = gzip.compress(BODY)
TOO_LONG = b"X-Long: " + SECRET * 600


def of_length(body: bytes, length: int | None = None, *headers: bytes) -> bytes:
    all_headers = b"\r\n".join([*headers, b"Content-Length: %d" % (len(body) if length is None else length)])
    return OK + all_headers + b"\r\n\r\n" + body


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Answer each request with the next of some answers, or the last one, and then close the connection."""
    requests: list[bytes] = []
    left = list(answers)

    async def answer_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()

    with tcp_server(answer_one) as port:
        yield port, requests


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (of_length(BODY, None, b"Content-Encoding: zstd"), "Content-Encoding"),
        (of_length(BODY, None, b"Content-Encoding: br"), "Content-Encoding"),
        (of_length(BODY, None, b"Content-Encoding: compress"), "Content-Encoding 'compress'"),
        (of_length(ZIPPED, None, b"Content-Encoding: x-gzip"), "Content-Encoding 'x-gzip'"),
        (of_length(BODY, None, TOO_LONG), "headers has more than 8 KiB"),
        (of_length(BODY, -5), "no valid HTTP"),
        (of_length(BODY, 6, SECRET), "no valid HTTP"),
        (OK + b"Transfer-Encoding: gzip\r\n\r\n" + BODY, "Transfer-Encoding 'gzip'"),
        (BODY + b"\r\n\r\n", "no valid HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x50", "no valid HTTP"),
        (b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\n\r\na", "HTTP 206"),
        (b"HTTP/1.1 501 " + SECRET + b"\r\nContent-Length: 0\r\n\r\n", "HTTP 501"),
    ],
)
async def test_an_answer_that_cannot_be_read_is_said_once_and_not_quoted(
    answer: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with answering(answer) as (port, requests):
        for zipped in (False, True):
            client = FDTCC("127.0.0.1", port, retry_delay=0.01)
            assert await client.download("0" * 64, use_zip=zipped) == ("Failed", False)
        assert not await is_online(Endpoint("127.0.0.1", port), 5.0)
    assert downloads(requests) == 2
    assert all(b"accept-encoding: identity\r\n" in request.lower() for request in requests)
    assert said in caplog.text
    assert SECRET.decode() not in caplog.text


def downloads(requests: list[bytes]) -> int:
    return sum(b"/download/" in request for request in requests)


@pytest.mark.parametrize("answer", [of_length(BODY, 500), CHUNKED + b"50\r\n" + BODY, OK + b"X: " + SECRET])
async def test_a_connection_that_ends_is_tried_again_and_not_quoted(
    answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with answering(answer) as (port, requests):
        assert await FDTCC("127.0.0.1", port, retry_delay=0.01).download("0" * 64) == ("Failed", False)
    assert downloads(requests) >= 3
    assert "ended inside the download, after" in caplog.text
    assert SECRET.decode() not in caplog.text
    # aiohttp says so of connections that nobody closes.
    gc.collect()
    assert "Unclosed" not in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        of_length(BODY, None, b"Content-Encoding: gzip"),
        of_length(ZIPPED[:10] + b"\xff" + ZIPPED[11:], None, b"Content-Encoding: gzip"),
        of_length(BODY, 6),
        of_length(BODY, 0),
        of_length(BODY, 6, b"Connection: close"),
        CHUNKED + b"5\r\n" + BODY + b"\r\n0\r\n\r\n",
        CHUNKED + b"5\r\na,b\n1\r\n" + BODY,
        CHUNKED + b"5\r\na,b\n1\r\n0\r\n\r\n" + BODY,
        CHUNKED + b"5\r\na,b\n1\r\nHTTP/1.1 502 " + SECRET + b"\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_a_body_that_is_damaged_is_tried_again_and_not_quoted(
    answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with answering(answer) as (port, requests):
        assert await FDTCC("127.0.0.1", port, retry_delay=0.01).download("0" * 64) == ("Failed", False)
        assert not await is_online(Endpoint("127.0.0.1", port), 5.0)
    assert downloads(requests) == 3
    # For a body that cannot be inflated, aiohttp may only report that it has ended.
    assert re.search("(is damaged|ended inside the download), after 0 bytes", caplog.text)
    assert SECRET.decode() not in caplog.text


async def test_a_body_in_gzip_is_read_all_the_same() -> None:
    with answering(of_length(ZIPPED, None, b"Content-Encoding: gzip")) as (port, _):
        frame, _ = await FDTCC("127.0.0.1", port).download(hashlib.sha256(BODY).hexdigest())
    assert isinstance(frame, pl.DataFrame)
    assert frame.rows() == [(1, SECRET.decode())]


@pytest.mark.parametrize(
    "answer",
    [
        of_length(b"", None, TOO_LONG),
        b"SSH-2.0-OpenSSH_9.6\r\n",
        SECRET + b"\r\n\r\n",
        OK + SECRET + b"\r\n\r\n",
    ],
)
async def test_a_handshake_that_is_no_http_is_not_tried_again(answer: bytes) -> None:
    with answering(answer) as (port, _), pytest.raises(ServiceUnavailableError, match="cannot be read: ") as caught:
        async with connected(ClientSettings("127.0.0.1", port, open_timeout=5.0)):
            pass
    assert not is_retryable(caught.value)
    assert SECRET.decode() not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 503 Service Unavailable\r\nConnection: close\r\n\r\n" + BODY,
        b"HTTP/1.1 503\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 x\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 x\r\n\r\n" + b"x" * (1 << 20) + BODY,
        b"HTTP/1.1 503 x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        b"HTTP/1.1 503 x\r\n" + b"Set-Cookie: a=b\r\n" * 140 + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 x\r\n" + TOO_LONG + b"\r\n\r\n",
        b"HTTP/1.1 503 x\r\nContent-Length: 6\r\n\r\n" + BODY,
        b"HTTP/1.1 503 x\r\nContent-Encoding: zstd\r\n\r\n" + BODY,
    ],
)
async def test_a_status_that_may_pass_comes_before_what_cannot_be_read(
    answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with answering(answer) as (port, requests):
        with pytest.raises(ServiceUnavailableError, match="answers with HTTP 503") as caught:
            async with connected(ClientSettings("127.0.0.1", port, open_timeout=5.0)):
                pass
        client = FDTCC("127.0.0.1", port, attempts=2, retry_delay=0.01)
        assert await client.download("0" * 64) == ("Failed", False)
    assert is_retryable(caught.value)
    assert downloads(requests) == 2
    assert "answers with HTTP 503" in caplog.text
    assert SECRET.decode() not in "".join([caplog.text, *traceback.format_exception(caught.value)])


@pytest.mark.parametrize("then", [of_length(b'{"online": true}'), b""], ids=["online", "gone"])
async def test_a_handshake_in_the_moment_of_a_restart_is_tried_again(then: bytes) -> None:
    with answering(b"HTTP/1.0 503 x\r\n\r\n", then) as (port, _), pytest.raises(ServiceUnavailableError) as caught:
        async with connected(ClientSettings("127.0.0.1", port, open_timeout=5.0)):
            pass
    assert is_retryable(caught.value)


@pytest.mark.parametrize("handshake", [True, False])
def test_one_place_says_which_statuses_may_pass(handshake: bool) -> None:
    passing = {status for status in range(100, 600) if is_retryable(refused(ENDPOINT, status, handshake=handshake))}
    passing_of_servers = set(range(500, 600)) - {501, 505}
    assert passing == {404, 408, 425, 429} | passing_of_servers | ({403} if handshake else set())


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
