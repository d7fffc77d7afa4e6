"""Runs that are killed: a partition is always whole, and what they leave is removed by the next run."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import polars as pl
import pytest

from fdtcc_dagster.client.exclusive import lock_directory
from fdtcc_dagster.client.temporary import part_of, spool_directory
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.run_worker import KEY, NAMES, Workers, snapshot

pytestmark = pytest.mark.real_instance

KILLS = 200
LEAST = 3
"""How many kills, or runs that were too fast for theirs, must have come in each phase for the test to show much."""


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


@contextmanager
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

    @contextmanager
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
