"""Runs that are killed: a partition is always whole, and what they leave is removed by the next run."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import polars as pl
import pytest

from fdtcc_dagster.client.exclusive import lock_directory
from fdtcc_dagster.client.temporary import part_of, spool_directory
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.real_instance import LOCATION, RealInstance, dagster_dev, wait_until
from fdtcc_dagster_tests.run_worker import KEY, NAMES, SCHEMA, Workers, snapshot

pytestmark = pytest.mark.real_instance

KILLS = 200
LEAST = 3
"""How many kills, or runs that were too fast for theirs, must have come in each phase for the test to show much."""

KILLED = (slice(2), slice(1, 2), slice(1), slice(0))
"""Which processes of four runs: both; the step's; the run's, so that the step goes on; and none of the next one."""
ROUNDS = 3
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
    container: SandboxContainer, expected: dict[str, pl.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("tmp", "spool", "parquet/orders"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    spools, partition = tmp_path / "spool", tmp_path / "parquet" / "orders" / f"{KEY}.parquet"
    workers = Workers(container.port, tmp_path)
    seed = random.randrange(1 << 32)  # noqa: S311 (no secret is made of it)
    print(f"seed {seed}")  # noqa: T201 (shown when the test fails)
    chance = random.Random(seed)  # noqa: S311

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
    print(seen, reader.found)  # noqa: T201
    assert pl.read_parquet(partition).equals(expected["old"])
    assert list(spools.iterdir()) == []
    assert list(partition.parent.iterdir()) == [partition]
    assert list(lock_directory().glob("*.alive")) == []
    # Kills have hit downloads, writes and what follows, and it was read all the time, or the test would show little.
    assert min(seen.values()) >= LEAST
    assert reader.found.keys() == {*NAMES}
    assert reader.found.total() > 10 * KILLS
    assert set(container.max_conversations.values()) == {1}


def processes_of(instance: RealInstance, run: str) -> list[int] | None:
    """The processes of a run that has begun to pull, as far as they live: that of the run, and that of its step."""
    said = "\n".join(event.get("message", "") for event in instance.log(run))
    if not (found := re.search(r"parent process \(pid: (\d+)\)", said)) or "container: " not in said:
        return None
    parent, steps = int(found[1]), list[int]()
    with contextlib.suppress(FileNotFoundError):
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                steps.append(int(child))
    return [parent, *steps]


@pytest.mark.timeout(600)
def test_a_partition_is_whole_whichever_process_of_its_run_is_killed(
    container: SandboxContainer, expected: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    """What `dagster dev` launches has two processes; what is left of a run goes on while the next one has begun."""
    seed = random.randrange(1 << 32)  # noqa: S311 (no secret is made of it)
    print(f"seed {seed}")  # noqa: T201 (shown when the test fails)
    chance = random.Random(seed)  # noqa: S311
    # A download takes three seconds: most kills come in it, some while its rows are stored, few too late.
    container.clear_faults()
    container.inject(None, faults.ThrottledBody(1_000_000), times=None)
    partition = tmp_path / "parquet" / "orders" / f"{KEY}.parquet"
    reader, runs = Reader(partition, expected), list[str]()
    with dagster_dev(tmp_path, LOCATIONS, container.port) as instance:

        def launch(name: str) -> str:
            return instance.materialize(name, ["orders"], KEY)

        def end(run: str) -> str:
            return wait_until(lambda: instance.ended(run), what=f"the end of run {run}")

        assert end(launch("old")) == "SUCCESS"
        with reader.read_all_the_time():
            for killed in KILLED * ROUNDS:
                # What is stored already is not downloaded. Who pulls what a step without its run still does, waits.
                run = launch(NAMES[NAMES.index(reader.read()) - 1])
                processes = wait_until(lambda run=run: processes_of(instance, run), what="a pull")  # type: ignore[misc]
                time.sleep(chance.uniform(0, 3))
                for process in processes[killed]:
                    # One that is too late has nothing to kill.
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                assert reader.found.keys() <= {*NAMES}, f"after {len(runs)} runs of seed {seed}"
                runs.append(run)
            statuses = Counter(end(run) for run in runs)
            wait_until(lambda: container.open_sockets == 0, what="the end of steps without their run")
            # One of them at least stores, and removes what was left beside the file.
            assert [end(launch(name)) for name in NAMES] == ["SUCCESS", "SUCCESS"]
        assert list(instance.spool.iterdir()) == []
    print(statuses, reader.found)  # noqa: T201
    # Few of the nine were killed too late.
    assert statuses["FAILURE"] > ROUNDS
    assert reader.found.keys() <= {*NAMES}
    assert list(partition.parent.iterdir()) == [partition]
    assert pl.read_parquet(partition).equals(expected["new"])
    assert set(container.max_conversations.values()) == {1}
