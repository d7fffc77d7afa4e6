"""The locks of several machines: whoever dies frees them, whoever loses them knows, and the password is not shown."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg
import pytest

from fdtcc_dagster import FDTCC, ServiceConnectionLostError, ServiceUnavailableError
from fdtcc_dagster.client import database_lock as module
from fdtcc_dagster.client.database_lock import database_lock
from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster.sandbox.faults import BusyHandshakes, Silence
from fdtcc_dagster_tests.postgres_server import PostgresServer, postgres_server

WRONG = "wr0ng-that-nobody-may-see"
PULL = """
import asyncio, sys
from datetime import datetime, timedelta, timezone
from fdtcc_dagster import FDTCC
from fdtcc_dagster.client import database_lock

database_lock._GRACE_SECONDS, database_lock._HEARTBEAT_SECONDS, database_lock._POLL_SECONDS = 0.0, 0.1, 0.05
port, url, directory, names = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]
client = FDTCC("127.0.0.1", port, lock_database=url, max_handshakes=1, attempts=1)
now = datetime.now(timezone.utc)

async def pull(name):
    await client.pull(name, now - timedelta(days=1), now + timedelta(days=1), directory=directory, on_message=said)

def said(message):
    print("said", flush=True)

async def main():
    await asyncio.gather(*map(pull, names))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.0)
    monkeypatch.setattr(module, "_HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.05)


@contextmanager
def machine(container: SandboxContainer, url: str, directory: Path, *names: str) -> Iterator[subprocess.Popen[str]]:
    """A process that pulls, with a home, a temporary directory and a state directory of its own."""
    directory.mkdir()
    own = {name: str(directory) for name in ("HOME", "TMPDIR", "FDTCC_STATE_DIRECTORY")}
    directory.chmod(0o700)
    command = [sys.executable, "-c", PULL, str(container.port), url, str(directory), *names]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", env=os.environ | own) as process:
        try:
            yield process
        finally:
            process.kill()


def snapshots(container: SandboxContainer, *names: str) -> None:
    for name in names:
        container.set_live(name, "a,b\n1,2\n")


def test_machines_never_converse_about_one_dataset_at_a_time(server: PostgresServer, tmp_path: Path) -> None:
    with SandboxContainer(pull_seconds=0.3) as container, ExitStack() as stack:
        snapshots(container, "orders", "items")
        # They would be dropped if there were two at a time.
        container.inject(None, BusyHandshakes(0.4, 0.7), times=None)
        directories = [tmp_path / name for name in "abc"]
        machines = [
            stack.enter_context(machine(container, server.url, directory, "orders", "items"))
            for directory in directories
        ]
        assert {process.wait(60) for process in machines} == {0}
        assert container.max_conversations == {"orders": 1, "items": 1}


def test_the_lock_of_a_machine_that_dies_is_free(server: PostgresServer, tmp_path: Path) -> None:
    with SandboxContainer() as container, ExitStack() as stack:
        snapshots(container, "orders")
        container.inject("orders", Silence())
        dying = stack.enter_context(machine(container, server.url, tmp_path / "a", "orders"))
        assert dying.stdout is not None
        assert dying.stdout.readline() == "said\n"
        waiting = stack.enter_context(machine(container, server.url, tmp_path / "b", "orders"))
        time.sleep(0.5)
        assert waiting.poll() is None
        dying.send_signal(signal.SIGKILL)
        assert waiting.wait(20) == 0
        assert container.max_conversations == {"orders": 1}


async def test_a_holder_whose_session_ends_takes_the_lock_again_at_once(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_HEARTBEAT_SECONDS", 60.0)
    async with database_lock(server.url, ["orders"], 60) as check:
        await asyncio.sleep(0.05)
        end_sessions(server)
        await asyncio.sleep(0.3)
        check()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(held(server, "orders"), 0.3)
    await asyncio.wait_for(held(server, "orders"), 5)


async def test_a_holder_knows_that_it_has_lost_the_lock(server: PostgresServer) -> None:
    async with database_lock(server.url, ["orders"], 60) as check:
        with psycopg.connect(server.url) as other:
            # It waits in the server, and so it is faster.
            taking = asyncio.to_thread(other.execute, "SELECT pg_advisory_lock(%s)", [module._key("orders")])
            taken = asyncio.ensure_future(taking)
            await asyncio.sleep(0.1)
            check()
            end_sessions(server)
            await taken
            await asyncio.sleep(0.3)
            with pytest.raises(ServiceConnectionLostError, match="another pull has taken the lock"):
                check()


async def test_a_server_that_hangs_does_not_hold_up_the_end_of_a_pull(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ANSWER_SECONDS", 0.2)
    async with database_lock(server.url, ["orders"], 60):
        began, (hanging,) = time.monotonic(), sessions(server)
        os.kill(hanging, signal.SIGSTOP)
    os.kill(hanging, signal.SIGCONT)
    assert time.monotonic() - began < 2


async def test_the_time_for_an_outage_counts_however_long_an_attempt_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        attempts = 0

        async def try_lock(self, key: int, grace: float) -> bool:
            self.attempts += 1
            await asyncio.sleep(0.8)
            raise ServiceUnavailableError("connection timeout expired")

    monkeypatch.setattr(module, "_OUTAGE_SECONDS", 0.7)
    slow: Any = Slow()
    with pytest.raises(ServiceUnavailableError):
        await module._take(slow, [1], None)
    assert slow.attempts == 2


async def test_only_former_holders_take_locks_just_after_the_start(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database_lock(server.url, ["orders"], 60) as check:
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        monkeypatch.setattr(module, "_GRACE_SECONDS", 2.0)
        began = time.monotonic()
        await held(server, "items")
        assert time.monotonic() - began > 1
        check()


async def test_the_server_frees_the_lock_of_a_holder_that_hangs(server: PostgresServer) -> None:
    hanging = module._Session(server.url, 0.5)
    assert await hanging.try_lock(module._key("orders"), 0)
    await asyncio.wait_for(held(server, "orders"), 5)
    await hanging.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://dagster:{wrong}@127.0.0.1:{port}/postgres", "password authentication failed"),
        ("postgresql+psycopg2://dagster:{wrong}@127.0.0.1:1/postgres", "refused"),
        ("postgresql://dagster:{wrong}@127.0.0.1:{port}/postgres?nonsense={wrong}", "no URL that Postgres understands"),
        # Postgres takes what follows the first @ for the host, and what follows the first / for the database.
        ("postgresql://dagster:pass@{wrong}@127.0.0.1:{port}/postgres", "write them as %40 and %2F"),
        ("postgresql://dagster:12/{wrong}@127.0.0.1:{port}/postgres", "write them as %40 and %2F"),
    ],
)
async def test_a_database_that_cannot_be_used(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch, url: str, said: str
) -> None:
    monkeypatch.setattr(module, "_OUTAGE_SECONDS", 0.2)
    with pytest.raises(ServiceUnavailableError, match=said) as caught:
        await held(server, "orders", url.format(wrong=WRONG, port=server.port))
    assert WRONG not in "".join(traceback.format_exception(caught.value))


def test_a_dataset_may_have_the_name_of_a_handshake(server: PostgresServer) -> None:
    with SandboxContainer() as container:
        snapshots(container, "handshake-0")
        client = FDTCC("127.0.0.1", container.port, lock_database=server.url, max_handshakes=1)
        now = datetime.now(timezone.utc)
        pulled = client.get_single(None, "handshake-0", now - timedelta(days=1), now + timedelta(days=1), None)
        assert asyncio.run(asyncio.wait_for(pulled, 5))[1]


@pytest.mark.parametrize("url", ["localhost:5432", "mysql://s3cr3t@db/x", 5432])
def test_what_is_no_database_of_locks(url: Any) -> None:
    with pytest.raises(ValueError, match="lock_database must be a URL") as caught:
        FDTCC(lock_database=url)
    assert "s3cr3t" not in str(caught.value)


async def held(server: PostgresServer, name: str, url: str | None = None) -> None:
    """Hold a lock for a moment."""
    async with database_lock(url or server.url, [name], 60):
        pass


def sessions(server: PostgresServer) -> list[int]:
    with psycopg.connect(server.url) as connection:
        found = connection.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'fdtcc_dagster'")
        return [pid for (pid,) in found]


def end_sessions(server: PostgresServer) -> None:
    with psycopg.connect(server.url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fdtcc_dagster'"
        )
