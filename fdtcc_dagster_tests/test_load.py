"""64 datasets at once in one process, and by runs of which 16 are parallel: all complete, and nothing is left."""

from __future__ import annotations

import collections
import multiprocessing.connection
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from multiprocessing.process import BaseProcess
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from fdtcc_dagster import FoundryContainerResource, FoundryParquetIOManager
from fdtcc_dagster.client.directories import lock_directory
from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster.window import Window
from fdtcc_dagster_tests.real_instance import wait_until
from fdtcc_dagster_tests.run_worker import KEY, MANY, Workers, resident, snapshot

pytestmark = [pytest.mark.real_instance, pytest.mark.timeout(300)]

PULLED_AT = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
WINDOW = Window(PULLED_AT - timedelta(hours=1), PULLED_AT + timedelta(hours=1))
ROWS = 30_000
ROUNDS = 5
"""How often all are pulled in one process: if the bytes and rows of all were kept, they would be beyond the bound."""
PARALLEL_RUNS = 16
"""A process for each: of more, the memory would be a matter of the machine."""
MB = 1 << 20


def expected(name: str) -> pl.DataFrame:
    return snapshot(MANY.index(name) + 1, ROWS)


def open_files() -> collections.Counter[str]:
    """What the descriptors of this process are, such as sockets and pipes."""
    kinds = collections.Counter[str]()
    for path in Path("/proc/self/fd").iterdir():
        try:
            kinds[os.readlink(path).split(":")[0]] += 1
        except FileNotFoundError:  # that of the listing itself
            continue
    return kinds


@pytest.fixture
def container(tmp_path: Path) -> Iterator[SandboxContainer]:
    for name in ("tmp", "spool", "parquet"):
        (tmp_path / name).mkdir()
    with SandboxContainer() as container:
        for name in MANY:
            container.add_version(name, PULLED_AT, expected(name))
        yield container


def assert_all_is_stored_and_nothing_left(container: SandboxContainer, directory: Path) -> None:
    for name in MANY:
        assert pl.read_parquet(directory / "parquet" / name / f"{KEY}.parquet").equals(expected(name))
    assert list((directory / "spool").iterdir()) == []
    assert [path for path in (directory / "parquet").rglob("*") if path.is_file() and path.suffix != ".parquet"] == []
    assert {path.suffix for path in lock_directory().iterdir()} == {".lock"}
    assert container.max_conversations == dict.fromkeys(MANY, 1)
    wait_until(lambda: container.open_sockets == 0, 10, what="sockets are open")


def test_64_datasets_in_one_process(container: SandboxContainer, tmp_path: Path) -> None:
    resource = FoundryContainerResource(
        host="127.0.0.1", port=container.port, spool_directory=str(tmp_path / "spool"), max_concurrency=64
    )
    together = threading.Barrier(len(MANY))
    with dg.build_resources({"store": FoundryParquetIOManager(base_dir=str(tmp_path / "parquet"))}) as resources:

        def work(name: str, window: Window = WINDOW, at_once: bool = True) -> int:
            if at_once:
                together.wait()
            with resource.spool() as spool:
                pulled = resource.pull(name, window, directory=spool)
                resources.store.store_partition(dg.AssetKey(name), KEY, pulled.scan(pl.Schema(snapshot(1, 0).schema)))
                return pulled.size_bytes

        work(MANY[0], at_once=False)
        before, memory = open_files(), resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # forget the highest mark
        with ThreadPoolExecutor(len(MANY)) as pool:
            for hours in range(1, ROUNDS + 1):
                windows = [Window(PULLED_AT - timedelta(hours=hours), WINDOW.to_dt)] * len(MANY)
                sizes = list(pool.map(work, MANY, windows))
        grown = resident("VmHWM") - memory
        print(f"{ROUNDS} x {sum(sizes) / MB:.0f} MB pulled; memory grew by {grown / MB:.0f} MB at most")  # noqa: T201
        wait_until(lambda: open_files() == before, 10, what=f"{open_files()} are open, and were {before}")
        # The others are of the sandbox, and of the pool here.
        assert [thread.name for thread in threading.enumerate() if thread.name in ("fdtcc-pull", "fdtcc-call")] == []
    assert_all_is_stored_and_nothing_left(container, tmp_path)
    # Each snapshot fits one block, of which there are at most its bytes, its strings and its values, once or twice; and
    # of no more than one round.
    assert grown < 8 * sum(sizes)


def test_64_datasets_in_parallel_runs(container: SandboxContainer, tmp_path: Path) -> None:
    workers = Workers(container.port, tmp_path)
    assert workers.run(MANY[0]) == 0
    before = open_files()

    # The same partition by two runs at a time, for some of them.
    names = sorted([*MANY, *MANY[::6]])
    waiting, running, codes = deque(names), list[BaseProcess](), list[int | None]()
    while waiting or running:
        if waiting and len(running) < PARALLEL_RUNS:
            running.append(workers.start(waiting.popleft()))
        else:
            multiprocessing.connection.wait([process.sentinel for process in running])
        for process in [process for process in running if process.exitcode is not None]:
            running.remove(process)
            codes.append(process.exitcode)
            process.close()
    assert codes == [0] * len(names)
    grown = workers.grown()
    assert len(grown) == len(names) + 1
    print(f"memory of a run grew by {min(grown) / MB:.0f} to {max(grown) / MB:.0f} MB")  # noqa: T201
    # Most of it are Polars' threads; it does not depend on how many runs there are.
    assert max(grown) < 200 * MB
    wait_until(lambda: open_files() == before, 10, what=f"{open_files()} are open, and were {before}")
    assert len(container.requests) == len(names) + 1
    assert_all_is_stored_and_nothing_left(container, tmp_path)
