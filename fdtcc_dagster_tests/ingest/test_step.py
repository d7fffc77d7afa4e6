"""Runs of several partitions: stored, recorded and reported one by one."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Sequence
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
from fdtcc_dagster.errors import DatasetRetrievalError
from fdtcc_dagster.ingest import step
from fdtcc_dagster.ingest.pull import PartitionResult
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.site import Site, materializations, step_failure

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


def run(
    site: Site,
    days: Sequence[str],
    *others: dg.AssetsDefinition | dg.AssetChecksDefinition,
    dataset: FoundryDataset = DATASET,
    io_manager: Any = None,
    max_concurrency: int = 4,
    **arguments: Any,
) -> dg.ExecuteInProcessResult:
    """Materialize a range, also one of a single day."""
    site.io_manager = io_manager or site.io_manager
    return site.run(
        dataset, [days[0], *days[1:], days[-1]], *others, client={"max_concurrency": max_concurrency}, **arguments
    )


def stored(site: Site) -> dict[str, int]:
    return {key: site.stored(key)["id"].item() for key in site.stored_keys()}


def files_in(directory: Path) -> int:
    """Count them while directories come and go, which `rglob` does not bear."""
    return sum(len(names) for _, _, names in os.walk(directory))


def watching(site: Site) -> tuple[FoundryParquetIOManager, list[int]]:
    """An IO manager, and how many spool files there were whenever it stored a partition."""
    spooled: list[int] = []

    class Watching(FoundryParquetIOManager):
        def store_partition(self, asset_key: dg.AssetKey, partition_key: str, *arguments: Any) -> dict[str, Any]:
            spooled.append(files_in(site.spool))
            return super().store_partition(asset_key, partition_key, *arguments)

    return Watching(base_dir=str(site.parquet)), spooled


@pytest.fixture
def site(site: Site) -> Site:
    for day in DAYS:
        site.container.add_version(NAME, datetime.fromisoformat(f"{day}T01:00:00+00:00"), csv_of(day))
    return site


@pytest.mark.parametrize("days", [DAYS[:1], DAYS[:2]], ids=["a partition", "several"])
def test_a_store_that_nobody_can_write_to_is_not_tried_again(site: Site, days: list[str]) -> None:
    site.parquet.write_text("no directory")
    result = run(site, days, retry_policy=dg.RetryPolicy(max_retries=2, delay=0))
    assert "NotADirectoryError" in str(step_failure(result).error)
    assert site.container.requests == []  # nor is anything pulled for it


def test_a_range_that_begins_with_the_later_partition_says_so(site: Site) -> None:
    result = site.run(DATASET, [DAYS[3], DAYS[1]])
    said = f"no partition lies between {DAYS[3]} and {DAYS[1]}: a range begins with the earlier one"
    assert said in (step_failure(result).user_failure_data.description or "")


def test_a_range_is_one_run_in_which_each_partition_has_its_own_metadata_and_data_version(site: Site) -> None:
    result = run(site, DAYS)
    assert result.success
    recorded = materializations(result)
    assert sorted(map(str, recorded)) == DAYS
    for day in DAYS:
        event = recorded[day]
        assert event.metadata["foundry/sha256"].value == sha256(day)
        assert event.metadata["foundry/window_from"].value == DATASET.window(day).from_dt.timestamp()
        assert event.metadata["dagster/row_count"].value == 1
        assert event.tags is not None
        assert event.tags["dagster/data_version"] == sha256(day)
    assert stored(site) == {day: int(day.replace("-", "")) for day in DAYS}
    assert site.instance.get_materialized_partitions(KEY) == set(DAYS)


def test_partitions_that_fail_are_named_and_the_others_are_stored_and_recorded(site: Site) -> None:
    with SandboxContainer() as gaps:
        good = [day for day in DAYS if day not in (DAYS[2], DAYS[5])]
        for day in good:
            gaps.add_version(NAME, datetime.fromisoformat(f"{day}T01:00:00+00:00"), csv_of(day))
        # One more is there, and does not fit the schema.
        gaps.add_version(NAME, datetime.fromisoformat(f"{DAYS[5]}T01:00:00+00:00"), "id\nx\n")
        site.container = gaps
        result = run(site, DAYS)
    failure = step_failure(result)
    assert failure.user_failure_data is not None
    text = failure.user_failure_data.description or ""
    assert "2 of 8 partitions failed" in text
    assert f"{DAYS[2]}: NoVersionInWindowError" in text
    assert f"{DAYS[5]}: SchemaMismatchError" in text
    assert failure.user_failure_data.metadata["foundry/failed_partitions"].value == [DAYS[2], DAYS[5]]
    # As a table on the run's page, and as the reason on the page of each partition; the dataset is named once.
    table = str(failure.user_failure_data.metadata["foundry/failures"].value).splitlines()
    assert [line.split(" | ")[:2] for line in table[2:]] == [
        [f"| {DAYS[2]}", "NoVersionInWindowError"],
        [f"| {DAYS[5]}", "SchemaMismatchError"],
    ]
    filters = dg.AssetRecordsFilter(asset_key=KEY, asset_partitions=[DAYS[5]])
    (record, *_) = site.instance.fetch_observations(filters, limit=10).records
    assert record.asset_observation is not None
    assert "Failed: window" in (record.asset_observation.description or "")
    assert "row 1" in (record.asset_observation.description or "")
    assert text.count(NAME) == 1
    assert list(materializations(result)) == good
    assert sorted(stored(site)) == good


def test_another_attempt_pulls_only_what_is_not_recorded_yet(site: Site) -> None:
    # The third conversation loses its connection once; the client itself does not try again here.
    site.container.inject(NAME, faults.ConnectionReset(after=1), skip=2)
    result = run(site, DAYS, retry_policy=NO_WAIT)
    assert result.success
    assert list(materializations(result)) == DAYS
    assert len(site.container.requests) == len(DAYS) + 1


def test_a_failure_that_cannot_pass_is_not_attempted_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "_MOST_CAUSES", 3)
    site.container.inject(NAME, faults.JobFailure(), times=None)
    result = run(site, DAYS, retry_policy=NO_WAIT)
    assert not result.success
    assert len(site.container.requests) == len(DAYS)
    # If many fail, the error has the causes of the first, and counts the others.
    data = step_failure(result).user_failure_data
    assert data is not None
    assert (data.description or "").splitlines()[4:] == ["and 5 more: NoVersionInWindowError x 5"]
    assert data.metadata["foundry/failed_partitions"].value == DAYS


def test_the_failure_of_10_000_partitions_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    days = [str(TODAY - timedelta(days=back)) for back in range(10_000)]
    failures: dict[str, Exception] = {day: DatasetRetrievalError("x" * 5_000) for day in days}
    failures |= dict.fromkeys(days[:10], OSError("no space"))
    failure = step.Step(DATASET, dg.build_asset_context(), FoundryContainerResource(), None, False)._partial_failure(
        10_001, failures
    )
    # Dagster stores it twice.
    description = failure.description or ""
    assert len(description) + sum(len(str(value.value)) for value in failure.metadata.values()) < 75_000
    first, *causes, others = description.splitlines()
    assert first == "dataset 'orders': 10,000 of 10,001 partitions failed, the others are stored:"
    assert len(causes) == 20
    assert causes[0].startswith(f"{days[-1]}: DatasetRetrievalError: xxx")
    assert others == "and 9,980 more: DatasetRetrievalError x 9,970, OSError x 10"


def test_recording_lags_behind_storing_by_a_few_partitions_only(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    days = [(TODAY - timedelta(days=back)).isoformat() for back in range(29, 1, -1)]
    for day in days:
        site.container.add_version(NAME, datetime.fromisoformat(f"{day}T01:00:00+00:00"), csv_of(day))
    recorded, lags = 0, []
    materialization = step.Step._materialization

    def slow(self: step.Step, result: PartitionResult) -> dg.AssetMaterialization:
        nonlocal recorded
        time.sleep(0.02)
        lags.append(len(site.stored_keys()) - recorded)
        recorded += 1
        return materialization(self, result)

    monkeypatch.setattr(step.Step, "_materialization", slow)
    assert run(site, days, max_concurrency=2).success
    # Two at a time, four that wait, and the one that is being recorded.
    assert len(days) == len(lags)
    assert max(lags) <= 2 + 4 + 1


def test_a_failure_that_may_pass_is_attempted_as_often_as_the_policy_says(site: Site) -> None:
    site.container.inject(NAME, faults.ConnectionReset(after=1), times=None)
    result = run(site, DAYS[:2], retry_policy=NO_WAIT)
    assert not result.success
    assert len(site.container.requests) == 3 * 2


def test_a_single_partition_is_retried_by_the_same_rules(site: Site) -> None:
    site.container.inject(NAME, faults.ConnectionReset(after=1), times=2)
    assert run(site, DAYS[:1], retry_policy=NO_WAIT).success
    assert len(site.container.requests) == 3
    site.container.inject(NAME, faults.JobFailure(), times=None)
    assert not run(site, DAYS[:1], retry_policy=NO_WAIT).success
    assert len(site.container.requests) == 4


def test_conversations_follow_one_another_and_the_spool_stays_bounded(site: Site) -> None:
    io_manager, spooled = watching(site)
    assert run(site, DAYS, io_manager=io_manager, max_concurrency=2).success
    assert 1 <= max(spooled) <= 2
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

    result = run(site, DAYS, doubled, looked_at)
    assert result.success
    assert seen == {"keys": DAYS, "check": True}
    assert list(materializations(result, NAME)) == DAYS
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

    result = run(site, DAYS, io_manager=Breaking(base_dir=str(site.parquet)))
    failure = step_failure(result)
    assert f"{DAYS[1]}: RuntimeError: the object store is not itself" in failure.user_failure_data.description
    assert list(materializations(result)) == [day for day in DAYS if day != DAYS[1]]


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
    assert "ca_file is for TLS: set secure=True" in str(step_failure(job).error.to_string())


def test_an_io_manager_that_stores_one_partition_per_run_says_what_to_do(site: Site) -> None:
    plain = PolarsParquetIOManager(base_dir=str(site.parquet))
    failure = step_failure(run(site, DAYS, io_manager=plain))
    assert failure.user_failure_data is not None
    assert "set max_partitions_per_run=1" in (failure.user_failure_data.description or "")
    assert site.container.requests == []
    assert run(site, DAYS[:1], io_manager=plain).success


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
    dataset = FoundryDataset(NAME, DAILY, TODAY - timedelta(days=120), {"id": "Int64"})
    io_manager, spooled = watching(site)
    result = run(site, days, dataset=dataset, io_manager=io_manager, max_concurrency=3)
    assert result.success
    assert sorted(stored(site)) == days
    assert 1 <= max(spooled) <= 3


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("max_concurrency", [1, 4])
def test_a_run_that_is_interrupted_ends_also_while_partitions_wait_to_be_pulled(
    site: Site, max_concurrency: int
) -> None:
    body = "id\n" + "1\n" * 500_000
    for day in DAYS[2:]:
        site.container.add_version("slow", datetime.fromisoformat(f"{day}T01:00:00+00:00"), body)
    site.container.inject("slow", faults.ThrottledBody(bytes_per_second=200_000), times=None)

    def interrupt() -> None:
        while not files_in(site.spool):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    dataset = FoundryDataset("slow", DAILY, TODAY - timedelta(days=30), {"id": "Int64"})
    threading.Thread(target=interrupt, daemon=True).start()
    result = run(site, DAYS[2:], dataset=dataset, max_concurrency=max_concurrency)
    assert not result.success
    assert site.stored_keys() == []
