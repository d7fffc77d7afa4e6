"""Faults in the one snapshot of a run of slices: no slice is stored, and stored ones stay unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from fdtcc_dagster import FoundryDataset, Schedule
from fdtcc_dagster.errors import (
    ChecksumMismatchError,
    RowCountMismatchError,
    SchemaMismatchError,
    ServiceConnectionLostError,
)
from fdtcc_dagster.ingest import slices
from fdtcc_dagster.pandas_csv import blocks
from fdtcc_dagster.sandbox import faults
from fdtcc_dagster_tests.faults.cases import container, network, today
from fdtcc_dagster_tests.faults.scene import ATTEMPTS, NAME, Case, Scene
from fdtcc_dagster_tests.faults.site import FaultySite
from fdtcc_dagster_tests.site import failure_of
from fdtcc_dagster_tests.tcp_proxy import NetworkFault

SCHEMA = {"id": "Int64", "at": "Datetime(us, UTC)", "token": "String"}
MONDAYS = Schedule([{"cycle": "weekly", "day": "Monday", "time": "00:00:00"}], buffer=timedelta(0))
SLICES = FoundryDataset(NAME, MONDAYS, "2025-01-06", SCHEMA, time_column="at")
KEYS = list(SLICES.partitions_def.get_partition_keys())[:4]
FIRST = datetime(2025, 1, 6, tzinfo=timezone.utc)
ROWS = 40_000
# In no order of time, on the bounds too, and outside of all slices.
WHOLE = pl.DataFrame({"id": range(ROWS)}).select(
    "id",
    at=FIRST + pl.duration(hours=pl.col("id") * 37 % (5 * 7 * 24) - 84),
    token=pl.format("{}-{}", pl.lit("x" * 40), "id"),
)
CSV = WHOLE.write_csv(datetime_format="%Y-%m-%d %H:%M:%S+00:00")
ID = CSV.index("\n30000,") + 1
"""The position of a digit that is still a digit when its last bit is flipped."""


def last_row(row: str) -> str:
    return f"{CSV[: CSV.rindex(chr(10), 0, -1)]}\n{row}\n"


CASES = [
    Case("cut", container(faults.TruncatedBody(0.8)), ServiceConnectionLostError, 1, ATTEMPTS),
    Case("truncated", container(faults.TruncatedBody(0.8, close_delimited=True)), ChecksumMismatchError, 1, ATTEMPTS),
    Case(
        "reset",
        network("download", NetworkFault(int(0.8 * len(CSV)), "reset")),
        ServiceConnectionLostError,
        1,
        ATTEMPTS,
    ),
    Case("one bit flipped", container(faults.FlippedBit(ID)), ChecksumMismatchError, 1, ATTEMPTS),
    Case("one bit flipped once", container(faults.FlippedBit(ID), 1), None, 1, 2),
    Case("too many rows announced", container(faults.AnnouncedRows(ROWS + 1)), RowCountMismatchError, 1, 1),
    Case("too few rows announced", container(faults.AnnouncedRows(ROWS - 1)), RowCountMismatchError, 1, 1),
    Case("last row: no number", today(last_row("x,2025-01-06 00:00:00+00:00,y")), SchemaMismatchError, 1, 1),
    Case("last row: no time", today(last_row("1,soon,y")), SchemaMismatchError, 1, 1),
    Case("last row: a field too few", today(last_row("1,2025-01-06 00:00:00+00:00")), SchemaMismatchError, 1, 1),
]


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """One for each case: what an earlier one has stored is not to be remembered."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def site(place: Scene, tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> FaultySite:
    """A run of all slices but the last gets an older version; the next run pulls live, and gets the fault.

    Its bytes arrive so slowly, and are cut in blocks so small, that parts of slices are in the spool by then.
    """
    monkeypatch.setattr(slices, "_HELD_BYTES", 0)
    monkeypatch.setattr(blocks.record_blocks, "__defaults__", (1 << 17,))
    site = FaultySite(place, tmp_path, instance, SLICES)
    older = WHOLE.filter(pl.col("at") < SLICES.window(KEYS[-1]).from_dt).head(1000)
    place.container.add_version(NAME, SLICES.window(KEYS[-1]).from_dt + timedelta(days=1), older)
    place.container.set_live(NAME, CSV)
    place.skip = 1
    place.inject(faults.ThrottledBody(1e7))
    return site


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_run_of_slices_replaces_all_of_them_or_none(case: Case, site: FaultySite) -> None:
    case.arrange(site.scene)
    assert site.pull(KEYS[:-1]).success
    before = site.contents()
    assert sorted(before) == [site.path(key) for key in KEYS[:-1]]
    result = site.pull(KEYS)
    assert site.scene.attempts() == (case.conversations, case.downloads)
    if case.error is None:
        assert result.success
        assert sorted(site.contents()) == [site.path(key) for key in KEYS]
        for key in KEYS:
            window = SLICES.window(key)
            rows = WHOLE.filter((pl.col("at") >= window.from_dt) & (pl.col("at") < window.to_dt))
            assert pl.read_parquet(site.path(key)).equals(rows)
    else:
        text = failure_of(result)
        assert f"{len(KEYS)} of {len(KEYS)} partitions failed:" in text
        for key in KEYS:
            assert f"{key}: {case.error.__name__}: window [" in text
        assert result.get_asset_materialization_events() == []
        assert site.contents() == before
