"""Locks across processes: they are held while their holder runs, and waiters time out.

A container spends processor time on each handshake, and drops those that take too long.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fdtcc_dagster import FDTCC, IdleTimeoutError, ServiceUnavailableError
from fdtcc_dagster.client import pull
from fdtcc_dagster.client.directories import lock_directory
from fdtcc_dagster.client.locks import exclusive, handshake
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster.window import Window
from fdtcc_dagster_tests.conftest import ClientMaker

HOLD = """
import asyncio, sys
from fdtcc_dagster.client.endpoint import identity_of
from fdtcc_dagster.client.locks import exclusive

async def waits():
    print("waits", flush=True)

async def hold():
    async with exclusive(identity_of(sys.argv[1], int(sys.argv[2])), "orders", waits, timeout=float(sys.argv[4])):
        print("held", flush=True)
        await asyncio.sleep(float(sys.argv[3]))

asyncio.run(hold())
"""
NAMES = [f"dataset {number}" for number in range(64)]


@contextmanager
def holder(
    host: str, port: int, seconds: float = 60.0, timeout: float = 60.0, says: str = "held"
) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of the dataset `orders`, or waits for it."""
    command = [sys.executable, "-c", HOLD, host, str(port), str(seconds), str(timeout)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{says}\n"
        try:
            yield process
        finally:
            process.kill()


async def locked(port: int, timeout: float, notified: asyncio.Event | None = None) -> float:
    """Wait for the lock, and return how many seconds that took."""
    began = time.monotonic()

    async def waits() -> None:
        if notified is not None:
            notified.set()

    async with exclusive(f"h:{port}", "orders", waits, timeout):
        return time.monotonic() - began


async def test_a_holder_that_is_stopped_is_given_up_and_named() -> None:
    with holder("h", 1) as process:
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(IdleTimeoutError, match=f"process {process.pid} .* no heartbeat for 1.5 s.*end it"):
            await asyncio.wait_for(locked(1, timeout=1.5), 30)
    # The files of a killed process block nobody.
    assert await locked(1, timeout=1.5) < 1.5


async def test_a_holder_that_goes_on_is_waited_for_longer_than_the_timeout() -> None:
    with holder("h", 2, seconds=8) as process:
        assert await locked(2, timeout=3) > 5
        assert process.wait() == 0
    assert [path.suffix for path in lock_directory().iterdir()] == [".lock"]


async def test_a_holder_after_a_killed_one_is_named_itself() -> None:
    with holder("h", 3) as killed:
        killed.kill()
        killed.wait()
    with holder("h", 3) as process:
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(IdleTimeoutError, match=f"process {process.pid} "):
            await asyncio.wait_for(locked(3, timeout=1.5), 30)


async def test_only_the_first_of_many_waits_long_for_a_stopped_holder() -> None:
    with holder("h", 4) as process:
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        ends = await asyncio.gather(*(locked(4, timeout=8) for _ in range(5)), return_exceptions=True)
        assert [type(end) for end in ends] == [IdleTimeoutError] * 5
        assert time.monotonic() - began < 30
        process.send_signal(signal.SIGCONT)
        process.terminate()
        assert await locked(4, timeout=30) < 30


def test_who_was_stopped_with_the_holder_does_not_give_it_up() -> None:
    with holder("h", 5) as process, holder("h", 5, seconds=0, timeout=3, says="waits") as waiting:
        for one in (process, waiting):
            one.send_signal(signal.SIGSTOP)
        time.sleep(5)
        waiting.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        process.send_signal(signal.SIGCONT)
        time.sleep(3.5)  # longer than its timeout
        assert waiting.poll() is None
        process.terminate()
        assert waiting.stdout is not None
        assert waiting.stdout.read() == "held\n"
        assert waiting.wait() == 0


async def test_a_sign_that_cannot_be_given_hinders_no_pull() -> None:
    await locked(6, timeout=2)
    (lock,) = lock_directory().iterdir()
    lock.with_suffix(".heartbeat").mkdir()
    assert await locked(6, timeout=2) < 2


async def test_a_pull_that_would_wait_for_a_stopped_one_ends(
    sandbox_container: SandboxContainer,
    make_client: ClientMaker,
    today: Window,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sandbox_container.set_live("orders", "id\n1\n")
    monkeypatch.setattr(pull, "_LEAST_LOCK_TIMEOUT", 1.5)
    with holder(sandbox_container.host, sandbox_container.port) as process:
        process.send_signal(signal.SIGSTOP)
        client = make_client(idle_timeout=1.5)
        pulled = client.pull("orders", today.from_dt, today.to_dt, directory=tmp_path)
        with pytest.raises(IdleTimeoutError, match=r"dataset 'orders', window .*no heartbeat") as raised:
            await asyncio.wait_for(pulled, 30)
        assert (raised.value.dataset, raised.value.window) == ("orders", today)
        assert sandbox_container.requests == []
        # Another attempt succeeds when the holder continues.
        again = asyncio.create_task(client.pull("orders", today.from_dt, today.to_dt, directory=tmp_path))
        process.send_signal(signal.SIGCONT)
        process.terminate()
        assert (await again).path.exists()


async def test_a_lock_whose_file_was_deleted_is_not_given_to_another_even_if_its_holder_pauses() -> None:
    with holder("h", 7, seconds=60) as process:
        process.send_signal(signal.SIGSTOP)
        for path in lock_directory().glob("*.lock"):
            path.unlink()
        notified = asyncio.Event()
        waiting = asyncio.create_task(locked(7, timeout=60, notified=notified))
        await asyncio.sleep(2.5)
        assert notified.is_set()
        process.send_signal(signal.SIGCONT)
        await asyncio.sleep(1.5)
        assert not waiting.done()
        process.kill()
        assert await waiting >= 3.9


@pytest.mark.usefixtures("group_may_write")
async def test_a_lock_is_kept_and_others_can_be_had_when_the_state_directory_is_deleted(state: Path) -> None:
    with holder("h", 8, seconds=60) as process:
        shutil.rmtree(state)
        await asyncio.sleep(1.5)  # the heartbeat was missing for a second
        waiting = asyncio.create_task(locked(8, timeout=60))
        await locked(9, timeout=60)
        await asyncio.sleep(0.5)
        assert not waiting.done()
        process.kill()
        assert await waiting >= 0.4


@pytest.fixture
def group_may_write() -> Iterator[None]:
    before = os.umask(0o002)
    yield
    os.umask(before)


@pytest.fixture
def busy() -> Iterator[SandboxContainer]:
    """A container that answers twenty handshakes in its time limit, and drops those that come with them."""
    with SandboxContainer() as container:
        for name in NAMES:
            container.set_live(name, f"name\n{name}\n")
        container.inject(None, faults.BusyHandshakes(0.1, limit=2.0), times=None)
        yield container


async def pull_all(client: FDTCC, window: Window, directory: Path) -> list[object]:
    return await asyncio.gather(
        *(client.pull(name, window.from_dt, window.to_dt, directory=directory) for name in NAMES),
        return_exceptions=True,
    )


async def test_64_datasets_at_once_are_all_pulled(busy: SandboxContainer, today: Window, tmp_path: Path) -> None:
    pulled = await pull_all(FDTCC(busy.host, busy.port, attempts=1), today, tmp_path)
    assert [one for one in pulled if isinstance(one, BaseException)] == []
    assert len(busy.requests) == 64


async def test_without_a_limit_they_are_dropped_and_the_error_says_so(
    busy: SandboxContainer, today: Window, tmp_path: Path
) -> None:
    pulled = await pull_all(FDTCC(busy.host, busy.port, attempts=1, max_handshakes=64), today, tmp_path)
    dropped = [one for one in pulled if isinstance(one, BaseException)]
    assert len(dropped) > 32
    assert {type(one) for one in dropped} == {ServiceUnavailableError}
    assert all("is up but answers slowly" in str(one) and "secure" not in str(one) for one in dropped)


async def test_one_that_is_not_answered_in_time_by_a_container_that_is_online_says_so_too(
    busy: SandboxContainer, today: Window, tmp_path: Path
) -> None:
    busy.clear_faults()
    busy.inject(None, faults.SlowHandshake(30.0))
    with pytest.raises(ServiceUnavailableError, match="is up but answers slowly"):
        await FDTCC(busy.host, busy.port, attempts=1, open_timeout=0.3).pull(
            NAMES[0], today.from_dt, today.to_dt, directory=tmp_path
        )


def pull_in_a_process(port: int, names: list[str], directory: str) -> None:
    async def pull() -> None:
        client = FDTCC("127.0.0.1", port, attempts=1)
        now = datetime.now(timezone.utc)
        window = now.replace(year=now.year - 1), now.replace(year=now.year + 1)
        await asyncio.gather(*(client.pull(name, *window, directory=directory) for name in names))

    asyncio.run(pull())


@pytest.mark.slow
def test_several_processes_share_the_limit(busy: SandboxContainer, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    parts = [NAMES[number::4] for number in range(4)]
    processes = [spawn.Process(target=pull_in_a_process, args=(busy.port, part, str(tmp_path))) for part in parts]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(list(tmp_path.iterdir())) == 64


HOLD_HANDSHAKE = """
import asyncio, sys
from fdtcc_dagster.client.locks import handshake

async def hold():
    async with handshake(sys.argv[1], 1, 60.0):
        print("held", flush=True)
        await asyncio.sleep(60)

asyncio.run(hold())
"""


@pytest.mark.parametrize("stop", [signal.SIGSTOP, signal.SIGKILL])
async def test_a_holder_that_is_stopped_or_killed_does_not_stop_the_others(stop: signal.Signals) -> None:
    command = [sys.executable, "-c", HOLD_HANDSHAKE, "h:1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220
        try:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "held\n"
            os.kill(process.pid, stop)
            began = time.monotonic()
            async with handshake("h:1", 1, 1.0):
                waited = time.monotonic() - began
        finally:
            process.kill()
    assert waited >= 1.0 or stop == signal.SIGKILL
