"""The sensor against a real instance, a real container, and the real sensor daemon."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.sensor import execute_sensor_iteration
from sqlalchemy import event
from sqlalchemy.engine import Engine

from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    FoundryParquetIOManager,
    Schedule,
    build_foundry_assets,
    build_foundry_schedules,
)
from fdtcc_dagster.declaration import declaration_of
from fdtcc_dagster.due import newest_due
from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster.sensors import build_foundry_sensor
from fdtcc_dagster_tests.midday import NOW, TODAY, ZONE, midnight

UTC = dt.timezone.utc
# At midnight and without a buffer, so that a key's data are available from the moment it exists.
DAILY = Schedule([{"cycle": "daily", "time": "00:00:00"}], dt.timedelta(0), ZONE)
ORDERS = dg.AssetKey("orders")


def day(number: int) -> str:
    return (TODAY + dt.timedelta(days=number)).isoformat()


def dataset(name: str = "orders", schedule: Schedule = DAILY, first: int = -1500) -> FoundryDataset:
    return FoundryDataset(name, schedule, day(first))


class Watched:
    """Some datasets with their sensor, in an instance of their own."""

    def __init__(self, instance: dg.DagsterInstance, datasets: Sequence[FoundryDataset], **arguments: Any) -> None:
        self.instance, self.datasets = instance, datasets
        self.sensor = build_foundry_sensor(datasets, **arguments)
        self.repository = dg.Definitions(
            assets=build_foundry_assets(datasets),
            schedules=build_foundry_schedules(datasets),
            sensors=[self.sensor],
            resources={"foundry_container": FoundryContainerResource()},
        ).get_repository_def()

    def evaluate(self) -> list[tuple[str, str | None]]:
        """The assets and partitions that the sensor requests."""
        requests = self.requests()
        return [(key.to_user_string(), each.partition_key) for each in requests for key in each.asset_selection or ()]

    def requests(self) -> list[dg.RunRequest]:
        return list(self._tick().run_requests or ())

    def skips(self) -> str:
        """Why the sensor requests nothing."""
        tick = self._tick()
        assert not tick.run_requests
        return str(tick.skip_message)

    def _tick(self) -> dg.SensorExecutionData:
        with dg.build_sensor_context(self.instance, repository_def=self.repository) as context:
            return self.sensor.evaluate_tick(context)

    def run(
        self, status: dg.DagsterRunStatus, tags: dict[str, str], assets: Sequence[dg.AssetKey] | None = None
    ) -> None:
        self.instance.create_run_for_job(
            self.repository.get_implicit_global_asset_job_def(),
            status=status,
            tags=tags,
            asset_selection=None if assets is None else frozenset(assets),
        )


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


def materialize(
    instance: dg.DagsterInstance, key: str, window_to: dt.datetime | None = None, asset: dg.AssetKey = ORDERS
) -> None:
    metadata = {} if window_to is None else {"foundry/window_to": dg.MetadataValue.timestamp(window_to)}
    instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=key, metadata=metadata))


@contextmanager
def counted_queries() -> Iterator[list[str]]:
    """The queries to any database."""
    seen: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_available_refreshes_without_a_materialization_are_requested(instance: dg.DagsterInstance) -> None:
    watched = Watched(instance, [dataset()], lookback=3)
    materialize(instance, day(-1))
    assert watched.evaluate() == [("orders", day(0)), ("orders", day(-2))]
    assert watched.requests()[0].run_key == f"orders:{day(0)}:{midnight(TODAY).astimezone(UTC).isoformat()}"
    materialize(instance, day(0))
    materialize(instance, day(-2))
    assert watched.skips().startswith(
        "All partitions that are due are there, or have been requested; the next refresh, of 'orders', becomes "
        f"available at {midnight(day(1)).isoformat()}"
    )


def test_before_the_start_no_partition_is_announced(instance: dg.DagsterInstance) -> None:
    skipped = Watched(instance, [dataset(first=3)]).skips()
    assert f"becomes available at {midnight(day(3)).isoformat()}" in skipped


def test_how_far_it_looks_back_is_the_users_choice(instance: dg.DagsterInstance) -> None:
    assert Watched(instance, [dataset()], lookback=1).evaluate() == [("orders", day(0))]
    assert len(Watched(instance, [dataset()], lookback=7).evaluate()) == 7
    assert Watched(instance, [dataset(first=-1)], lookback=7).evaluate() == [("orders", day(0)), ("orders", day(-1))]


def test_a_second_refresh_on_a_date_is_requested_although_the_key_is_there(instance: dg.DagsterInstance) -> None:
    second = midnight(TODAY) + dt.timedelta(hours=3)
    twice = Schedule([*DAILY.refreshs, {"cycle": "daily", "time": "03:00:00"}], dt.timedelta(0), ZONE)
    watched = Watched(instance, [dataset(schedule=twice)], lookback=1)
    # Recorded after the second refresh, but of a run that had begun before.
    materialize(instance, day(0), window_to=second)
    (request,) = watched.requests()
    assert (request.partition_key, request.run_key) == (day(0), f"orders:{day(0)}:{second.astimezone(UTC).isoformat()}")
    materialize(instance, day(0), window_to=midnight(TODAY) + dt.timedelta(days=1))
    assert "are there" in watched.skips()


def test_a_snapshot_whose_window_is_over_is_not_requested_but_a_slice_is(instance: dg.DagsterInstance) -> None:
    watched = Watched(instance, [dataset(), dataset("staff", first=0)])
    assert watched.evaluate() == [("orders", day(0)), ("staff", day(0))]
    for name in ("orders", "staff"):
        materialize(instance, day(0), asset=dg.AssetKey(name))
    assert watched.skips().startswith(
        "All partitions that are due are there, or have been requested, but for 2 snapshots whose window is over; "
    )
    instance.wipe_assets([dg.AssetKey("orders")])
    # Any later snapshot has its rows.
    slices = FoundryDataset("orders", DAILY, day(-9), time_column="at")
    assert Watched(instance, [slices]).evaluate() == [("orders", day(number)) for number in (-1, -2, -3)]
    accepting = FoundryDataset("orders", DAILY, day(-9), missing_version="accept")
    assert len(Watched(instance, [accepting]).evaluate()) == 3
    # The container has a version of one that was stored for another declaration.
    store_as(instance, dataset(), -2)
    renamed = FoundryDataset("orders", DAILY, day(-9), {"id": "Int64"})
    assert Watched(instance, [renamed], redeclared=True).evaluate() == [("orders", day(0)), ("orders", day(-2))]


@pytest.mark.parametrize("lookback", [1, None])
def test_nothing_is_requested_between_a_refresh_and_the_end_of_its_buffer(
    instance: dg.DagsterInstance, lookback: int | None
) -> None:
    # It is between six and eighteen: today's refresh is not available, and yesterday's cannot be pulled any more.
    evening = Schedule(DAILY.refreshs, dt.timedelta(hours=20), ZONE)
    skipped = Watched(instance, [dataset(schedule=evening)], lookback=lookback).skips()
    assert f"becomes available at {(midnight(TODAY) + dt.timedelta(hours=20)).isoformat()}" in skipped
    past = [("orders", day(-1)), ("orders", day(-2))]
    assert Watched(instance, [dataset(schedule=evening)], lookback=2).evaluate() == past
    # A window that would be empty reaches to the next availability, and lasts.
    longer = Schedule(DAILY.refreshs, dt.timedelta(hours=24), ZONE)
    assert Watched(instance, [dataset(schedule=longer)], lookback=lookback).evaluate() == [("orders", day(-1))]


def test_what_was_requested_before_is_not_requested_again_whatever_became_of_it(instance: dg.DagsterInstance) -> None:
    watched = Watched(instance, [dataset()], lookback=1)
    (schedule,) = build_foundry_schedules(watched.datasets)
    with dg.build_schedule_context(instance, midnight(TODAY), repository_def=watched.repository) as context:
        (request,) = schedule.evaluate_tick(context).run_requests or ()
    assert request.run_key is not None
    watched.run(dg.DagsterRunStatus.FAILURE, {**request.tags, "dagster/run_key": request.run_key})
    assert "have been requested" in watched.skips()


def test_the_same_dataset_of_another_code_location_does_not_count(instance: dg.DagsterInstance) -> None:
    watched = Watched(instance, [dataset()], lookback=1)
    (due,) = newest_due(watched.datasets[0], NOW, 1)
    other = due.request(dg.AssetKey(["elsewhere", "orders"]))
    watched.run(dg.DagsterRunStatus.SUCCESS, {**other.tags, "dagster/run_key": due.run_key})
    assert watched.evaluate() == [("orders", day(0))]


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED])
def test_what_a_run_is_working_on_is_not_requested(instance: dg.DagsterInstance, status: dg.DagsterRunStatus) -> None:
    watched = Watched(instance, [dataset(), dataset("staff")], lookback=3)
    watched.run(status, {"dagster/partition": day(0)}, [ORDERS])
    first, last = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
    watched.run(status, {first: day(-9), last: day(-1)}, [dg.AssetKey("staff")])
    assert watched.evaluate() == [("staff", day(0)), ("orders", day(-1)), ("orders", day(-2))]
    watched.run(status, {first: day(-9), last: day(0)})  # a job that materializes everything
    assert watched.skips() == "Runs are working on all that is missing: 6 partitions."


def test_other_peoples_partitions_do_not_disturb(instance: dg.DagsterInstance) -> None:
    watched = Watched(instance, [dataset(), dataset("staff")], lookback=1)

    @dg.job(partitions_def=dg.StaticPartitionsDefinition(["europe"]))
    def regions() -> None: ...

    instance.create_run_for_job(regions, status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": "europe"})
    watched.run(dg.DagsterRunStatus.STARTED, {"dagster/partition": day(0)}, [dg.AssetKey("staff")])
    assert watched.evaluate() == [("orders", day(0))]


def test_a_few_queries_are_enough_for_many_datasets(instance: dg.DagsterInstance) -> None:
    def queries(count: int, *, stored: int) -> tuple[int, int]:
        """How many there are at a first evaluation, and at the next one."""
        names = [f"of_{count}_{stored}_{number}" for number in range(count)]
        for name in names[:stored]:
            materialize(instance, day(0), asset=dg.AssetKey(name))
        watched = Watched(instance, [dataset(name) for name in names], lookback=3, max_runs=1000)
        found = []
        for _ in range(2):
            with counted_queries() as seen:
                assert len(watched.evaluate()) == 3 * count - stored
            found.append(len(seen))
        return found[0], found[1]

    # Of a dataset of which nothing is stored, nothing is read; of another one, by two queries, what is new.
    few = queries(1, stored=0)
    assert queries(40, stored=0) == few
    first, second = queries(40, stored=10)
    assert (first - 2 * 10, second) == few


def test_what_the_sensor_remembers_is_of_one_instance_and_one_moment(instance: dg.DagsterInstance) -> None:
    watched = Watched(instance, [dataset()], lookback=2)
    materialize(instance, day(0))
    assert watched.evaluate() == watched.evaluate() == [("orders", day(-1))]
    materialize(instance, day(-1))
    assert watched.evaluate() == []
    with dg.instance_for_test() as watched.instance:
        assert watched.evaluate() == [("orders", day(0)), ("orders", day(-1))]
        # With the same storage id as in the other instance.
        materialize(watched.instance, day(-1))
        assert watched.evaluate() == [("orders", day(0))]
        materialize(watched.instance, day(-1))
        assert watched.evaluate() == [("orders", day(0))]


def test_own_partitions_are_watched_too(instance: dg.DagsterInstance) -> None:
    days = dg.DailyPartitionsDefinition(day(-30), end_offset=1, timezone=ZONE)
    watched = Watched(instance, [FoundryDataset("orders", partitions_def=days)])
    materialize(instance, day(-1))
    newest, oldest = watched.requests()
    assert (newest.run_key, oldest.run_key) == (f"orders:{day(0)}", f"orders:{day(-2)}")
    materialize(instance, day(-2))
    materialize(instance, day(0))
    assert watched.skips() == "All partitions that are due are there, or have been requested."


@pytest.mark.parametrize("arguments", [{"lookback": 0}, {"max_runs": 0}])
def test_limits_are_positive(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is not allowed; give a whole number of at least 1"):
        build_foundry_sensor([dataset()], **arguments)


def test_a_sensor_needs_a_dataset() -> None:
    with pytest.raises(ValueError, match="needs at least one dataset"):
        build_foundry_sensor([])


def test_a_requested_run_brings_what_was_missing(
    instance: dg.DagsterInstance, sandbox_container: SandboxContainer, tmp_path: Path
) -> None:
    sandbox_container.set_live("orders", "id\n1\n")
    datasets = [dataset()]
    watched = Watched(instance, datasets, lookback=2)
    requests = watched.requests()
    assert [request.partition_key for request in requests] == [day(0), day(-1)]
    resource = FoundryContainerResource(host=sandbox_container.host, port=sandbox_container.port, attempts=1)
    definitions = dg.Definitions(
        assets=build_foundry_assets(datasets),
        resources={"foundry_container": resource, "io_manager": FoundryParquetIOManager(base_dir=str(tmp_path))},
    )
    results = [
        definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            partition_key=request.partition_key,
            tags={**request.tags, "dagster/run_key": str(request.run_key)},
            raise_on_error=False,
        )
        for request in requests
    ]
    # Nobody pulled yesterday's refresh yesterday: it cannot be had, and is not asked for again.
    assert [result.success for result in results] == [True, False]
    assert "are there, or have been requested" in watched.skips()


def store_as(instance: dg.DagsterInstance, of: FoundryDataset, *days: int) -> None:
    """Record partitions as a run of some declaration would do."""
    for number in days:
        window = of.window(day(number))
        metadata = {
            **declaration_of(of).metadata(),
            "foundry/window_from": dg.MetadataValue.timestamp(window.from_dt),
            "foundry/window_to": dg.MetadataValue.timestamp(window.to_dt),
        }
        instance.report_runless_asset_event(dg.AssetMaterialization(ORDERS, partition=day(number), metadata=metadata))


def test_partitions_of_another_declaration_count_as_missing_if_that_is_wanted(instance: dg.DagsterInstance) -> None:
    later = dataset(schedule=Schedule([{"cycle": "daily", "time": "03:00:00"}], dt.timedelta(0), ZONE))
    store_as(instance, dataset(), -2, -1, 0)
    store_as(instance, later, -1)
    assert "are there" in Watched(instance, [later]).skips()
    assert "are there" in Watched(instance, [dataset()], lookback=1, redeclared=True).skips()
    watched = Watched(instance, [later], redeclared=True)
    newest, oldest = watched.requests()
    assert (newest.partition_key, oldest.partition_key) == (day(0), day(-2))
    (due,) = newest_due(later, NOW, 1)
    assert newest.run_key == f"{due.run_key}:{declaration_of(later).digest}"
    # What is missing altogether has the run key that schedules give it, too.
    assert len(Watched(instance, [later], redeclared=True, lookback=4).requests()) == 3
    assert Watched(instance, [later], redeclared=True, lookback=4).requests()[2].run_key == (
        newest_due(later, NOW, 4)[-1].run_key
    )


def test_a_partition_is_requested_once_for_each_declaration(instance: dg.DagsterInstance) -> None:
    first, second, third = (
        FoundryDataset("orders", DAILY, day(-9), {"id": dtype}) for dtype in ("Int64", "String", "Float64")
    )
    store_as(instance, first, 0)
    # By the schedule, under the first declaration.
    (due,) = newest_due(first, NOW, 1)
    Watched(instance, [first]).run(
        dg.DagsterRunStatus.SUCCESS, {**due.request(ORDERS).tags, "dagster/run_key": due.run_key}
    )
    watched = Watched(instance, [second], lookback=1, redeclared=True)
    (request,) = watched.requests()
    watched.run(dg.DagsterRunStatus.FAILURE, {**request.tags, "dagster/run_key": str(request.run_key)})
    assert "have been requested" in watched.skips()
    assert len(Watched(instance, [third], lookback=1, redeclared=True).requests()) == 1
    store_as(instance, second, 0)
    assert "are there" in watched.skips()


def test_a_run_that_was_requested_for_another_declaration_mends_the_partition(
    instance: dg.DagsterInstance, sandbox_container: SandboxContainer, tmp_path: Path
) -> None:
    sandbox_container.set_live("orders", "id\n1\n")

    def run(of: FoundryDataset, **tags: str) -> None:
        resource = FoundryContainerResource(host=sandbox_container.host, port=sandbox_container.port, attempts=1)
        io_manager = FoundryParquetIOManager(base_dir=str(tmp_path))
        resources = {"foundry_container": resource, "io_manager": io_manager}
        dg.materialize(
            build_foundry_assets([of]), instance=instance, partition_key=day(0), resources=resources, tags=tags
        )

    inferred, declared = (FoundryDataset("orders", DAILY, day(-9), schema) for schema in (None, {"id": "String"}))
    run(inferred)
    watched = Watched(instance, [declared], lookback=1, redeclared=True)
    (request,) = watched.requests()
    run(declared, **{**request.tags, "dagster/run_key": str(request.run_key)})
    assert pl.read_parquet(tmp_path / "orders" / f"{day(0)}.parquet").schema == {"id": pl.String()}
    assert "are there" in watched.skips()


LOCATION = """
import dagster as dg
from fdtcc_dagster import FoundryContainerResource, FoundryDataset, Schedule, build_foundry_assets
from fdtcc_dagster.sensors import build_foundry_sensor
from fdtcc_dagster_tests.midday import NOW, TODAY, ZONE, midnight

