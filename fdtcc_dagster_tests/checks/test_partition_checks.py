"""Checks in real runs, over materializations that were pulled or recorded."""

# No postponed annotations here: Dagster reads those of an asset's function.

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    FoundryParquetIOManager,
    Schedule,
    build_foundry_assets,
)
from fdtcc_dagster.checks import partition_checks
from fdtcc_dagster.checks.partition_checks import (
    DECLARATION,
    FRESHNESS,
    ROW_COUNT_ANNOUNCED,
    ROW_COUNT_CHANGE,
    SCHEMA_CHANGE,
    SCHEMA_DECLARED,
    build_foundry_checks,
)
from fdtcc_dagster.ingest.materializations import recorded_in_run
from fdtcc_dagster.ingest.step import Step
from fdtcc_dagster.metadata import column_schema
from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster_tests.midday import TODAY, ZONE, midnight

ALL = {ROW_COUNT_ANNOUNCED, ROW_COUNT_CHANGE, SCHEMA_DECLARED, SCHEMA_CHANGE, FRESHNESS, DECLARATION}
NAME, KEY = "sales.Orders", dg.AssetKey(["sales", "orders"])
SCHEMA = {"id": "Int64", "name": "String"}
DAILY = Schedule([{"cycle": "daily", "time": "00:00:00"}], buffer=timedelta(0), timezone=ZONE)
DAYS = [(TODAY - timedelta(days=back)).isoformat() for back in (4, 3, 2, 1, 0)]
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR

Evaluations = dict[str, dg.AssetCheckEvaluation]


def dataset(**arguments: Any) -> FoundryDataset:
    start = TODAY - timedelta(days=30)
    return FoundryDataset(NAME, **{"schedule": DAILY, "start": start, "schema": SCHEMA, **arguments})


def csv(rows: int, header: str = "id,name") -> str:
    return header + "\n" + "".join(f"{row},x\n" for row in range(rows))


def record(
    instance: dg.DagsterInstance,
    partition: str,
    metadata: Mapping[str, Any] | None = None,
    schema: Mapping[str, str] | None = None,
) -> None:
    """Write a materialization into the event log, as a run would have done."""
    table = {} if schema is None else {"dagster/column_schema": column_schema(schema)}
    instance.report_runless_asset_event(
        dg.AssetMaterialization(KEY, partition=partition, metadata={**table, **(metadata or {})})
    )


def evaluations(result: dg.ExecuteInProcessResult) -> Evaluations:
    return {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}


def run_alone(
    instance: dg.DagsterInstance,
    of: FoundryDataset,
    *names: str,
    tags: Mapping[str, str] | None = None,
    **arguments: Any,
) -> Evaluations:
    """Run checks without the asset, as the UI or a schedule does."""
    chosen = [dg.AssetCheckKey(KEY, name) for name in names]
    selection = dg.AssetSelection.checks(*chosen) if names else dg.AssetSelection.checks_for_assets(KEY)
    definitions = dg.Definitions(
        assets=build_foundry_assets([of]),
        asset_checks=build_foundry_checks([of], **arguments),
        jobs=[dg.define_asset_job("checks", selection=selection)],
        resources={"foundry_container": FoundryContainerResource(), "io_manager": FoundryParquetIOManager()},
    )
    result = definitions.resolve_job_def("checks").execute_in_process(instance=instance, tags=dict(tags or {}))
    assert result.success or any(evaluation.blocking for evaluation in evaluations(result).values())
    return evaluations(result)


