"""What is told of a download, and how it is received."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from datetime import datetime, timezone
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer

from fdtcc_dagster.client import FoundryDevToolsContainerClient
from fdtcc_dagster.client.callbacks import PullObserver
from fdtcc_dagster.client.download import _RECEIVED_BYTES, _receive_more
from fdtcc_dagster.client.local_evidence import LocalEvidence
from fdtcc_dagster.client.snapshot import Announcement, ArrivingSnapshot
from fdtcc_dagster.window import Window


async def test_progress_tells_the_total_where_the_server_does(today: Window, tmp_path: Path) -> None:
    body = b"id\n" + b"1\n" * 50

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[:53])
        await asyncio.sleep(1.2)
        await response.write(body[53:])
        return response

    application = web.Application()
    application.router.add_get("/fdtc-api/dataset/download/csv/{sha256}", answer)
    told: list[tuple[int, int | None]] = []
    async with TestServer(application, host="127.0.0.1") as server:
        client = FoundryDevToolsContainerClient("127.0.0.1", server.port or 0, attempts=1)
        pointer = hashlib.sha256(body).hexdigest()
        now, evidence = datetime.now(timezone.utc), LocalEvidence("127.0.0.1:1", "orders")
        announcement = Announcement("orders", today, pointer, None, "cached", now, now, 0.0, evidence, True)
        await client.fetch(
            ArrivingSnapshot.of(announcement, tmp_path),
            observer=PullObserver(on_progress=lambda size, total: told.append((size, total))),
        )
    assert told[-1] == (len(body), len(body))


async def test_asyncios_transport_takes_as_much_at_once_as_it_is_told() -> None:
    taken: list[int] = []
    ended = asyncio.get_running_loop().create_future()

    class Receiver(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            _receive_more(transport)

        def data_received(self, data: bytes) -> None:
            taken.append(len(data))

        def connection_lost(self, exc: Exception | None) -> None:
            ended.set_result(None)

    ours, theirs = socket.socketpair()
    with theirs:
        size = 2 * _RECEIVED_BYTES
        for end, option in ((theirs, socket.SO_SNDBUF), (ours, socket.SO_RCVBUF)):
            end.setsockopt(socket.SOL_SOCKET, option, 4 * size)
        # All of it is there before any of it is taken, as far as the system's buffers are large enough.
        theirs.setblocking(False)
        sent = theirs.send(bytes(size))
        theirs.shutdown(socket.SHUT_WR)
        await asyncio.get_running_loop().create_connection(Receiver, sock=ours)
        await ended
    assert sum(taken) == sent
    assert max(taken) == min(sent, _RECEIVED_BYTES)
