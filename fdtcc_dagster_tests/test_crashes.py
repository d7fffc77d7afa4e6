"""Runs that are killed: a partition is always whole, and what they leave is removed by the next run."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterator
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


@pytest.mark.timeout(900)
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

    assert workers.run("old")[0] == 0
    code, lasts = workers.run("new")
    assert code == 0
    holds, killed, seen = "new", 0, Counter[str]()
    with a_living_neighbour(spools, partition) as living:
        while killed < KILLS:
            name = NAMES[NAMES.index(holds) - 1]
            code, lived = workers.run(name, chance.uniform(0, lasts * 1.05))
            lasts = lasts if code else 0.9 * lasts + 0.1 * lived
            stored = pl.read_parquet(partition)
            holds = str(next((each for each, rows in expected.items() if stored.equals(rows)), "neither"))
            assert holds in ((name,) if code == 0 else NAMES), f"after {killed} kills of seed {seed}: {holds}"
            killed += code != 0
            left = {*spools.iterdir(), *partition.parent.iterdir()} - {partition}
            assert living <= left
            seen.update({"spool": 0, "part": 0})
            seen["finished"] += code == 0
            seen["replaced"] += code != 0 and holds == name
            seen["spool"] += any(path.parent == spools for path in left - living)
            seen["part"] += any(path.parent != spools for path in left - living)
        # Whatever is left of the last ones goes with the next run.
        assert workers.run("old")[0] == 0
        assert {*spools.iterdir(), *partition.parent.iterdir()} == {*living, partition}
    print(seen)  # noqa: T201
    assert pl.read_parquet(partition).equals(expected["old"])
    assert list(spools.iterdir()) == []
    assert list(partition.parent.iterdir()) == [partition]
    assert list(lock_directory().glob("*.alive")) == []
    # Kills have hit downloads and writes, or the test would show little.
    assert min(seen["spool"], seen["part"]) > 0
    assert set(container.max_conversations.values()) == {1}
