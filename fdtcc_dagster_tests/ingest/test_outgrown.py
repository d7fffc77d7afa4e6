"""Slices that a dataset has outgrown, in real runs: they are refused, and what is stored stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster_polars import PolarsParquetIOManager

from fdtcc_dagster import (
    FoundryDataset,
    FoundryParquetIOManager,
    Schedule,
)
from fdtcc_dagster.storing import StoredPartition
from fdtcc_dagster_tests.site import Site, failure_of, refetch

NAME = "events"
DAILY = Schedule([{"cycle": "daily", "time": "00:00:00"}], buffer=timedelta(0))
FIRST = date(2026, 1, 5)
KEYS = [(FIRST + timedelta(days=number)).isoformat() for number in range(5)]
LONG_AGO = "2020-01-01"


def slices(**arguments: Any) -> FoundryDataset:
    return FoundryDataset(NAME, DAILY, FIRST, {"id": "Int64", "at": "Date"}, time_column="at", **arguments)


def of_days(*days: str) -> str:
    """A snapshot with a row of each day, which may come several times."""
    return "id,at\n" + "".join(f"{number},{day}\n" for number, day in enumerate(days))


class ForgetfulIOManager(FoundryParquetIOManager):
    """Cannot tell what is stored, as on a store that is far away."""

    def stored_partition(self, asset_key: dg.AssetKey, partition_key: str) -> StoredPartition | None:
        return None


class PlainIOManager(FoundryParquetIOManager):
    """Keeps the rows, and not where they come from."""

    def store_partition(
        self, asset_key: dg.AssetKey, partition_key: str, frame: pl.LazyFrame, *provenance: Any
    ) -> dict[str, Any]:
        return super().store_partition(asset_key, partition_key, frame)


def snapshot(site: Site, csv: str) -> None:
    """From now on, the container has this."""
    days = len(site.container.versions(NAME)) if NAME in site.container.names() else 0
    site.container.add_version(NAME, datetime(2026, 2, 1, tzinfo=timezone.utc) + timedelta(days=days), csv)


def run(
    site: Site,
    keys: Sequence[str],
    dataset: FoundryDataset | None = None,
    io_manager: Any = FoundryParquetIOManager,
    *,
    config: Mapping[str, Any] | None = None,
) -> str:
    """Materialize partitions; what the log says of success, or the failure."""
    site.io_manager = io_manager(base_dir=str(site.parquet))
    result = site.run(dataset or slices(), keys, config=config, retry_policy=dg.RetryPolicy(max_retries=2))
    if result.success:
        return "\n".join(record.user_message for record in site.instance.all_logs(result.run_id))
    assert not any(event.is_step_up_for_retry for event in result.all_events)
    return failure_of(result)


def rows(site: Site) -> Mapping[str, int]:
    """Partition → rows."""
    return {key: site.stored(key).height for key in site.stored_keys()}


def recorded(site: Site) -> list[str | None]:
    """The partitions of all materializations."""
    records = site.instance.fetch_materializations(dg.AssetKey(NAME), limit=100).records
    return [record.partition_key for record in records]


def test_slices_from_before_the_snapshot_are_refused_and_the_others_of_the_run_stored(site: Site) -> None:
    snapshot(site, of_days(KEYS[4], KEYS[3], KEYS[4]))
    text = run(site, KEYS)
    assert f"dataset '{NAME}': 3 of 5 partitions failed, the others are stored" in text
    for key in KEYS[:3]:
        assert f"{key}: SliceOutgrownError: slice {key}, window {slices().window(key)}: " in text
    assert text.count(f"the snapshot begins at {KEYS[3]} by 'at', which is after the window's start") == 3
    assert text.count("set complete_history=True on it") == 3
    assert rows(site) == {KEYS[3]: 1, KEYS[4]: 2}
    assert set(site.instance.get_materialized_partitions(dg.AssetKey(NAME))) == set(KEYS[3:])


@pytest.mark.parametrize("io_manager", [FoundryParquetIOManager, PolarsParquetIOManager])
def test_a_stored_slice_stays_when_the_dataset_has_outgrown_it(site: Site, io_manager: Any) -> None:
    snapshot(site, of_days(*KEYS))
    run(site, KEYS[:1], io_manager=io_manager)
    before = site.file(KEYS[0]).read_bytes()
    snapshot(site, of_days(*KEYS[1:]))
    for config in (None, refetch(NAME)):
        text = run(site, KEYS[:1], io_manager=io_manager, config=config)
        assert f"SliceOutgrownError: dataset '{NAME}', slice {KEYS[0]}, window " in text
        assert f"the snapshot begins at {KEYS[1]}" in text
    assert site.file(KEYS[0]).read_bytes() == before
    assert recorded(site) == KEYS[:1]


@pytest.mark.parametrize("io_manager", [FoundryParquetIOManager, PolarsParquetIOManager])
def test_a_dataset_that_keeps_all_its_rows_has_slices_without_any(site: Site, io_manager: Any) -> None:
    snapshot(site, of_days(KEYS[1]))
    run(site, KEYS[:1], slices(complete_history=True), io_manager)
    assert rows(site) == {KEYS[0]: 0}


def test_a_quiet_day_is_a_slice_without_rows(site: Site) -> None:
    snapshot(site, of_days(LONG_AGO))
    run(site, KEYS)
    assert rows(site) == dict.fromkeys(KEYS, 0)


@pytest.mark.parametrize(
    ("io_manager", "say"),
    [
        (FoundryParquetIOManager, "Stored {} rows in place of {} (from"),
        (ForgetfulIOManager, "Stored {} rows in place of {} (from"),
        (PlainIOManager, "Stored {} rows in place of {} (from"),
        (PolarsParquetIOManager, "Cut {} rows in place of {} from"),
    ],
)
def test_a_stored_slice_is_not_replaced_by_one_of_fewer_rows_unless_told_to(
    site: Site, io_manager: Any, say: str
) -> None:
    key = KEYS[0]
    snapshot(site, of_days(LONG_AGO, key, key, key))
    assert "in place of" not in run(site, [key], io_manager=io_manager)
    snapshot(site, of_days(LONG_AGO, key, key))
    text = run(site, [key], io_manager=io_manager)
    assert f"SliceOutgrownError: dataset '{NAME}', slice {key}, window {slices().window(key)}: " in text
    assert "the snapshot has 2 rows of this window, but 3 were stored before" in text
    assert "refetch: true in the run's configuration" in text
    assert rows(site) == {key: 3}
    assert say.format(2, 3) in run(site, [key], io_manager=io_manager, config=refetch(NAME))
    assert rows(site) == {key: 2}
    # As many rows, or more, are what the source says now.
    snapshot(site, of_days(key, LONG_AGO, key))
    assert say.format(2, 2) in run(site, [key], io_manager=io_manager)
    snapshot(site, of_days(LONG_AGO, key, key, key, key))
    assert say.format(4, 2) in run(site, [key], io_manager=io_manager)
    assert rows(site) == {key: 4}


def test_a_slice_of_fewer_rows_does_not_affect_the_others_of_the_run(site: Site) -> None:
    snapshot(site, of_days(LONG_AGO, *KEYS, *KEYS))
    run(site, KEYS[:2])
    snapshot(site, of_days(LONG_AGO, KEYS[0], *KEYS[1:], *KEYS[1:], KEYS[1]))
    text = run(site, KEYS)
    assert "1 of 5 partitions failed, the others are stored" in text
    assert f"{KEYS[0]}: SliceOutgrownError" in text
    assert rows(site) == {KEYS[0]: 2, KEYS[1]: 3, KEYS[2]: 2, KEYS[3]: 2, KEYS[4]: 2}


def test_a_slice_whose_file_is_gone_is_remembered_by_the_event_log(site: Site) -> None:
    snapshot(site, of_days(LONG_AGO, KEYS[0], KEYS[0]))
    run(site, KEYS[:1])
    site.file(KEYS[0]).unlink()
    snapshot(site, of_days(LONG_AGO))
    assert "the snapshot has 0 rows of this window, but 2 were stored before" in run(site, KEYS[:1])
    assert rows(site) == {}


def test_a_slice_of_the_same_snapshot_is_not_judged_again(site: Site) -> None:
    snapshot(site, of_days(KEYS[1]))
    run(site, KEYS[:1], slices(complete_history=True))
    assert "Unchanged" in run(site, KEYS[:1], slices())
    assert sum(site.container.downloads.values()) == 1


@pytest.mark.parametrize("io_manager", [FoundryParquetIOManager, ForgetfulIOManager, PlainIOManager])
def test_slices_of_other_windows_are_not_compared(site: Site, io_manager: Any) -> None:
    weekly = Schedule([{"cycle": "weekly", "day": f"{FIRST:%A}", "time": "00:00:00"}], buffer=timedelta(0))
    weeks = FoundryDataset(NAME, weekly, FIRST, {"id": "Int64", "at": "Date"}, time_column="at")
    snapshot(site, of_days(*KEYS))
    run(site, KEYS[:1], weeks, io_manager)
    assert rows(site) == {KEYS[0]: 5}
    run(site, KEYS[:1], io_manager=io_manager)
    assert rows(site) == {KEYS[0]: 1}
