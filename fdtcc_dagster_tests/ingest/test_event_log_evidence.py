"""What a run learns of a snapshot applies to every later run, on every machine: they share only Dagster's event log."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster_polars import PolarsParquetIOManager

from fdtcc_dagster import (
    FoundryDataset,
    Schedule,
    build_foundry_checks,
)
from fdtcc_dagster.client.directories import STATE_DIRECTORY
from fdtcc_dagster.client.protocol import MissingVersion
from fdtcc_dagster.metadata import values_of
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster.sandbox.fault_hooks import Wire
from fdtcc_dagster_tests.site import Site, failure_of, refetch

NAME, ASSET = "sparse", dg.AssetKey("sparse")
ROWS = 3000
TODAY = datetime.now(timezone.utc).date()
KEY = (TODAY - timedelta(days=2)).isoformat()
START = TODAY - timedelta(days=30)
WEEKLY = Schedule(
    [{"cycle": "weekly", "day": f"{TODAY - timedelta(days=2):%A}", "time": "00:00:00"}], buffer=timedelta(0)
)
SNAPSHOTS = FoundryDataset(NAME, WEEKLY, START, {"id": "Int64", "at": "Date"})
DAILY = Schedule([{"cycle": "daily", "time": "00:00:00"}], buffer=timedelta(0))
SLICES = FoundryDataset(NAME, DAILY, START, {"id": "Int64", "at": "Date"}, time_column="at")
SPARSE = "id,at\n" + "".join(f"{number * 3},{TODAY - timedelta(days=number % 20)}\n" for number in range(1, ROWS + 1))
"""A CSV of which the container's batches lose two thirds of the rows."""
LOST = "announced 3000 rows, but the CSV has"


@pytest.fixture
def sandbox_container() -> Iterator[SandboxContainer]:
    with SandboxContainer(batch_size=1000) as container:
        container.set_live(NAME, SPARSE)
        yield container


def run(
    site: Site,
    dataset: FoundryDataset,
    key: str = KEY,
    *,
    config: Mapping[str, Any] | None = None,
    another_machine: bool = True,
) -> dg.ExecuteInProcessResult:
    """Materialize a partition with its checks; the next run is on a machine that shares Dagster and the store alone."""
    result = site.run(dataset, key, *build_foundry_checks([dataset], freshness_grace=None), config=config)
    if another_machine:
        shutil.rmtree(os.environ[STATE_DIRECTORY])
    return result


def observations(site: Site) -> list[dg.AssetObservation]:
    records = site.instance.fetch_observations(dg.AssetRecordsFilter(asset_key=ASSET), limit=100).records
    found = [record.event_log_entry.asset_observation for record in records]
    # Others say why a partition failed.
    return [each for each in found if each is not None and "foundry/error" not in each.metadata]


def observe_rows(site: Site, sha256: str, *, announced: int, found: int) -> None:
    """Record what another machine has found."""
    metadata: dict[str, Any] = {
        "foundry/sha256": sha256,
        "foundry/announced_rows": announced,
        "foundry/found_rows": found,
    }
    site.instance.report_runless_asset_event(dg.AssetObservation(ASSET, partition=KEY, metadata=metadata))


@pytest.mark.parametrize("dataset", [SNAPSHOTS, SLICES], ids=["snapshot", "slice"])
def test_a_version_that_has_lost_rows_is_refused_by_every_later_run(site: Site, dataset: FoundryDataset) -> None:
    assert LOST in failure_of(run(site, dataset))
    observation, announced = observations(site)
    assert "announced 3000 rows for the snapshot" in str(announced.description)
    assert (observation.asset_key, observation.partition) == (ASSET, KEY)
    metadata = {name: value.value for name, value in observation.metadata.items()}
    lossy = site.container.versions(NAME)[-1][1]
    assert metadata["foundry/sha256"] == lossy
    assert metadata["foundry/announced_rows"] == ROWS
    assert isinstance(found := metadata["foundry/found_rows"], int)
    assert found < ROWS
    # The container answers with its cached version; asked again, it loses the rows again.
    for config in (None, refetch(NAME)):
        requests = len(site.container.requests)
        assert LOST in failure_of(run(site, dataset, config=config))
        assert len(site.container.requests) == requests + 2
    assert list(site.parquet.rglob("*.parquet")) == []
    assert len(observations(site)) == 2
    # As soon as the container keeps all rows, the same run succeeds.
    site.container.set_live(NAME, SPARSE.replace("id,", "key,"))
    columns = {"key": "Int64", "at": "Date"}
    kept = FoundryDataset(NAME, dataset.schedule, START, columns, time_column="at" if dataset.time else None)
    result = run(site, kept)
    assert result.success
    (event,) = result.get_asset_materialization_events()
    recorded = values_of(event.step_materialization_data.materialization)
    assert recorded["foundry/announced_rows"] == ROWS
    assert recorded["foundry/rows_counted"] is True


