"""Runs of several partitions: stored, recorded and reported one by one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
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
from fdtcc_dagster.ingest import step
from fdtcc_dagster.sandbox import SandboxContainer, faults

NAME = "orders"
KEY = dg.AssetKey("orders")
DAILY = Schedule([{"cycle": "daily", "time": "00:00:00"}], buffer=timedelta(0))
TODAY = datetime.now(timezone.utc).date()
DAYS = [(TODAY - timedelta(days=back)).isoformat() for back in range(9, 1, -1)]
DATASET = FoundryDataset(NAME, DAILY, TODAY - timedelta(days=30), {"id": "Int64"})
NO_WAIT = dg.RetryPolicy(max_retries=2)


def csv_of(day: str) -> str:
    return f"id\n{int(day.replace('-', ''))}\n"


def sha256(day: str) -> str:
    return hashlib.sha256(csv_of(day).encode()).hexdigest()


class Site:
    """A container with a version for each day, an instance, and the files."""

    def __init__(self, container: SandboxContainer, directory: Path, instance: dg.DagsterInstance) -> None:
        self.container, self.instance = container, instance
        self.parquet, self.spool = directory / "parquet", directory / "spool"
        self.spool.mkdir()

    def run(
        self,
        days: Sequence[str],
        *others: dg.AssetsDefinition | dg.AssetChecksDefinition,
        dataset: FoundryDataset = DATASET,
        io_manager: Any = None,
        max_concurrency: int = 4,
        **arguments: Any,
    ) -> dg.ExecuteInProcessResult:
        resources = {
            "foundry_container": FoundryContainerResource(
                host=self.container.host,
                port=self.container.port,
                spool_directory=str(self.spool),
                max_concurrency=max_concurrency,
                attempts=1,
            ),
            "io_manager": io_manager or FoundryParquetIOManager(base_dir=str(self.parquet)),
        }
        result = dg.materialize(
            [*build_foundry_assets([dataset], **{"retry_policy": None, **arguments}), *others],
            resources=resources,
            instance=self.instance,
            tags={
                "dagster/asset_partition_range_start": days[0],
                "dagster/asset_partition_range_end": days[-1],
            },
            raise_on_error=False,
        )
        assert list(self.spool.iterdir()) == []
        return result

    def recorded(self, result: dg.ExecuteInProcessResult) -> dict[str | None, dg.AssetMaterialization]:
        events = [
            entry.dagster_event.step_materialization_data.materialization
            for entry in self.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
            if entry.dagster_event
        ]
        ours = [event for event in events if event.asset_key == KEY]
        assert len({event.partition for event in ours}) == len(ours), "a partition was recorded twice"
        return {event.partition: event for event in ours}

    def stored(self) -> dict[str, int]:
        return {path.stem: pl.read_parquet(path)["id"].item() for path in sorted(self.parquet.rglob("*.parquet"))}


def files_in(directory: Path) -> int:
    """Count them while directories come and go, which `rglob` does not bear."""
    return sum(len(names) for _, _, names in os.walk(directory))


@pytest.fixture
def site(sandbox_container: SandboxContainer, tmp_path: Path) -> Iterator[Site]:
    for day in DAYS:
        sandbox_container.add_version(NAME, datetime.fromisoformat(f"{day}T01:00:00+00:00"), csv_of(day))
    with dg.instance_for_test() as instance:
        yield Site(sandbox_container, tmp_path, instance)


def failure_of(result: dg.ExecuteInProcessResult) -> Any:
    assert not result.success
    (event,) = [event for event in result.all_events if event.is_step_failure]
    return event.step_failure_data


@pytest.mark.parametrize("days", [DAYS[:1], DAYS[:2]], ids=["a partition", "several"])
def test_a_store_that_nobody_can_write_to_is_not_tried_again(site: Site, days: list[str]) -> None:
    site.parquet.write_text("no directory")
    result = site.run(days, retry_policy=dg.RetryPolicy(max_retries=2, delay=0))
    assert "NotADirectoryError" in str(failure_of(result).error)
    assert site.container.requests == []  # nor is anything pulled for it


def test_a_range_is_one_run_in_which_each_partition_has_its_own_metadata_and_data_version(site: Site) -> None:
    result = site.run(DAYS)
    assert result.success
    recorded = site.recorded(result)
    assert sorted(map(str, recorded)) == DAYS
    for day in DAYS:
        event = recorded[day]
        assert event.metadata["foundry/sha256"].value == sha256(day)
        assert event.metadata["foundry/window_from"].value == DATASET.window(day).from_dt.timestamp()
        assert event.metadata["dagster/partition_row_count"].value == 1
        assert event.tags is not None
        assert event.tags["dagster/data_version"] == sha256(day)
    assert site.stored() == {day: int(day.replace("-", "")) for day in DAYS}
    assert site.instance.get_materialized_partitions(KEY) == set(DAYS)


def test_partitions_that_fail_are_named_and_the_others_are_stored_and_recorded(site: Site) -> None:
    with SandboxContainer() as gaps:
        good = [day for day in DAYS if day not in (DAYS[2], DAYS[5])]
        for day in good:
            gaps.add_version(NAME, datetime.fromisoformat(f"{day}T01:00:00+00:00"), csv_of(day))
        # One more is there, and does not fit the schema.
        gaps.add_version(NAME, datetime.fromisoformat(f"{DAYS[5]}T01:00:00+00:00"), "id\nx\n")
        site.container = gaps
        result = site.run(DAYS)
    failure = failure_of(result)
    assert failure.user_failure_data is not None
    text = failure.user_failure_data.description or ""
    assert "2 of 8 partitions failed" in text
    assert f"{DAYS[2]}: NoVersionInWindowError" in text
    assert f"{DAYS[5]}: SchemaMismatchError" in text
    assert failure.user_failure_data.metadata["foundry/failed_partitions"].value == [DAYS[2], DAYS[5]]
    assert sorted(map(str, site.recorded(result))) == good
    assert sorted(site.stored()) == good


def test_another_attempt_pulls_only_what_is_not_recorded_yet(site: Site) -> None:
    # The third conversation loses its connection once; the client itself does not try again here.
    site.container.inject(NAME, faults.ConnectionReset(after=1), skip=2)
    result = site.run(DAYS, retry_policy=NO_WAIT)
    assert result.success
    assert sorted(map(str, site.recorded(result))) == DAYS
    assert len(site.container.requests) == len(DAYS) + 1


def test_a_failure_that_cannot_pass_is_not_attempted_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "_MOST_CAUSES", 3)
    site.container.inject(NAME, faults.JobFailure(), times=None)
    result = site.run(DAYS, retry_policy=NO_WAIT)
    assert not result.success
    assert len(site.container.requests) == len(DAYS)
    # If many fail, the error has the causes of the first, and the metadata name all.
    data = failure_of(result).user_failure_data
    assert data is not None
    assert (data.description or "").splitlines()[4:] == ["and 5 more: see foundry/failed_partitions"]
    assert data.metadata["foundry/failed_partitions"].value == DAYS


def test_a_failure_that_may_pass_is_attempted_as_often_as_the_policy_says(site: Site) -> None:
    site.container.inject(NAME, faults.ConnectionReset(after=1), times=None)
    result = site.run(DAYS[:2], retry_policy=NO_WAIT)
    assert not result.success
    assert len(site.container.requests) == 3 * 2


def test_a_single_partition_is_retried_by_the_same_rules(site: Site) -> None:
    site.container.inject(NAME, faults.ConnectionReset(after=1), times=2)
    assert site.run(DAYS[:1], retry_policy=NO_WAIT).success
    assert len(site.container.requests) == 3
    site.container.inject(NAME, faults.JobFailure(), times=None)
    assert not site.run(DAYS[:1], retry_policy=NO_WAIT).success
    assert len(site.container.requests) == 4


def test_conversations_follow_one_another_and_the_spool_stays_bounded(site: Site) -> None:
    most = 0

    class Watching(FoundryParquetIOManager):
        def store_partition(self, asset_key: dg.AssetKey, partition_key: str, *arguments: Any) -> dict[str, Any]:
            nonlocal most
            most = max(most, files_in(site.spool))
            return super().store_partition(asset_key, partition_key, *arguments)

    assert site.run(DAYS, io_manager=Watching(base_dir=str(site.parquet)), max_concurrency=2).success
    assert 1 <= most <= 2
    assert site.container.max_conversations == {NAME: 1}


def test_assets_and_blocking_checks_of_the_same_run_follow_a_range(site: Site) -> None:
    seen: dict[str, Any] = {}

    @dg.asset(
        ins={"orders": dg.AssetIn(KEY)},
        partitions_def=DATASET.partitions_def,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def doubled(orders: dict[str, pl.LazyFrame]) -> dict[str, pl.LazyFrame]:
        seen["keys"] = sorted(orders)
        return {key: frame.select(pl.col("id") * 2) for key, frame in orders.items()}

    @dg.asset_check(asset=KEY, blocking=True)
    def looked_at() -> dg.AssetCheckResult:
        seen["check"] = True
        return dg.AssetCheckResult(passed=True)

    result = site.run(DAYS, doubled, looked_at)
    assert result.success
    assert seen == {"keys": DAYS, "check": True}
    assert sorted(map(str, site.recorded(result))) == DAYS
    # The store keeps several partitions of other assets too, from a dict.
    assert pl.read_parquet(site.parquet / "doubled" / f"{DAYS[0]}.parquet")["id"].item() == 2 * int(
        DAYS[0].replace("-", "")
    )


def test_whatever_befalls_one_partition_the_others_are_stored(site: Site) -> None:
    class Breaking(FoundryParquetIOManager):
        def store_partition(self, asset_key: dg.AssetKey, partition_key: str, *arguments: Any) -> dict[str, Any]:
            if partition_key == DAYS[1]:
                raise RuntimeError("the object store is not itself")
            return super().store_partition(asset_key, partition_key, *arguments)

    result = site.run(DAYS, io_manager=Breaking(base_dir=str(site.parquet)))
    failure = failure_of(result)
    assert f"{DAYS[1]}: RuntimeError: the object store is not itself" in failure.user_failure_data.description
    assert sorted(map(str, site.recorded(result))) == [day for day in DAYS if day != DAYS[1]]


def test_a_misconfigured_client_is_not_attempted_again(site: Site) -> None:
    job = dg.materialize(
        build_foundry_assets([DATASET], retry_policy=dg.RetryPolicy(max_retries=2, delay=60)),
        resources={
            "foundry_container": FoundryContainerResource(ca_file="ca.pem"),
            "io_manager": FoundryParquetIOManager(base_dir=str(site.parquet)),
        },
        instance=site.instance,
        partition_key=DAYS[0],
        raise_on_error=False,
    )
    assert "ca_file is for TLS: set secure=True" in str(failure_of(job).error.to_string())


def test_an_io_manager_that_stores_one_partition_per_run_says_what_to_do(site: Site) -> None:
    plain = PolarsParquetIOManager(base_dir=str(site.parquet))
    failure = failure_of(site.run(DAYS, io_manager=plain))
    assert failure.user_failure_data is not None
    assert "set max_partitions_per_run=1" in (failure.user_failure_data.description or "")
    assert site.container.requests == []
    assert site.run(DAYS[:1], io_manager=plain).success


def test_the_backfill_policy_and_the_pool_are_as_asked_for() -> None:
    (single,) = build_foundry_assets([DATASET])
    assert single.backfill_policy == dg.BackfillPolicy.single_run()
    (several,) = build_foundry_assets([DATASET], max_partitions_per_run=5, pool="foundry")
    assert several.backfill_policy == dg.BackfillPolicy.multi_run(5)
    assert several.op.pool == "foundry"
    with pytest.raises(ValueError, match="max_partitions_per_run"):
        build_foundry_assets([DATASET], max_partitions_per_run=0)


def test_the_spool_of_a_long_backfill_of_small_partitions_stays_bounded(site: Site) -> None:
    days = [(TODAY - timedelta(days=back)).isoformat() for back in range(39, 9, -1)]
    for day in days:
        site.container.add_version(NAME, datetime.fromisoformat(f"{day}T01:00:00+00:00"), csv_of(day))
    most = 0

    class Watching(FoundryParquetIOManager):
        def store_partition(self, asset_key: dg.AssetKey, partition_key: str, *arguments: Any) -> dict[str, Any]:
            nonlocal most
            most = max(most, files_in(site.spool))
            return super().store_partition(asset_key, partition_key, *arguments)

    dataset = FoundryDataset(NAME, DAILY, TODAY - timedelta(days=120), {"id": "Int64"})
    result = site.run(days, dataset=dataset, io_manager=Watching(base_dir=str(site.parquet)), max_concurrency=3)
    assert result.success
    assert sorted(site.stored()) == days
    assert 1 <= most <= 3
