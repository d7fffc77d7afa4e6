"""A container spends processor time on each handshake, and drops those that take too long."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fdtcc_dagster import FDTCC, ServiceUnavailableError
from fdtcc_dagster.client.endpoint import Endpoint, identity_of
from fdtcc_dagster.client.handshakes import handshake
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster.window import Window

NAMES = [f"dataset {number}" for number in range(64)]


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


HOLD = """
import asyncio, sys
from fdtcc_dagster.client.handshakes import handshake

async def hold():
    async with handshake(sys.argv[1], 1, 60.0):
        print("held", flush=True)
        await asyncio.sleep(60)

asyncio.run(hold())
"""


@pytest.mark.parametrize("stop", [signal.SIGSTOP, signal.SIGKILL])
async def test_a_holder_that_is_stopped_or_killed_does_not_stop_the_others(stop: signal.Signals) -> None:
    command = [sys.executable, "-c", HOLD, "h:1"]
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


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "127.0.0.1", "127.0.1.1", "::1", "localhost."], ids=lambda host: str(host)
)
def test_one_container_has_one_identity(host: str) -> None:
    assert Endpoint(host, 8888).identity == identity_of("localhost", 8888)
    assert identity_of("Container.example.com.", 1) == identity_of("container.example.com", 1) != identity_of(host, 1)