def schedule(number):
    rules = [{"cycle": "weekly", "day": "Friday", "time": f"{number % 24:02}:00:00"}]
    rules += [{"cycle": "monthly", "day": number % 28 + 1, "time": "02:00:00"}]
    return Schedule(rules)

datasets = [FoundryDataset(f"dataset_{number}", schedule(number), "2016-01-01") for number in range(300)]
defs = dg.Definitions(
    assets=build_foundry_assets(datasets),
    sensors=[
        build_foundry_sensor(
            datasets, max_runs=7, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING
        )
    ],
    resources={"foundry_container": FoundryContainerResource()},
)
"""
LOGGER = logging.getLogger("sensor")
QUEUE = {"run_coordinator": {"module": "dagster.core.run_coordinator", "class": "QueuedRunCoordinator"}}


@pytest.mark.slow
def test_years_of_missing_history_of_300_datasets_never_flood(tmp_path: Path) -> None:
    path = tmp_path / "definitions.py"
    path.write_text(LOCATION)
    with (
        dg.instance_for_test(QUEUE) as instance,
        create_test_daemon_workspace_context(PythonFileTarget(str(path), None, None, "foundry"), instance) as workspace,
    ):
        (entry,) = workspace.create_request_context().get_code_location_entries().values()
        assert entry.code_location, entry.load_error
        (repository,) = entry.code_location.get_repositories().values()
        (sensor,) = repository.get_sensors()

        def evaluate() -> tuple[list[dg.DagsterRun], str | None]:
            before = {run.run_id for run in instance.get_runs()}
            ticks = 0
            while not ticks:
                for error in execute_sensor_iteration(workspace, LOGGER, None, None) or ():
                    assert error is None, error
                latest = instance.get_ticks(sensor.get_remote_origin_id(), sensor.selector_id, limit=1)
                ticks = len([tick for tick in latest if tick.timestamp > evaluated])
            return [run for run in instance.get_runs() if run.run_id not in before], latest[0].skip_reason

        evaluated = 0.0
        first, _ = evaluate()
        assert len(first) == 7
        assert {run.status for run in first} == {dg.DagsterRunStatus.QUEUED}
        # The newest refresh of each dataset comes first.
        newest = dt.datetime.now(UTC) - dt.timedelta(days=8)
        assert all(run.tags["dagster/partition"] >= newest.date().isoformat() for run in first)

        evaluated = dt.datetime.now(UTC).timestamp()
        second, why = evaluate()
        assert second == []
        assert why == "Queued or running: 7 runs of foundry_sensor; 7 at a time may be."

        for run in first[:5]:
            instance.report_run_failed(run)
        evaluated = dt.datetime.now(UTC).timestamp()
        third, _ = evaluate()
        assert len(third) == 5
        assert not {run.tags["dagster/run_key"] for run in first} & {run.tags["dagster/run_key"] for run in third}
