"""Assets beside a calendar that no cron can express: what runs load, conditions request, and the daemon backfills."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.events import DagsterEvent, DagsterEventType, StepMaterializationData
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.backfill import execute_backfill_iteration

from fdtcc_dagster import FoundryParquetIOManager, RefreshPartitionMapping
from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster_tests.calendar.test_partition_mapping import NOW, calendar
from fdtcc_dagster_tests.real_instance import wait_until

LOCATION = """
import datetime as dt
import os
import dagster as dg
from fdtcc_dagster import (
    FoundryContainerResource, FoundryDataset, RefreshPartitionMapping, Schedule, build_foundry_definitions
)
from fdtcc_dagster_tests.calendar.test_partition_mapping import calendar

snapshots, daily = calendar("second-to-last day"), dg.DailyPartitionsDefinition("2024-01-01")

def asset(name, partitions_def, *upstream):
    deps = [
        dg.AssetDep(each.key, partition_mapping=RefreshPartitionMapping(each.partitions_def, partitions_def))
        for each in upstream
    ]
    @dg.asset(name=name, partitions_def=partitions_def, deps=deps)
    def made():
        pass
    return made

rates = asset("rates", daily)
monthly_report = asset("monthly_report", snapshots, rates)
orders = asset("orders", snapshots)
daily_report = asset("daily_report", daily, orders)
own = [rates, monthly_report, orders, daily_report]

schedule = Schedule([{"cycle": "monthly", "day": -2, "time": "01:00:00"}])
dataset = FoundryDataset("foundry_orders", schedule, "2024-01-01", {"id": "Int64"})
container = FoundryContainerResource(host="127.0.0.1", port=int(os.environ["ORDERS_PORT"]), attempts=1)
mapping = RefreshPartitionMapping(dataset.partitions_def, daily)

@dg.asset(partitions_def=daily, deps=["foundry_orders"])
def inferred():
    pass

@dg.asset(partitions_def=daily, deps=[dg.AssetDep("foundry_orders", partition_mapping=mapping)])
def named():
    pass

