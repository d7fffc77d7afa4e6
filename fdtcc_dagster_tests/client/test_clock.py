"""Timeouts count while this process runs: a pause of the process is not silence of the container."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp import web

from fdtcc_dagster import FDTCC, IdleTimeoutError, ServiceConnectionLostError
from fdtcc_dagster.client import clock
from fdtcc_dagster.client.clock import AwakeClock, settled
from fdtcc_dagster.client.retry import retrying
from fdtcc_dagster.window import Window
from fdtcc_dagster_tests.security.serving import http_server

CSV = b"id\n1\n2\n"


@pytest.fixture(autouse=True)
def _short_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_TICK_SECONDS", 0.02)
    monkeypatch.setattr(clock, "_MOST_SECONDS", 0.1)


async def test_time_counts_while_the_loop_runs() -> None:
    with AwakeClock() as clock:
        await asyncio.sleep(0.2)
        assert 0.1 < clock() < 0.4
        time.sleep(0.5)  # noqa: ASYNC251 (that is the point)
        assert clock() < 0.5


async def test_what_is_too_late_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    with AwakeClock(0.05) as clock:
        with pytest.raises(asyncio.TimeoutError):
            await clock.within(hang())
        assert cancelled.is_set()
        clock.until = 60
        with pytest.raises(LookupError):
            await clock.within(fails())


async def fails() -> None:
    raise LookupError


async def test_a_cancellation_wins_over_work_that_has_just_ended() -> None:
    """In Python 3.10 and 3.11, `asyncio.wait_for` would return the result, and the pull would go on."""
    result = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        with AwakeClock() as clock:
            await clock.within(result)

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0.01)
    result.set_result(None)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_what_does_not_close_is_aborted() -> None:
    aborted: list[bool] = []
    began = time.monotonic()
    await settled(asyncio.sleep(60), 0.05, lambda: aborted.append(True))
    await settled(fails(), 60, lambda: aborted.append(False))
    assert aborted == [True]
    assert time.monotonic() - began < 5


async def test_a_cancellation_during_the_wait_for_an_aborted_end_is_not_lost() -> None:
    aborted = asyncio.Event()

    async def outlives() -> None:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.5)
                return

    task = asyncio.create_task(settled(outlives(), 0.05, aborted.set))
    await aborted.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_attempt_begins_after_a_gap_that_was_longer_than_the_time_for_all() -> None:
    failures = [ServiceConnectionLostError("gone")]

    async def attempt() -> str:
        if failures:
            time.sleep(0.5)  # noqa: ASYNC251 (the process is stopped)
            raise failures.pop()
        return "done"

    async def on_retry(*_: object) -> None:
        pass

    assert await retrying(attempt, attempts=2, within=0.4, delay=0.0, on_retry=on_retry) == "done"


@pytest.mark.parametrize("silent", ["the conversation", "the download"])
@pytest.mark.parametrize("stopped", [True, False])
async def test_a_process_that_was_stopped_does_not_take_its_own_gap_for_silence(
    today: Window, tmp_path: Path, silent: str, stopped: bool
) -> None:
    """The silence lasts 0.8 seconds, and the process is stopped for 0.6 of them; the timeout is 0.4."""
    begun = threading.Event()

    async def pause(what: str) -> None:
        if what == silent:
            begun.set()
            await asyncio.sleep(0.8)

    async def handle(request: web.Request) -> web.StreamResponse:
        if "download" in request.path:
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(CSV[:4])
            await pause("the download")
            await response.write(CSV[4:])
            return response
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        await pause("the conversation")
        pointer = hashlib.sha256(CSV).hexdigest()
        await socket.send_json({"type": "final", "success": True, "message": "DONE", "datasets": pointer})
        await socket.receive()
        return socket

    with http_server(handle) as port:
        client = FDTCC("127.0.0.1", port, idle_timeout=0.4, attempts=1)
        pull = asyncio.create_task(client.pull("orders", today.from_dt, today.to_dt, directory=tmp_path))
        while not begun.is_set():
            await asyncio.sleep(0.01)
        if stopped:
            time.sleep(0.6)  # noqa: ASYNC251 (as a signal or a suspended machine does)
            assert (await pull).size_bytes == len(CSV)
        else:
            with pytest.raises(IdleTimeoutError, match=r"container sent (nothing|no bytes of the snapshot) for 0.4 s"):
                await pull
