"""Schedules under Dagster's own scheduler, with a code location in a process of its own."""

from __future__ import annotations

import datetime as dt
import logging
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._scheduler.scheduler import launch_scheduled_runs

UTC = dt.timezone.utc

LOCATION = """
import dagster as dg
from fdtcc_dagster import FoundryContainerResource, FoundryDataset, Schedule, build_foundry_assets
from fdtcc_dagster.schedules import build_foundry_schedules

daily = Schedule([{"cycle": "daily", "time": "06:00:00"}])
twice = Schedule([{"cycle": "daily", "time": "06:00:00"}, {"cycle": "daily", "time": "18:00:00"}])
days = dg.DailyPartitionsDefinition("2026-01-01")
datasets = [
    FoundryDataset("orders", daily, "2026-01-01"),
    FoundryDataset("staff", daily, "2026-01-01"),
    FoundryDataset("stock", twice, "2026-01-01"),
    FoundryDataset("sales", partitions_def=days),
]
defs = dg.Definitions(
    assets=build_foundry_assets(datasets),
    schedules=build_foundry_schedules(datasets, shared=True, max_catchup=2),
    resources={"foundry_container": FoundryContainerResource(), "io_manager": dg.fs_io_manager},
)
"""
QUEUE = {"run_coordinator": {"module": "dagster.core.run_coordinator", "class": "QueuedRunCoordinator"}}
LOGGER = logging.getLogger("scheduler")


class Daemon:
    """Dagster's scheduler over a code location in a process of its own; the runs that it requests stay in the queue."""

    def __init__(self, instance: dg.DagsterInstance, workspace: WorkspaceProcessContext) -> None:
        self.instance, self.workspace = instance, workspace
        (entry,) = workspace.create_request_context().get_code_location_entries().values()
        assert entry.code_location, entry.load_error
        (self.repository,) = entry.code_location.get_repositories().values()

    def switch_on(self) -> None:
        for schedule in self.repository.get_schedules():
            self.instance.start_schedule(schedule)

    def wake_up(self, now: dt.datetime) -> set[tuple[str, str]]:
        """Let the scheduler look at the clock once; return what it requested."""
        before = {run.run_id for run in self.instance.get_runs()}
        for error in launch_scheduled_runs(self.workspace, LOGGER, now, {}):
            assert not hasattr(error, "message"), error
        runs = [run for run in self.instance.get_runs() if run.run_id not in before]
        assert all(run.status == dg.DagsterRunStatus.QUEUED for run in runs)
        found = [(run.tags["foundry/asset"], run.tags["dagster/partition"]) for run in runs]
        assert len(set(found)) == len(found)
        return set(found)


@pytest.mark.slow
def test_a_daemon_that_was_down_catches_up(tmp_path: Path) -> None:
    def day(number: int, hour: int = 0) -> dt.datetime:
        return dt.datetime.combine(today, dt.time(hour), UTC) + dt.timedelta(days=number)

    def key(number: int) -> str:
        return day(number).date().isoformat()

    today = dt.datetime.now(UTC).date()
    path = tmp_path / "definitions.py"
    path.write_text(LOCATION)
    location = PythonFileTarget(str(path), None, None, "foundry")
    with (
        dg.instance_for_test(QUEUE) as instance,
        create_test_daemon_workspace_context(location, instance) as workspace,
    ):
        daemon = Daemon(instance, workspace)
        daemon.switch_on()
        # Nothing of the days before somebody switched the schedules on.
        assert {requested for _, requested in daemon.wake_up(day(1, 1))} <= {key(0)}
        assert daemon.wake_up(day(1, 9)) == {(name, key(1)) for name in ("orders", "staff", "stock")}
        assert daemon.wake_up(day(1, 21)) == {("stock", key(1))}

        # Down for three days and a night: Dagster evaluates only the last tick that it missed, and that asks for all.
        assert daemon.wake_up(day(4, 9)) == {
            *((name, key(number)) for name in ("orders", "staff", "stock") for number in (2, 3, 4)),
            *(("sales", key(number)) for number in (1, 2, 3)),
        }
        assert daemon.wake_up(day(4, 10)) == set()

        # After longer downtimes, as many as the schedules may, besides the newest one.
        caught_up = {
            *((name, key(number)) for name in ("orders", "staff", "stock") for number in (28, 29, 30)),
            *(("sales", key(number)) for number in (27, 28, 29)),
        }
        assert daemon.wake_up(day(30, 9)) == caught_up
        assert daemon.wake_up(day(31, 0)) == {("stock", key(30)), ("sales", key(30))}
        run_keys = [run.tags["dagster/run_key"] for run in instance.get_runs()]
        assert len(run_keys) == len(set(run_keys))