def test_a_later_pull_in_which_the_rows_are_counted_anew_makes_a_version_good_again(site: Site) -> None:
    site.container.set_live(NAME, "id,at\n1,2026-01-01\n")
    site.container.inject(NAME, faults.AnnouncedRows(2))
    assert "announced 2 rows, but the CSV has 1" in failure_of(run(site, SNAPSHOTS))
    requests = len(site.container.requests)
    assert run(site, SNAPSHOTS).success
    assert len(site.container.requests) == requests + 2
    found = [one for one in observations(site) if "foundry/found_rows" in one.metadata]
    assert [str(one.description).split("which is ")[1] for one in found] == ["good again", "refused from now on"]
    # From now on, what the container has in its cache is as good as any other version.
    assert run(site, SNAPSHOTS).success
    assert len(site.container.requests) == requests + 3


@pytest.mark.parametrize("dataset", [SNAPSHOTS, SLICES], ids=["snapshot", "slice"])
def test_a_run_that_fails_before_the_rows_are_counted_tells_the_next_machine_their_number(
    site: Site, dataset: FoundryDataset
) -> None:
    site.container.inject(NAME, faults.RefusedDownload(500), times=None)
    assert "ServiceUnavailableError" in failure_of(run(site, dataset))
    site.container.clear_faults()
    assert LOST in failure_of(run(site, dataset))
    assert list(site.parquet.rglob("*.parquet")) == []


def test_a_stored_partition_that_is_unchanged_makes_its_version_good_again(site: Site) -> None:
    site.container.set_live(NAME, "id,at\n1,2026-01-01\n")
    assert run(site, SNAPSHOTS).success
    (_, sha256) = site.container.versions(NAME)[-1]
    observe_rows(site, sha256, announced=2, found=1)
    requests = len(site.container.requests)
    for asked in (2, 3):
        assert run(site, SNAPSHOTS).success
        assert len(site.container.requests) == requests + asked


def test_what_another_machine_has_found_out_since_counts_more_than_what_this_one_keeps(site: Site) -> None:
    site.container.set_live(NAME, "id,at\n1,2026-01-01\n")
    site.container.inject(NAME, faults.AnnouncedRows(2))
    assert "announced 2 rows" in failure_of(run(site, SNAPSHOTS, another_machine=False))
    (_, sha256) = site.container.versions(NAME)[-1]
    observe_rows(site, sha256, announced=1, found=1)
    requests = len(site.container.requests)
    assert run(site, SNAPSHOTS).success
    assert len(site.container.requests) == requests + 1


def test_another_io_manager_gets_none_of_it_either(site: Site, tmp_path: Path) -> None:
    site.io_manager = Collecting(base_dir=str(tmp_path / "other"))
    assert LOST in failure_of(run(site, SNAPSHOTS))
    assert len(observations(site)) == 2
    assert LOST in failure_of(run(site, SNAPSHOTS))
    assert list((tmp_path / "other").rglob("*.parquet")) == []


