"""Slices that a dataset has outgrown, in real runs: they are refused, and what is stored stays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster_polars import PolarsParquetIOManager

from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    FoundryParquetIOManager,
    Schedule,
    build_foundry_assets,
)
from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster.storing import StoredPartition

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
        self,
        asset_key: dg.AssetKey,
        partition_key: str,
        frame: pl.LazyFrame,
        provenance: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        return super().store_partition(asset_key, partition_key, frame)


class Site:
    """A container whose versions follow one another, a store, and the runs' logs."""

    def __init__(self, container: SandboxContainer, directory: Path, instance: dg.DagsterInstance) -> None:
        self.container, self.directory, self.instance = container, directory, instance
        self._pulled_at = datetime(2026, 2, 1, tzinfo=timezone.utc)

    def snapshot(self, csv: str) -> None:
        """From now on, the container has this."""
        self._pulled_at += timedelta(days=1)
        self.container.add_version(NAME, self._pulled_at, csv)

    def run(
        self,
        keys: Sequence[str],
        dataset: FoundryDataset | None = None,
        io_manager: Any = FoundryParquetIOManager,
        *,
        refetch: bool = False,
    ) -> str:
        """Materialize partitions; what the log says of success, or the failure."""
        tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
        result = dg.materialize(
            build_foundry_assets([dataset or slices()]),
            resources={
                "foundry_container": FoundryContainerResource(host=self.container.host, port=self.container.port),
                "io_manager": io_manager(base_dir=str(self.directory)),
            },
            instance=self.instance,
            partition_key=keys[0] if len(keys) == 1 else None,
            tags=tags if len(keys) > 1 else None,
            run_config={"ops": {NAME: {"config": {"refetch": refetch}}}},
            raise_on_error=False,
        )
        failures = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
        if result.success:
            return "\n".join(record.user_message for record in self.instance.all_logs(result.run_id))
        assert not any(event.is_step_up_for_retry for event in result.all_events)
        (error,) = failures
        return error.to_string() if error else ""

    def stored(self) -> Mapping[str, int]:
        """Partition → rows."""
        files = sorted((self.directory / NAME).glob("*.parquet"))
        return {file.stem: pl.read_parquet(file).height for file in files}

    def recorded(self) -> list[str | None]:
        """The partitions of all materializations."""
        records = self.instance.fetch_materializations(dg.AssetKey(NAME), limit=100).records
        return [record.partition_key for record in records]


@pytest.fixture
def site(sandbox_container: SandboxContainer, tmp_path: Path) -> Iterator[Site]:
    with dg.instance_for_test() as instance:
        yield Site(sandbox_container, tmp_path, instance)


def test_slices_from_before_the_snapshot_are_refused_and_the_others_of_the_run_stored(site: Site) -> None:
    site.snapshot(of_days(KEYS[4], KEYS[3], KEYS[4]))
    text = site.run(KEYS)
    assert f"dataset '{NAME}': 3 of 5 partitions failed, the others are stored" in text
    for key in KEYS[:3]:
        assert f"{key}: SliceOutgrownError: dataset '{NAME}', slice {key}, window {slices().window(key)}: " in text
    assert text.count(f"the snapshot begins at {KEYS[3]} by 'at', which is after the window's start") == 3
    assert text.count("set complete_history=True on it") == 3
    assert site.stored() == {KEYS[3]: 1, KEYS[4]: 2}
    assert set(site.instance.get_materialized_partitions(dg.AssetKey(NAME))) == set(KEYS[3:])


@pytest.mark.parametrize("io_manager", [FoundryParquetIOManager, PolarsParquetIOManager])
def test_a_stored_slice_stays_when_the_dataset_has_outgrown_it(site: Site, io_manager: Any) -> None:
    site.snapshot(of_days(*KEYS))
    site.run(KEYS[:1], io_manager=io_manager)
    before = (site.directory / NAME / f"{KEYS[0]}.parquet").read_bytes()
    site.snapshot(of_days(*KEYS[1:]))
    for refetch in (False, True):
        text = site.run(KEYS[:1], io_manager=io_manager, refetch=refetch)
        assert f"SliceOutgrownError: dataset '{NAME}', slice {KEYS[0]}, window " in text
        assert f"the snapshot begins at {KEYS[1]}" in text
    assert (site.directory / NAME / f"{KEYS[0]}.parquet").read_bytes() == before
    assert site.recorded() == KEYS[:1]