class Store:
    """One dataset with its checks and an asset downstream, on a container."""

    def __init__(self, container: SandboxContainer, directory: Path, instance: dg.DagsterInstance) -> None:
        self.container, self.directory, self.instance = container, directory, instance
        self.downstream: list[str] = []

    def add_version(self, partition: str, text: str) -> None:
        self.container.add_version(NAME, midnight(partition) + timedelta(hours=1), text)

    def materialize(
        self, of: FoundryDataset, *partitions: str, io_manager: dg.ConfigurableIOManager | None = None, **arguments: Any
    ) -> dg.ExecuteInProcessResult:
        seen = self.downstream

        @dg.asset(deps=[KEY], partitions_def=of.partitions_def, backfill_policy=dg.BackfillPolicy.single_run())
        def downstream(context: dg.AssetExecutionContext) -> None:
            seen.extend(context.partition_keys)

        definitions = dg.Definitions(
            assets=[*build_foundry_assets([of], retry_policy=None), downstream],
            asset_checks=build_foundry_checks([of], **arguments),
            resources={
                "foundry_container": FoundryContainerResource(host=self.container.host, port=self.container.port),
                "io_manager": io_manager or FoundryParquetIOManager(base_dir=str(self.directory)),
            },
        )
        job = definitions.resolve_implicit_global_asset_job_def()
        if len(partitions) == 1:
            return job.execute_in_process(instance=self.instance, partition_key=partitions[0], raise_on_error=False)
        tags = {
            "dagster/asset_partition_range_start": partitions[0],
            "dagster/asset_partition_range_end": partitions[-1],
        }
        return job.execute_in_process(instance=self.instance, tags=tags, raise_on_error=False)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def store(sandbox_container: SandboxContainer, tmp_path: Path, instance: dg.DagsterInstance) -> Store:
    sandbox_container.set_live(NAME, csv(4))
    return Store(sandbox_container, tmp_path, instance)


def test_all_checks_run_in_one_step_beside_the_asset_and_pass(store: Store) -> None:
    result = store.materialize(dataset(), TODAY.isoformat(), blocking=True)
    assert result.success
    found = evaluations(result)
    assert {name: (found[name].passed, found[name].blocking) for name in found} == {
        name: (True, name not in (FRESHNESS, DECLARATION)) for name in ALL
    }
    assert found[ROW_COUNT_ANNOUNCED].description == f"{TODAY}: rows stored: 4, announced by the container: 4"
    assert {event.step_key for event in result.all_events if event.is_step_success} == {
        "sales__orders",
        "foundry_checks__sales__orders",
        "downstream",
    }


def test_the_previous_partition_is_the_one_before_it_in_time_not_the_one_materialized_before(store: Store) -> None:
    first, second, third = DAYS[:3]
    of = dataset(schema=None)
    store.add_version(first, csv(10))
    store.add_version(second, csv(11))
    store.add_version(third, csv(2, "id,surname"))
    texts = {}
    for partition in (third, first, second):
        found = evaluations(store.materialize(of, partition))
        texts[partition] = [found[name].description for name in (ROW_COUNT_CHANGE, SCHEMA_CHANGE)]
        assert found[ROW_COUNT_CHANGE].passed
        assert found[SCHEMA_CHANGE].passed
    assert texts == {
        third: [f"{third}: no earlier partition is stored"] * 2,
        first: [f"{first}: no earlier partition is stored"] * 2,
        second: [
            f"{second}: 11 rows, and {first} has 10 (+10.0%; allowed are ±50.0%)",
            f"{second}: 2 columns, as in {first}",
        ],
    }
    # Executed alone, the checks look at the latest partition in time order, which was the first to be materialized.
    found = run_alone(store.instance, of)
    assert not found[ROW_COUNT_CHANGE].passed
    assert found[ROW_COUNT_CHANGE].description == f"{third}: 2 rows, and {second} has 11 (-81.8%; allowed are ±50.0%)"
    assert (
        found[SCHEMA_CHANGE].description
        == f"{third}, not as in {second}: 'name' is absent instead of String, 'surname' is String instead of absent"
    )
    assert found[SCHEMA_CHANGE].severity == WARN


def test_a_run_of_several_partitions_reports_each_that_fails(store: Store) -> None:
    for partition, rows in zip(DAYS[:4], (10, 11, 2, 9), strict=True):
        store.add_version(partition, csv(rows))
    result = store.materialize(dataset(), *DAYS[:4])
    assert result.success
    found = evaluations(result)
    changes = found[ROW_COUNT_CHANGE]
    assert not changes.passed
    assert changes.metadata["foundry/failed_partitions"].value == DAYS[2:4]
    assert changes.description == (
        f"{DAYS[2]}: 2 rows, and {DAYS[1]} has 11 (-81.8%; allowed are ±50.0%); "
        f"{DAYS[3]}: 9 rows, and {DAYS[2]} has 2 (+350.0%; allowed are ±50.0%)"
    )
    assert found[SCHEMA_CHANGE].description == "All 4 partitions pass."
    assert found[SCHEMA_CHANGE].metadata["foundry/partitions"].value == ", ".join(DAYS[:4])
    assert store.downstream == DAYS[:4]