defs = dg.Definitions.merge(
    build_foundry_definitions([dataset], resource=container, retry_policy=None), dg.Definitions([*own, inferred, named])
)
"""
CONDITION = dg.AutomationCondition
EAGER_ABOUT_HISTORY = (  # `eager()` but for its look at the latest time window, which 1.12 cannot leave out
    (CONDITION.newly_missing() | CONDITION.any_deps_updated()).since_last_handled()
    & ~CONDITION.any_deps_missing()
    & ~CONDITION.any_deps_in_progress()
    & ~CONDITION.in_progress()
)
SNAPSHOTS, DAILY = calendar("second-to-last day"), dg.DailyPartitionsDefinition("2024-01-01")
KEY, NEXT_KEY = "2024-06-29", "2024-07-30"
DAYS = [str(dt.date(2024, 6, 29) + dt.timedelta(days=day)) for day in range(31)]


@pytest.mark.parametrize("named", [False, True], ids=["inferred", "named"])
def test_a_run_loads_every_partition_of_its_window(tmp_path: Path, named: bool) -> None:
    """A monthly snapshot loads all its days; a day loads the snapshot that covers it."""

    def asset_in(upstream: Any, downstream: Any) -> dg.AssetIn:
        return dg.AssetIn(partition_mapping=RefreshPartitionMapping(upstream, downstream) if named else None)

    @dg.asset(partitions_def=DAILY)
    def rates() -> None: ...

    @dg.asset(partitions_def=SNAPSHOTS, ins={"rates": asset_in(DAILY, SNAPSHOTS)})
    def report(rates: dict[str, pl.DataFrame]) -> pl.DataFrame:
        return pl.concat(rates.values())

    @dg.asset(partitions_def=DAILY, ins={"report": asset_in(SNAPSHOTS, DAILY)})
    def daily_report(report: pl.DataFrame) -> pl.DataFrame:
        return report.select(pl.len().alias("days"))

    (tmp_path / "rates").mkdir()
    for number, day in enumerate(["2024-06-28", *DAYS, NEXT_KEY]):
        pl.DataFrame({"number": [number]}).write_parquet(tmp_path / "rates" / f"{day}.parquet")
    with dg.DagsterInstance.ephemeral() as instance:
        for asset, key, others in ((report, KEY, [rates]), (daily_report, DAYS[13], [rates, report])):
            run = dg.materialize(
                [asset, *others],
                selection=[asset],
                partition_key=key,
                instance=instance,
                resources={"io_manager": FoundryParquetIOManager(base_dir=str(tmp_path))},
            )
            assert run.success
    assert pl.read_parquet(tmp_path / "report" / f"{KEY}.parquet")["number"].to_list() == [*range(1, 32)]
    assert pl.read_parquet(tmp_path / "daily_report" / f"{DAYS[13]}.parquet")["days"].to_list() == [31]


@pytest.mark.parametrize("named", [False, True], ids=["inferred", "named"])
@pytest.mark.parametrize(
    "condition", [dg.AutomationCondition.any_deps_updated(), EAGER_ABOUT_HISTORY], ids=["any_deps_updated", "eager"]
)
def test_conditions_request_all_days_of_an_updated_snapshot(condition: Any, named: bool) -> None:
    mapping = RefreshPartitionMapping(SNAPSHOTS, DAILY) if named else None
    condition = (
        condition.without(dg.AutomationCondition.in_latest_time_window()) if "eager" in str(condition) else condition
    )

    @dg.asset(partitions_def=SNAPSHOTS)
    def orders() -> None: ...

    @dg.asset(
        partitions_def=DAILY, deps=[dg.AssetDep(orders, partition_mapping=mapping)], automation_condition=condition
    )
    def report() -> None: ...

    defs = dg.Definitions([orders, report])
    with dg.DagsterInstance.ephemeral() as instance:
        first = dg.evaluate_automation_conditions(defs, instance, evaluation_time=NOW)
        instance.report_runless_asset_event(dg.AssetMaterialization("orders", partition=KEY))
        second = dg.evaluate_automation_conditions(
            defs, instance, evaluation_time=NOW + dt.timedelta(seconds=30), cursor=first.cursor
        )
        assert second.get_requested_partitions(dg.AssetKey("report")) == set(DAYS)


@pytest.mark.parametrize(
    ("days", "expected"),
    [(1, set()), (31, {"2025-02-27"}), (32, {"2025-02-27"}), (61, {"2025-02-27", "2025-01-30"})],
)
def test_the_latest_time_window_looks_back_from_the_next_refresh(days: int, expected: set[str]) -> None:
    """As for calendars that cron can express: the latest window is that of the newest key, which ends on 2025-03-30."""
    condition = dg.AutomationCondition.in_latest_time_window(dt.timedelta(days=days))

    @dg.asset(partitions_def=SNAPSHOTS, automation_condition=condition)
    def orders() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.evaluate_automation_conditions(dg.Definitions([orders]), instance, evaluation_time=NOW)
        assert result.get_requested_partitions(dg.AssetKey("orders")) == expected


class Daemon:
    """Dagster's daemon of backfills, beside a code location in another process; runs stay in the queue."""

    def __init__(self, instance: dg.DagsterInstance, workspace: WorkspaceProcessContext) -> None:
        self.instance, self.workspace = instance, workspace

    def begin(self, **targets: list[str]) -> None:
        graph = self.workspace.create_request_context().asset_graph
        subsets = {}
        for key, keys in ((dg.AssetKey(name), keys) for name, keys in targets.items()):
            partitions_def = graph.get(key).partitions_def
            assert partitions_def is not None
            subsets[key] = partitions_def.subset_with_partition_keys(keys)
        self.instance.add_backfill(
            PartitionBackfill.from_asset_graph_subset(
                backfill_id="backfill",
                backfill_timestamp=NOW.timestamp(),
                tags={},
                dynamic_partitions_store=self.instance,
                asset_graph_subset=AssetGraphSubset(subsets, set()),  # type: ignore[call-arg]  # it has a default
                title=None,
                description=None,
                run_config=None,
            )
        )

    def iterate(self) -> None:
        for error in execute_backfill_iteration(self.workspace, logging.getLogger("backfill")):
            assert error is None, error

    def requested(self) -> list[tuple[str, str]]:
        """What an iteration of the daemon requests."""
        before = {run.run_id for run in self.instance.get_runs()}
        self.iterate()
        runs = [run for run in self.instance.get_runs() if run.run_id not in before]
        found = [(key, run.tags["dagster/partition"]) for run in runs for key in run.asset_selection or ()]
        return sorted((key.to_user_string(), day) for key, day in found)

    def materialize(self, name: str, *days: str) -> None:
        """Let the requested runs of some partitions materialize them."""
        for day in days:
            (run,) = self.instance.get_runs(dg.RunsFilter(tags={"dagster/partition": day}))
            made = StepMaterializationData(dg.AssetMaterialization(name, partition=day))
            event = DagsterEvent(DagsterEventType.ASSET_MATERIALIZATION.value, run.job_name, event_specific_data=made)
            self.instance.report_dagster_event(event, run.run_id)


