"""Runs that are killed: a partition is always whole, and what they leave is removed by the next run."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import re
import secrets
import select
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import polars as pl
import pytest

from fdtcc_dagster.client.directories import lock_directory
from fdtcc_dagster.client.spool import part_of, spool_directory
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.real_instance import LOCATION, RealInstance, dagster_dev, wait_until
from fdtcc_dagster_tests.run_worker import KEY, NAMES, SCHEMA, Workers, snapshot

pytestmark = pytest.mark.real_instance

logger = logging.getLogger(__name__)

KILLS = 200
LEAST = 3
"""How many kills, or runs that were too fast for theirs, must have come in each phase for the test to show much."""

ROUNDS = 2
# Two locations whose assets are stored in one place, so that each run overwrites what the other one has stored.
LOCATIONS = {
    name: LOCATION.format(
        zone="UTC",
        assets=f"""
orders = FoundryDataset({name!r}, DAILY, "2026-01-01", {SCHEMA!r}, asset_key="orders")
assets = build_foundry_assets([orders], retry_policy=None)
""",
        more="",
    )
    for name in NAMES
}


def chances() -> tuple[int, random.Random]:
    """A seed, which is shown when the test fails, and what chooses when to kill."""
    seed = secrets.randbits(32)
    logger.warning("seed %s", seed)
    return seed, random.Random(seed)  # noqa: S311  `secrets` could not repeat what the seed of a failure did


@pytest.fixture
def expected() -> dict[str, pl.DataFrame]:
    # Not when this module is imported: Polars would start its threads, and a process that is forked then has none.
    return {name: snapshot(version, 90_000 - 10_000 * version) for version, name in enumerate(NAMES, start=1)}


@pytest.fixture
def container(expected: dict[str, pl.DataFrame]) -> Iterator[SandboxContainer]:
    with SandboxContainer() as container:
        for name, frame in expected.items():
            container.add_version(name, datetime(2026, 1, 5, 12, tzinfo=timezone.utc), frame)
        # The body takes part of a run's time, as it does with a container that is further away.
        container.inject(None, faults.ThrottledBody(40_000_000), times=None)
        yield container


@contextlib.contextmanager
def a_living_neighbour(spools: Path, partition: Path) -> Iterator[set[Path]]:
    """What another process uses in the same directories."""
    with spool_directory(spools) as spool, part_of(partition) as part:
        part.touch()
        (spool / "0.csv").touch()
        yield {spool, part}


class Reader:
    """Reads the partition."""

    def __init__(self, partition: Path, expected: dict[str, pl.DataFrame]) -> None:
        self._partition, self._expected = partition, expected
        self._last = b"", ""  # what was read, and whose rows it has
        self.found = Counter[str]()
        """How often `read_all_the_time` has read which dataset, or what else."""

    def read(self) -> str:
        """Read the whole file, and say whose rows it has."""
        try:
            data = self._partition.read_bytes()
            known, whose = self._last
            if data != known:
                rows = pl.read_parquet(data)
                names = (name for name, frame in self._expected.items() if rows.equals(frame))
                whose = next(names, f"{rows.height} rows of neither")
                self._last = data, whose
            return whose
        except (OSError, pl.exceptions.PolarsError) as error:
            return f"unreadable: {error!r}"

    @contextlib.contextmanager
    def read_all_the_time(self) -> Iterator[None]:
        """Read in another thread, until the end."""
        ended = threading.Event()

        def work() -> None:
            while not ended.wait(0.002):
                self.found[self.read()] += 1

        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(work)
            try:
                yield
            finally:
                ended.set()
            reading.result()


@pytest.mark.timeout(1800)
def test_a_partition_is_whole_whenever_its_run_is_killed(
    container: SandboxContainer, expected: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    for name in ("tmp", "spool", "parquet/orders"):
        (tmp_path / name).mkdir(parents=True)
    spools, partition = tmp_path / "spool", tmp_path / "parquet" / "orders" / f"{KEY}.parquet"
    workers = Workers(container.port, tmp_path)
    seed, chance = chances()

    reader = Reader(partition, expected)

    def is_being_written() -> bool:
        return any(path not in before for path in partition.parent.glob(".*.part"))

    assert workers.run("old") == 0
    began = time.monotonic()
    assert workers.run("new") == 0
    # Writing is a small part of a run: in some runs, the instant is one of it and of what follows.
    lasts = {False: time.monotonic() - began, True: 0.3 * (time.monotonic() - began)}
    holds, killed, seen = "new", 0, Counter[str]()
    with a_living_neighbour(spools, partition) as living, reader.read_all_the_time():
        before = {*spools.iterdir(), *partition.parent.iterdir()}
        while killed < KILLS:
            name = NAMES[NAMES.index(holds) - 1]
            aimed = killed % 5 == 0
            code = workers.run(name, chance.uniform(0, lasts[aimed]), is_being_written if aimed else None)
            # A few runs come to their end, however fast or slow the machine has become.
            lasts[aimed] *= 1.03 if code else 0.8
            holds = reader.read()
            assert holds in ((name,) if code == 0 else NAMES), f"after {killed} kills of seed {seed}: {holds}"
            assert reader.found.keys() <= {*NAMES}, f"after {killed} kills of seed {seed}"
            killed += code != 0
            left = {*spools.iterdir(), *partition.parent.iterdir()} - {partition}
            assert living <= left
            new = left - before
            seen.update({"spool": 0, "part": 0})
            seen["finished"] += code == 0
            seen["replaced"] += code != 0 and holds == name
            seen["spool"] += any(path.parent == spools for path in new)
            seen["part"] += any(path.parent != spools for path in new)
            before = left
        # Whatever is left of the last ones goes with the next run.
        assert workers.run("old") == 0
        assert {*spools.iterdir(), *partition.parent.iterdir()} == {*living, partition}
    logger.warning("%s %s", seen, reader.found)
    assert pl.read_parquet(partition).equals(expected["old"])
    assert list(spools.iterdir()) == []
    assert list(partition.parent.iterdir()) == [partition]
    assert list(lock_directory().glob("*.alive")) == []
    # Kills have hit downloads, writes and what follows, and it was read all the time, or the test would show little.
    assert min(seen.values()) >= LEAST
    assert reader.found.keys() == {*NAMES}
    assert reader.found.total() > 10 * KILLS
    assert set(container.max_conversations.values()) == {1}


@dataclass(frozen=True)
class Processes:
    """A run that has begun to pull has two: its own, and that of its step. (Numbers alone may soon be another's.)"""

    run: int
    step: int

    def kill(self, *names: str) -> None:
        """Kill them, unless they have ended."""
        for name in names:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(getattr(self, name), signal.SIGKILL)

    def step_is_over(self) -> bool:
        return bool(select.select([self.step], [], [], 0)[0])


def processes_of(instance: RealInstance, run: str) -> Processes | None:
    """The processes of a run, once the container has said something to it."""
    assert instance.ended(run) is None, "it was over before it was seen to pull"
    said = "\n".join(event.get("message", "") for event in instance.log(run))
    if not (found := re.search(r"parent process \(pid: (\d+)\)", said)) or "container: " not in said:
        return None
    parent = int(found[1])
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    (step,) = [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    return Processes(os.pidfd_open(parent), os.pidfd_open(step))


@pytest.mark.timeout(600)
def test_a_partition_is_whole_whichever_process_of_its_run_is_killed(
    container: SandboxContainer, expected: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    seed, chance = chances()
    partition = tmp_path / "parquet" / "orders" / f"{KEY}.parquet"
    reader, failed = Reader(partition, expected), Counter[str]()
    with dagster_dev(tmp_path, LOCATIONS, container.port) as instance:

        def launch(name: str, bytes_per_second: int) -> str:
            container.clear_faults()
            container.inject(None, faults.ThrottledBody(bytes_per_second), times=None)
            return instance.materialize(name, ["orders"], KEY)

        def end(run: str) -> str:
            return wait_until(lambda: instance.ended(run), what=f"the end of run {run}")

        def begin(bytes_per_second: int) -> tuple[str, Processes]:
            holds = reader.read()
            assert holds in NAMES, f"seed {seed}"
            # What is stored already would not be downloaded.
            run = launch(NAMES[NAMES.index(holds) - 1], bytes_per_second)
            return run, wait_until(lambda: processes_of(instance, run), what="a pull")

        def begin_and_kill(*names: str, bytes_per_second: int = 1_000_000) -> Processes:
            run, processes = begin(bytes_per_second)
            time.sleep(chance.uniform(0, 3))  # as long as the download takes
            processes.kill(*names)
            failed[" ".join(names)] += end(run) == "FAILURE"
            return processes

        assert end(launch("old", 40_000_000)) == "SUCCESS"
        with reader.read_all_the_time():
            for _ in range(ROUNDS):
                begin_and_kill("run", "step")
                begin_and_kill("step")
                # Its step goes on, for half a minute, and the next run stores the same partition in the meantime.
                left_alone = begin_and_kill("run", bytes_per_second=100_000)
                run, _ = begin(1_000_000)
                assert not left_alone.step_is_over()
                assert end(run) == "SUCCESS"
                wait_until(left_alone.step_is_over, what="the end of the step")
            # One of them at least stores, and removes what was left beside the file.
            assert [end(launch(name, 40_000_000)) for name in NAMES] == ["SUCCESS", "SUCCESS"]
        assert list(instance.spool.iterdir()) == []
    logger.warning("%s %s", failed, reader.found)
    assert reader.found.keys() == {*NAMES}, f"seed {seed}"
    assert list(partition.parent.iterdir()) == [partition]
    assert pl.read_parquet(partition).equals(expected["new"])
    # The others may be killed too late, but not all of them.
    assert failed["run"] == ROUNDS
    assert failed["run step"] + failed["step"] > 0