@pytest.mark.parametrize(
    ("blocking", "severity", "downstream"),
    [(False, WARN, True), ({SCHEMA_CHANGE}, WARN, True), ({ROW_COUNT_CHANGE}, ERROR, False), (True, ERROR, False)],
)
def test_only_a_blocking_check_that_fails_keeps_downstream_from_running(
    store: Store, blocking: bool | set[str], severity: dg.AssetCheckSeverity, downstream: bool
) -> None:
    store.add_version(DAYS[0], csv(10))
    store.add_version(DAYS[1], csv(1))
    assert store.materialize(dataset(), DAYS[0], blocking=blocking).success
    result = store.materialize(dataset(), DAYS[1], blocking=blocking)
    assert result.success is downstream
    failed = evaluations(result)[ROW_COUNT_CHANGE]
    assert (failed.passed, failed.severity) == (False, severity)
    assert store.downstream == (DAYS[:2] if downstream else DAYS[:1])
    # The partition itself is stored.
    assert store.instance.get_materialized_partitions(KEY) == set(DAYS[:2])


def test_a_partition_that_fails_leaves_the_checks_of_the_stored_ones(store: Store) -> None:
    for day, rows in zip(DAYS[:3], (2, 3, 4), strict=True):
        store.add_version(day, csv(rows))
    store.add_version(DAYS[3], "id,name\nx,x\n")
    result = store.materialize(dataset(), *DAYS[:4])
    assert not result.success
    # Dagster shows the last evaluation of each, and not that its step was skipped.
    found: Evaluations = {}
    for name in ALL:
        check = dg.AssetCheckKey(KEY, name)
        (record,) = store.instance.event_log_storage.get_asset_check_execution_history(check, limit=1)
        assert record.event is not None
        assert record.event.dagster_event is not None
        found[name] = record.event.dagster_event.asset_check_evaluation_data
        assert record.status.name == ("SUCCEEDED" if found[name].passed else "FAILED")
    assert found[SCHEMA_DECLARED].passed
    assert found[SCHEMA_DECLARED].metadata["foundry/partitions"].value == ", ".join(DAYS[:3])
    assert found[ROW_COUNT_CHANGE].metadata["foundry/row_change"].value == round(1 / 3, 6)
    assert not found[FRESHNESS].passed


def test_checks_that_cannot_be_evaluated_do_not_hide_why_a_step_failed(store: Store) -> None:
    def broken() -> datetime:
        raise RuntimeError("no clock")

    store.add_version(DAYS[0], csv(2))
    result = store.materialize(dataset(), *DAYS[:2], clock=broken)
    (failed,) = (event for event in result.all_events if event.is_step_failure)
    assert failed.step_failure_data.user_failure_data is not None
    assert "1 of 2 partitions failed" in str(failed.step_failure_data.user_failure_data.description)
    logged = [entry.user_message for entry in store.instance.all_logs(result.run_id)]
    assert "The checks of the stored partitions could not be evaluated: RuntimeError: no clock" in logged