@pytest.fixture
def daemon(tmp_path: Path, sandbox_container: SandboxContainer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    # Before the code location's process begins.
    monkeypatch.setenv("ORDERS_PORT", str(sandbox_container.port))
    file = tmp_path / "location.py"
    file.write_text(LOCATION, encoding="utf-8")
    queue = {"run_coordinator": {"module": "dagster.core.run_coordinator", "class": "QueuedRunCoordinator"}}
    target = PythonFileTarget(str(file), attribute=None, working_directory=None, location_name="location")
    with (
        dg.instance_for_test(queue) as instance,
        create_test_daemon_workspace_context(target, instance) as workspace,
    ):
        yield Daemon(instance, workspace)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_backfill_waits_for_all_days_of_a_snapshot(daemon: Daemon) -> None:
    daemon.begin(rates=DAYS[:5], monthly_report=[KEY])
    assert daemon.requested() == [("rates", day) for day in DAYS[:5]]
    daemon.materialize("rates", *DAYS[:4])
    assert daemon.requested() == []
    daemon.materialize("rates", DAYS[4])
    assert daemon.requested() == [("monthly_report", KEY)]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_backfill_requests_all_days_of_a_snapshot(daemon: Daemon) -> None:
    daemon.begin(orders=[KEY], daily_report=DAYS[-5:])
    assert daemon.requested() == [("orders", KEY)]
    daemon.materialize("orders", KEY)
    assert daemon.requested() == [("daily_report", day) for day in DAYS[-5:]]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_run_stores_its_partition_and_fails_for_assets_that_the_daemon_maps_wrongly(
    daemon: Daemon, sandbox_container: SandboxContainer
) -> None:
    pulled_at = dt.datetime.fromisoformat(f"{KEY}T12:00:00+00:00")
    sandbox_container.add_version("foundry_orders", pulled_at, "id\n1\n")
    daemon.begin(foundry_orders=[KEY])
    daemon.iterate()
    (run,) = daemon.instance.get_runs()
    daemon.instance.launch_run(run.run_id, daemon.workspace.create_request_context())
    wait_until(lambda: daemon.instance.get_runs()[0].is_finished, 120, what="the end of the run")
    assert daemon.instance.get_runs()[0].status == dg.DagsterRunStatus.FAILURE
    assert daemon.instance.get_materialized_partitions(dg.AssetKey("foundry_orders")) == {KEY}
    failures = daemon.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    (event,) = [log.dagster_event for log in failures if log.dagster_event]
    text = str(event.step_failure_data.user_failure_data)
    assert "are stored, but inferred: downstream of foundry_orders" in text
    assert "Name a RefreshPartitionMapping" in text
