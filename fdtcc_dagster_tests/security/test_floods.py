"""The client disconnects in time from a server that never pauses or reads nothing, and bounds what it keeps of it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from aiohttp import web
from dagster_polars import PolarsParquetIOManager

from fdtcc_dagster import (
    FDTCC,
    FoundryContainerResource,
    FoundryDataset,
    FoundryParquetIOManager,
    Schedule,
    ServiceConnectionLostError,
    build_foundry_assets,
)
from fdtcc_dagster.client import websocket
from fdtcc_dagster.client.callbacks import PullObserver
from fdtcc_dagster.client.settings import ClientSettings
from fdtcc_dagster.client.websocket import connected, converse
from fdtcc_dagster.ingest import run_log
from fdtcc_dagster.window import Window
from fdtcc_dagster_tests.midday import TODAY, ZONE
from fdtcc_dagster_tests.security.serving import http_server, tcp_server

DAILY = Schedule([{"cycle": "daily", "time": "00:00:00"}], timedelta(0), ZONE)
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CSV = b"id\n1\n2\n"
POINTER = hashlib.sha256(CSV).hexdigest()


def says(message: str, kind: str = "update", **more: object) -> str:
    return json.dumps({"type": kind, "success": True, "message": message, **more})


def container(talk: Callable[[web.WebSocketResponse], Awaitable[None]]) -> Callable[..., Awaitable[web.StreamResponse]]:
    """A container that talks as it likes, and has one CSV."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if "download" in request.path:
            return web.Response(body=CSV)
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        await socket.receive()
        try:
            await talk(socket)
            await socket.receive()
        except ConnectionError:
            pass
        return socket

    return handle


async def ping_without_reading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    key = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")).split()[-1]
    accept = base64.b64encode(hashlib.sha1(key + MAGIC, usedforsecurity=False).digest())
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
    writer.write(b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    while True:
        writer.write((b"\x89\x7d" + b"x" * 125) * 100)
        await writer.drain()


@pytest.mark.parametrize("asks", [False, True])
async def test_a_server_that_pings_and_reads_nothing_is_left(monkeypatch: pytest.MonkeyPatch, asks: bool) -> None:
    monkeypatch.setattr(websocket, "_CLOSE_SECONDS", 0.1)
    with tcp_server(ping_without_reading) as port:

        async def leave() -> None:
            async with connected(ClientSettings("127.0.0.1", port)) as connection:
                connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                if asks:
                    with pytest.raises(ServiceConnectionLostError, match="without a close frame"):
                        await anext(converse(connection, "{}", ClientSettings()))
                else:
                    while connection.transport.get_write_buffer_size() < 1 << 16:
                        await asyncio.sleep(0.01)

        # Not `wait_for`, which would wait for what it cancels.
        leaving = asyncio.create_task(leave())
        done, _ = await asyncio.wait({leaving}, timeout=10)
        assert done, "it is never left"
        await leaving


async def test_a_pull_is_cancelled_under_frames_that_never_pause(
    today: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "_CLOSE_SECONDS", 0.05)

    async def flood(socket: web.WebSocketResponse) -> None:
        while True:
            await socket.send_str(says("x"))

    with http_server(container(flood)) as port:
        client = FDTCC("127.0.0.1", port)
        for _ in range(5):
            told: list[object] = []
            pull = asyncio.create_task(
                client.request("orders", today.from_dt, today.to_dt, observer=PullObserver(told.append))
            )
            while not told:
                await asyncio.sleep(0.01)
            pull.cancel()
            done, _ = await asyncio.wait({pull}, timeout=5)
            assert done, "it goes on"
            assert pull.cancelled()


@pytest.mark.parametrize(("end", "whole_runs"), [("final", False), ("error", False), ("error", True)])
def test_a_flood_of_frames_neither_fills_the_instance_nor_delays_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, whole_runs: bool
) -> None:
    async def flood(socket: web.WebSocketResponse) -> None:
        for _ in range(4):
            await socket.send_str(says("\x1b[2J\r\n" + "x" * 1_000_000))
        for number in range(60):
            await socket.send_str(says(f"batch {number}"))
        await socket.send_str(says("DONE", end, datasets=POINTER))

    # Dagster takes tens of milliseconds for each.
    monkeypatch.setattr(run_log, "_MOST_MESSAGES", 5)
    dataset = FoundryDataset("orders", DAILY, TODAY - timedelta(days=3), {"id": "Int64"})
    # One that stores what a run returns, and one that stores each partition as it arrives.
    kind = PolarsParquetIOManager if whole_runs else FoundryParquetIOManager
    store = kind(base_dir=str(tmp_path / "parquet"))
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance, http_server(container(flood)) as port:
        result = dg.materialize(
            build_foundry_assets([dataset]),
            resources={
                "foundry_container": FoundryContainerResource(host="127.0.0.1", port=port),
                "io_manager": store,
            },
            instance=instance,
            partition_key=dataset.partitions_def.get_last_partition_key(),
            raise_on_error=False,
        )
        assert result.success is (end == "final")
        lines = [record.user_message for record in instance.all_logs(result.run_id) if record.dagster_event is None]
        size = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert size < 1_500_000
    assert len(lines) < 15
    assert max(map(len, lines)) < 1_100
    assert any(line.startswith(r"container: \x1b[2J xxx") for line in lines)
    # Before what becomes of the partition.
    left_out = lines.index("Messages of the container that are not shown: 59")
    assert all(line.startswith(("Pulling ", "container: ")) for line in lines[:left_out])