class Collecting(PolarsParquetIOManager):
    """A user's IO manager, which collects a frame and stores it."""

    def sink_df_to_path(self, context: dg.OutputContext, df: pl.LazyFrame, path: Any) -> None:
        self.write_df_to_path(context, df.collect(), path)

    def write_df_to_path(self, context: dg.OutputContext, df: pl.DataFrame, path: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        df.write_parquet(str(path))


@pytest.mark.parametrize("dataset", [SNAPSHOTS, SLICES], ids=["snapshot", "slice"])
def test_the_next_attempt_after_a_lost_connection_knows_the_number(site: Site, dataset: FoundryDataset) -> None:
    """Dagster's own attempt, which may be made on another machine."""
    site.container.inject(NAME, faults.JobRunsOn())
    site.container.inject(NAME, faults.ConnectionReset(after=4))
    assert "ServiceConnectionLostError" in failure_of(run(site, dataset))
    while not site.container.versions(NAME):
        pass
    assert LOST in failure_of(run(site, dataset))
    assert list(site.parquet.rglob("*.parquet")) == []


def test_what_is_stored_settles_a_number_that_was_announced_before(site: Site) -> None:
    site.container.set_live(NAME, "id,at\n1,2026-01-01\n")
    site.container.inject(NAME, faults.ConnectionReset(after=4))
    assert "ServiceConnectionLostError" in failure_of(run(site, SNAPSHOTS))
    site.container.set_live(NAME, "id,at\n1,2026-01-01\n2,2026-01-01\n")
    assert run(site, SNAPSHOTS).success
    site.container.add_version(NAME, datetime.now(timezone.utc), "id,at\n1,2026-01-01\n2,2026-01-01\n3,2026-01-01\n")
    assert run(site, SNAPSHOTS).success
    assert pl.read_parquet(site.parquet / NAME / f"{KEY}.parquet").height == 3


def test_the_check_warns_where_nobody_counted_the_rows(site: Site) -> None:
    site.container.add_version(NAME, datetime.now(timezone.utc) - timedelta(hours=1), "id,at\n1,2026-01-01\n")
    result = run(site, SNAPSHOTS)
    assert result.success
    (event,) = result.get_asset_materialization_events()
    assert event.step_materialization_data.materialization.metadata["foundry/rows_counted"].value is False
    (check,) = [one for one in result.get_asset_check_evaluations() if one.check_name == "foundry_row_count_announced"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "announced no number of rows" in str(check.description)


def test_a_version_that_was_counted_when_it_was_pulled_counts_as_counted_later(site: Site) -> None:
    site.container.set_live(NAME, "id,at\n1,2026-01-01\n")
    for unchanged in (False, True):
        result = run(site, SNAPSHOTS)
        (event,) = result.get_asset_materialization_events()
        metadata = event.step_materialization_data.materialization.metadata
        assert ("foundry/unchanged" in metadata) is unchanged
        assert metadata["foundry/announced_rows"].value == 1
        (check,) = [
            one for one in result.get_asset_check_evaluations() if one.check_name == "foundry_row_count_announced"
        ]
        assert check.passed


@dataclass(frozen=True)
class UntilAfter(faults.ConversationFault):
    """The job goes on only when an instant is over."""

    instant: datetime

    async def after_frame(self, wire: Wire, number: int) -> None:
        while datetime.now(timezone.utc) <= self.instant:
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("missing_version", ["raise", "accept"])
def test_what_is_pulled_into_the_next_window_is_not_stored_unmarked(
    site: Site, missing_version: MissingVersion
) -> None:
    """A live pull that begins within its partition's window, and ends after it."""
    site.container.set_live(NAME, "id,at\n1,2026-01-01\n")
    ends = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(seconds=10)
    site.container.inject(NAME, UntilAfter(ends), times=None)
    daily = Schedule([{"cycle": "daily", "time": f"{ends:%H:%M:%S}"}], buffer=timedelta(0))
    dataset = FoundryDataset(NAME, daily, START, missing_version=missing_version)
    result = run(site, dataset, (ends - timedelta(days=1)).date().isoformat())
    if missing_version == "raise":
        assert "its pull ended only at" in failure_of(result)
        assert list(site.parquet.rglob("*.parquet")) == []
        return
    (event,) = result.get_asset_materialization_events()
    assert event.step_materialization_data.materialization.metadata["foundry/outside_window"].value is True


def test_an_announcement_that_cannot_be_read_is_a_warning_in_the_runs_log(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.container.set_live(NAME, "id,at\n1,2026-01-01\n")
    site.container.inject(NAME, Misspelled())
    result = run(site, SNAPSHOTS)
    assert result.success
    (line,) = [record for record in caplog.records if "looks like an announcement of rows" in record.getMessage()]
    assert line.levelname == "WARNING"


@dataclass(frozen=True)
class Misspelled(faults.ConversationFault):
    """The number of rows is written as a float."""

    def rewrite(self, frame: dict[str, Any]) -> dict[str, Any]:
        return {**frame, "message": frame["message"].replace("all 1 rows", "all 1.0 rows")}