@pytest.mark.parametrize("io_manager", [FoundryParquetIOManager, PolarsParquetIOManager])
def test_a_dataset_that_keeps_all_its_rows_has_slices_without_any(site: Site, io_manager: Any) -> None:
    site.snapshot(of_days(KEYS[1]))
    site.run(KEYS[:1], slices(complete_history=True), io_manager)
    assert site.stored() == {KEYS[0]: 0}


def test_a_quiet_day_is_a_slice_without_rows(site: Site) -> None:
    site.snapshot(of_days(LONG_AGO))
    site.run(KEYS)
    assert site.stored() == dict.fromkeys(KEYS, 0)


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
    site.snapshot(of_days(LONG_AGO, key, key, key))
    assert "in place of" not in site.run([key], io_manager=io_manager)
    site.snapshot(of_days(LONG_AGO, key, key))
    text = site.run([key], io_manager=io_manager)
    assert f"SliceOutgrownError: dataset '{NAME}', slice {key}, window {slices().window(key)}: " in text
    assert "the snapshot has 2 rows of this window, but 3 were stored before" in text
    assert "refetch: true in the run's configuration" in text
    assert site.stored() == {key: 3}
    assert say.format(2, 3) in site.run([key], io_manager=io_manager, refetch=True)
    assert site.stored() == {key: 2}
    # As many rows, or more, are what the source says now.
    site.snapshot(of_days(key, LONG_AGO, key))
    assert say.format(2, 2) in site.run([key], io_manager=io_manager)
    site.snapshot(of_days(LONG_AGO, key, key, key, key))
    assert say.format(4, 2) in site.run([key], io_manager=io_manager)
    assert site.stored() == {key: 4}


def test_a_slice_of_fewer_rows_does_not_affect_the_others_of_the_run(site: Site) -> None:
    site.snapshot(of_days(LONG_AGO, *KEYS, *KEYS))
    site.run(KEYS[:2])
    site.snapshot(of_days(LONG_AGO, KEYS[0], *KEYS[1:], *KEYS[1:], KEYS[1]))
    text = site.run(KEYS)
    assert "1 of 5 partitions failed, the others are stored" in text
    assert f"{KEYS[0]}: SliceOutgrownError" in text
    assert site.stored() == {KEYS[0]: 2, KEYS[1]: 3, KEYS[2]: 2, KEYS[3]: 2, KEYS[4]: 2}


def test_a_slice_whose_file_is_gone_is_remembered_by_the_event_log(site: Site) -> None:
    site.snapshot(of_days(LONG_AGO, KEYS[0], KEYS[0]))
    site.run(KEYS[:1])
    (site.directory / NAME / f"{KEYS[0]}.parquet").unlink()
    site.snapshot(of_days(LONG_AGO))
    assert "the snapshot has 0 rows of this window, but 2 were stored before" in site.run(KEYS[:1])
    assert site.stored() == {}


def test_a_slice_of_the_same_snapshot_is_not_judged_again(site: Site) -> None:
    site.snapshot(of_days(KEYS[1]))
    site.run(KEYS[:1], slices(complete_history=True))
    assert "Unchanged" in site.run(KEYS[:1], slices())
    assert sum(site.container.downloads.values()) == 1


@pytest.mark.parametrize("io_manager", [FoundryParquetIOManager, ForgetfulIOManager, PlainIOManager])
def test_slices_of_other_windows_are_not_compared(site: Site, io_manager: Any) -> None:
    weekly = Schedule([{"cycle": "weekly", "day": f"{FIRST:%A}", "time": "00:00:00"}], buffer=timedelta(0))
    weeks = FoundryDataset(NAME, weekly, FIRST, {"id": "Int64", "at": "Date"}, time_column="at")
    site.snapshot(of_days(*KEYS))
    site.run(KEYS[:1], weeks, io_manager)
    assert site.stored() == {KEYS[0]: 5}
    site.run(KEYS[:1], io_manager=io_manager)
    assert site.stored() == {KEYS[0]: 1}
