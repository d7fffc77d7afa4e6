"""The example of two code locations: each in a process of its own, under Dagster's own daemons."""

from __future__ import annotations

import logging
import runpy
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._daemon.asset_daemon import AssetDaemon
from dagster._daemon.sensor import execute_sensor_iteration

from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster_tests.midday import utc_today

EXAMPLE = Path(__file__).parents[1] / "examples" / "downstream"
QUEUE = {"run_coordinator": {"module": "dagster.core.run_coordinator", "class": "QueuedRunCoordinator"}}
PARTITION = "dagster/partition"
OLD = "id,customer,amount,ordered_at\n1,Ada,2.5,2024-01-02 11:30:00\n"
NEW = f"{OLD}2,Grace,4.0,2024-01-04 08:15:00\n"


class Locations:
    """Both locations of the example. The runs that the downstream one requests stay in the queue."""

    def __init__(self, instance: dg.DagsterInstance, workspace: WorkspaceProcessContext) -> None:
        self.instance, self.workspace = instance, workspace
        self.upstream: dg.Definitions = runpy.run_path(str(EXAMPLE / "upstream.py"))["defs"]
        entry = workspace.create_request_context().get_code_location_entries()["downstream"]
        assert entry.code_location, entry.load_error
        (repository,) = entry.code_location.get_repositories().values()
        self.sensors = {sensor.name: sensor for sensor in repository.get_sensors()}
        stop = threading.Event()
        stop.set()  # so that the daemon does not sleep between its iterations
        self.asset_daemon = AssetDaemon({}, 30).core_loop(workspace, stop)

    def materialize(self, *days: object) -> None:
        job = self.upstream.resolve_implicit_global_asset_job_def()
        for day in days:
            assert job.execute_in_process(instance=self.instance, partition_key=str(day)).success

    def execute_requested_runs(self, day: object) -> None:
        """Do what the daemon of the queue does, for one partition, and wait for the runs' processes."""
        runs = self.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED], tags={PARTITION: str(day)}))
        for run in runs:
            self.instance.launch_run(run.run_id, self.workspace.create_request_context())
        deadline = time.time() + 60
        while not all(run.is_finished for run in runs):
            assert time.time() < deadline
            time.sleep(0.2)
            runs = self.instance.get_runs(dg.RunsFilter(tags={PARTITION: str(day)}))
        assert all(run.is_success for run in runs)

    def react(self) -> list[tuple[str, str]]:
        """Let the daemons evaluate each sensor at least once more; return what was requested by that."""
        before = {run.run_id for run in self.instance.get_runs()}
        begin = time.time()
        while not all(self._evaluated(name, begin) for name in ("automation", "on_new_orders")):
            assert time.time() < begin + 30
            for error in execute_sensor_iteration(self.workspace, logging.getLogger("sensor"), None, None) or ():
                assert error is None, error
            for span in self.asset_daemon:
                assert not hasattr(span, "stack"), span
                if span is None:
                    break
            time.sleep(0.1)
        runs = [run for run in self.instance.get_runs() if run.run_id not in before]
        requested = [
            (key.to_user_string(), run.tags[PARTITION])
            for run in runs
            for key in run.asset_selection or [dg.AssetKey(run.job_name.removesuffix("_job"))]
        ]
        return sorted(requested)

    def _evaluated(self, name: str, begin: float) -> bool:
        sensor = self.sensors[name]
        ticks = self.instance.get_ticks(sensor.get_remote_origin_id(), sensor.selector_id, limit=1)
        assert all(tick.error is None for tick in ticks), ticks
        return any(tick.timestamp > begin and tick.status != TickStatus.STARTED for tick in ticks)


@pytest.fixture
def locations(
    sandbox_container: SandboxContainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Locations]:
    monkeypatch.setenv("FDTCC_HOST", sandbox_container.host)
    monkeypatch.setenv("FDTCC_PORT", str(sandbox_container.port))
    monkeypatch.setenv("STORE", str(tmp_path / "store"))
    target = WorkspaceFileTarget([str(EXAMPLE / "workspace.yaml")])
    with (
        dg.instance_for_test(QUEUE) as instance,
        create_test_daemon_workspace_context(target, instance) as workspace,
    ):
        yield Locations(instance, workspace)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_downstream_reacts_to_new_bytes_of_a_partition_and_to_nothing_else(
    locations: Locations, sandbox_container: SandboxContainer, tmp_path: Path
) -> None:
    today = utc_today(seconds=100)
    yesterday = today - timedelta(days=1)
    sandbox_container.set_live("orders", OLD)
    sandbox_container.add_version("orders", datetime.fromisoformat(f"{yesterday}T00:00:01+00:00"), OLD)
    assert locations.react() == []

    # Two partitions between two evaluations: neither is overlooked.
    locations.materialize(today, yesterday)
    both = [(name, str(day)) for name in ("largest_order", "revenue") for day in (yesterday, today)]
    assert locations.react() == both
    locations.execute_requested_runs(yesterday)
    assert pl.read_parquet(tmp_path / "store" / "revenue" / f"{yesterday}.parquet").item() == 2.5

    # The same bytes once more.
    locations.materialize(yesterday)
    assert locations.react() == []

    # New bytes, of one partition.
    sandbox_container.add_version("orders", datetime.fromisoformat(f"{yesterday}T00:00:02+00:00"), NEW)
    locations.materialize(yesterday)
    assert locations.react() == [("largest_order", str(yesterday)), ("revenue", str(yesterday))]