def test_the_stored_partitions_of_a_failed_step_are_read_once_and_in_time_order(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[dg.AssetKey] = []
    stored = dg.DagsterInstance.get_materialized_partitions

    def counted(self: dg.DagsterInstance, asset_key: dg.AssetKey, *arguments: Any) -> set[str]:
        read.append(asset_key)
        return stored(self, asset_key, *arguments)

    for day in DAYS[:3]:
        store.add_version(day, csv(2))
    monkeypatch.setattr(dg.DagsterInstance, "get_materialized_partitions", counted)
    # As they may be: several are pulled at a time.
    monkeypatch.setattr(partition_checks, "recorded_in_run", lambda *asked: recorded_in_run(*asked)[::-1])
    store.materialize(dataset(), *DAYS[:4])
    check = dg.AssetCheckKey(KEY, SCHEMA_DECLARED)
    (record,) = store.instance.event_log_storage.get_asset_check_execution_history(check, limit=1)
    assert record.event is not None
    assert record.event.dagster_event is not None
    evaluation = record.event.dagster_event.asset_check_evaluation_data
    assert evaluation.metadata["foundry/partitions"].value == ", ".join(DAYS[:3])
    assert read == [KEY]


def test_an_interrupted_step_evaluates_no_checks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Step.run

    def interrupted(step: Step) -> Iterator[Any]:
        yield next(run(step))
        raise dg.Failure("the run was interrupted", allow_retries=False) from KeyboardInterrupt()

    for day in DAYS[:2]:
        store.add_version(day, csv(2))
    monkeypatch.setattr(Step, "run", interrupted)
    result = store.materialize(dataset(), *DAYS[:2])
    assert store.instance.get_materialized_partitions(KEY)
    logged = [entry.dagster_event for entry in store.instance.all_logs(result.run_id)]
    assert not [each for each in logged if each is not None and each.event_type_value == "ASSET_CHECK_EVALUATION"]


def test_what_cannot_be_judged_fails_as_a_warning_and_blocks_nothing(store: Store) -> None:
    class Silent(dg.ConfigurableIOManager):
        """Records no number of rows."""

        def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
            obj.collect()

        def load_input(self, context: dg.InputContext) -> None:
            raise NotImplementedError

    result = store.materialize(dataset(), TODAY.isoformat(), io_manager=Silent(), blocking=True)
    assert result.success
    found = evaluations(result)[ROW_COUNT_ANNOUNCED]
    assert (found.passed, found.severity) == (False, WARN)
    assert found.description == f"{TODAY}: the IO manager recorded no number of rows"
    assert store.downstream == [TODAY.isoformat()]


def test_another_number_of_rows_than_announced_is_an_error(instance: dg.DagsterInstance) -> None:
    record(instance, DAYS[0], {"dagster/partition_row_count": 4, "foundry/announced_rows": 5})
    found = run_alone(instance, dataset(), ROW_COUNT_ANNOUNCED)
    assert set(found) == {ROW_COUNT_ANNOUNCED}
    assert (found[ROW_COUNT_ANNOUNCED].passed, found[ROW_COUNT_ANNOUNCED].severity) == (False, ERROR)
    assert found[ROW_COUNT_ANNOUNCED].description == f"{DAYS[0]}: rows stored: 4, announced by the container: 5"


def test_a_slice_must_have_its_own_rows_not_all_that_were_announced(instance: dg.DagsterInstance) -> None:
    of = dataset(schema={"id": "Int64", "at": "Date"}, time_column="at")
    record(instance, DAYS[0], {"row_count": 4, "foundry/slice_rows": 4, "foundry/announced_rows": 9})
    assert run_alone(instance, of, ROW_COUNT_ANNOUNCED)[ROW_COUNT_ANNOUNCED].passed
    record(instance, DAYS[1], {"row_count": 4, "foundry/slice_rows": 5, "foundry/announced_rows": 9})
    found = run_alone(instance, of, ROW_COUNT_ANNOUNCED)[ROW_COUNT_ANNOUNCED]
    assert (found.passed, found.description) == (False, f"{DAYS[1]}: rows stored: 4, rows of the slice: 5")


@pytest.mark.parametrize("name", ["dagster/partition_row_count", "dagster/row_count", "row_count"])
def test_the_number_of_rows_is_found_by_the_name_that_the_io_manager_gave_it(
    instance: dg.DagsterInstance, name: str
) -> None:
    record(instance, DAYS[0], {"foundry/announced_rows": 4, name: 4})
    assert run_alone(instance, dataset(), ROW_COUNT_ANNOUNCED)[ROW_COUNT_ANNOUNCED].passed


def test_the_last_materialization_of_a_partition_counts(instance: dg.DagsterInstance) -> None:
    for rows in (4, 5):
        record(instance, DAYS[0], {"row_count": rows, "foundry/announced_rows": 5})
    assert run_alone(instance, dataset(), ROW_COUNT_ANNOUNCED)[ROW_COUNT_ANNOUNCED].passed


def test_other_columns_than_declared_are_an_error_with_a_table(instance: dg.DagsterInstance) -> None:
    record(instance, DAYS[0], schema={"extra": "Date", "id": "String"})
    found = run_alone(instance, dataset(), SCHEMA_DECLARED)[SCHEMA_DECLARED]
    assert (found.passed, found.severity) == (False, ERROR)
    table = found.metadata["foundry/differences"]
    assert isinstance(table, dg.TableMetadataValue)
    common = {"partition": DAYS[0], "compared with": "declared"}
    assert [record.data for record in table.records] == [
        {**common, "column": "id", "expected": "Int64", "stored": "String"},
        {**common, "column": "name", "expected": "String", "stored": "absent"},
        {**common, "column": "extra", "expected": "absent", "stored": "Date"},
    ]
    record(instance, DAYS[1], schema={"name": "String", "id": "Int64"})
    assert run_alone(instance, dataset(), SCHEMA_DECLARED)[SCHEMA_DECLARED].passed


@pytest.mark.parametrize(
    ("before", "rows", "limit", "passed"),
    [
        (10, 15, 0.5, True),
        (10, 16, 0.5, False),
        (10, 5, 0.5, True),
        (10, 4, 0.5, False),
        (10, 10, 0.0, True),
        (10, 11, 0.0, False),
        (0, 0, 0.5, True),
        (0, 1, 0.5, False),
        (1, 9, 8.0, True),
    ],
)
def test_a_row_count_may_change_by_a_share_of_the_previous_one(
    instance: dg.DagsterInstance, before: int, rows: int, limit: float, passed: bool
) -> None:
    record(instance, DAYS[0], {"row_count": before})
    record(instance, DAYS[2], {"row_count": rows})
    found = run_alone(instance, dataset(), ROW_COUNT_CHANGE, max_row_change=limit)
    assert found[ROW_COUNT_CHANGE].passed is passed


def test_a_run_for_a_partition_without_the_asset_checks_that_partition(instance: dg.DagsterInstance) -> None:
    for partition, rows in zip(DAYS[:3], (10, 1, 1), strict=True):
        record(instance, partition, {"row_count": rows})
    # So does the retry of a failed check.
    found = run_alone(instance, dataset(), ROW_COUNT_CHANGE, tags={"dagster/partition": DAYS[1]})[ROW_COUNT_CHANGE]
    assert not found.passed
    assert found.metadata["foundry/partitions"].value == DAYS[1]
    found = run_alone(instance, dataset(), ROW_COUNT_CHANGE, tags={"dagster/partition": DAYS[3]})[ROW_COUNT_CHANGE]
    assert (found.passed, found.severity, found.description) == (False, WARN, f"{DAYS[3]}: not stored")


def test_partitions_that_the_definition_does_not_have_any_more_are_no_predecessors(
    instance: dg.DagsterInstance,
) -> None:
    record(instance, "2001-01-01", {"row_count": 1000})
    record(instance, DAYS[0], {"row_count": 1})
    found = run_alone(instance, dataset(), ROW_COUNT_CHANGE)[ROW_COUNT_CHANGE]
    assert (found.passed, found.description) == (True, f"{DAYS[0]}: no earlier partition is stored")


def test_nothing_stored_is_a_warning(instance: dg.DagsterInstance) -> None:
    found = run_alone(instance, dataset())
    assert {name: (found[name].passed, found[name].severity) for name in found} == dict.fromkeys(ALL, (False, WARN))


def fresh(instance: dg.DagsterInstance, of: FoundryDataset, now: str, **arguments: Any) -> tuple[bool, str | None]:
    found = run_alone(instance, of, FRESHNESS, clock=lambda: datetime.fromisoformat(now), **arguments)[FRESHNESS]
    return found.passed, found.description


def test_freshness_asks_for_the_latest_refresh_once_the_grace_is_over(instance: dg.DagsterInstance) -> None:
    weekly = Schedule([{"cycle": "weekly", "day": "monday", "time": "02:00:00"}])
    of = dataset(schedule=weekly, start="2024-01-01")
    record(instance, "2024-01-08")
    # Monday's refresh becomes available at 04:00, and may be an hour late.
    assert fresh(instance, of, "2024-01-15T03:59:00+00:00")[0]
    assert fresh(instance, of, "2024-01-15T04:59:00+00:00")[0]
    assert fresh(instance, of, "2024-01-15T05:00:00+00:00") == (
        False,
        "Partition 2024-01-15, available since 2024-01-15T04:00:00+00:00, is missing; the newest stored one is "
        "2024-01-08.",
    )
    assert fresh(instance, of, "2024-01-15T05:00:00+00:00", freshness_grace=timedelta(hours=2))[0]
    record(instance, "2024-01-15")
    assert fresh(instance, of, "2024-01-21T23:59:00+00:00")[0]
    # A later partition may be stored within the grace already.
    record(instance, "2024-01-29")
    assert fresh(instance, of, "2024-01-29T04:01:00+00:00")[0]


def test_nothing_is_due_before_the_first_refresh(instance: dg.DagsterInstance) -> None:
    of = dataset(schedule=Schedule(DAILY.refreshs, buffer=timedelta(0)), start="2024-01-10")
    assert fresh(instance, of, "2024-01-09T12:00:00+00:00") == (True, "No refresh has been available for that long.")
    assert fresh(instance, of, "2024-01-10T12:00:00+00:00") == (
        False,
        "Partition 2024-01-10, available since 2024-01-10T00:00:00+00:00, is missing; none is stored.",
    )


def test_a_slice_is_due_when_it_is_complete(instance: dg.DagsterInstance) -> None:
    weekly = Schedule([{"cycle": "weekly", "day": "monday", "time": "02:00:00"}])
    of = dataset(schedule=weekly, start="2024-01-01", schema={"at": "Date"}, time_column="at")
    record(instance, "2024-01-01")
    assert fresh(instance, of, "2024-01-15T04:59:00+00:00")[0]
    assert fresh(instance, of, "2024-01-15T05:01:00+00:00") == (
        False,
        "Partition 2024-01-08, available since 2024-01-15T04:00:00+00:00, is missing; the newest stored one is "
        "2024-01-01.",
    )
    record(instance, "2024-01-08")
    assert fresh(instance, of, "2024-01-22T04:59:00+00:00")[0]


def test_of_several_refreshes_on_a_date_the_latest_must_be_stored(instance: dg.DagsterInstance) -> None:
    times: Sequence[Mapping[str, object]] = [{"cycle": "daily", "time": f"{hour}:00:00"} for hour in ("06", "18")]
    of = dataset(schedule=Schedule(times, buffer=timedelta(0)), start="2024-01-01")
    begin, end = (datetime(2024, 1, 2, hour, tzinfo=timezone.utc) for hour in (6, 18))
    window = {"foundry/window_from": begin, "foundry/window_to": end}
    record(instance, "2024-01-02", {name: dg.MetadataValue.timestamp(value) for name, value in window.items()})
    assert fresh(instance, of, "2024-01-02T18:30:00+00:00")[0]
    assert fresh(instance, of, "2024-01-02T19:00:00+00:00") == (
        False,
        "Partition 2024-01-02 is stored, but of a refresh before the one available since 2024-01-02T18:00:00+00:00.",
    )


@pytest.mark.parametrize(("end_offset", "due"), [(0, "2024-01-14"), (1, "2024-01-21"), (2, "2024-01-21")])
def test_without_a_schedule_the_last_window_that_has_begun_is_due(
    instance: dg.DagsterInstance, end_offset: int, due: str
) -> None:
    own = dg.WeeklyPartitionsDefinition(start_date="2024-01-01", end_offset=end_offset)
    of = FoundryDataset(NAME, partitions_def=own)
    before = (datetime.fromisoformat(due) - timedelta(days=7)).date().isoformat()
    record(instance, before)
    assert not fresh(instance, of, "2024-01-24T12:00:00+00:00")[0]
    record(instance, due)
    assert fresh(instance, of, "2024-01-24T12:00:00+00:00")[0]


def test_checks_that_are_not_wanted_are_not_made() -> None:
    (checks,) = build_foundry_checks([dataset(schema=None)], max_row_change=None, freshness_grace=None)
    assert {key.name for key in checks.check_keys} == {ROW_COUNT_ANNOUNCED, SCHEMA_CHANGE, DECLARATION}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"blocking": {"foundry_row_counts"}}, "foundry_row_counts"),
        ({"blocking": FRESHNESS}, FRESHNESS),
        ({"max_row_change": -0.1}, "-0.1"),
        ({"max_row_change": float("nan")}, "nan"),
        ({"freshness_grace": timedelta(seconds=-1)}, "freshness_grace"),
    ],
)
def test_other_arguments_are_errors_that_name_them(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        build_foundry_checks([dataset()], **arguments)


def test_two_datasets_with_one_key_are_an_error() -> None:
    with pytest.raises(ValueError, match="sales/orders"):
        build_foundry_checks([dataset(), FoundryDataset("sales/orders", DAILY, TODAY)])


def test_keys_that_are_spelled_alike_do_not_collide() -> None:
    datasets = [dataset(asset_key=key) for key in ("a/b", "a__b")]
    definitions = dg.Definitions(asset_checks=build_foundry_checks(datasets))
    assert len(definitions.resolve_implicit_global_asset_job_def().nodes) == 2


def test_the_checks_of_hundreds_of_datasets_are_built_quickly() -> None:
    datasets = [FoundryDataset(f"many.dataset{number}", DAILY, TODAY, SCHEMA) for number in range(300)]
    started = time.monotonic()
    checks = build_foundry_checks(datasets, blocking=True)
    assert time.monotonic() - started < 10
    assert len({key for each in checks for key in each.check_keys}) == 300 * len(ALL)
