"""Assets that get another key after they were built: Dagster's prefixes of a module's assets, and `with_attributes`."""

# No postponed annotations here: Dagster reads those of an asset's function.

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta, timezone
from pathlib import Path
from types import ModuleType

import dagster as dg
import polars as pl
import pytest
from dagster._core.definitions.reconstruct import ReconstructableRepository

from fdtcc_dagster import (
    FoundryDataset,
    FoundryDatasetTranslator,
    Schedule,
    build_foundry_assets,
    build_foundry_checks,
    build_foundry_schedules,
    build_foundry_sensor,
)
from fdtcc_dagster.automation import AutomatedTranslator, build_foundry_automation_sensors, foundry_automation_condition
from fdtcc_dagster.checks.partition_checks import ROW_COUNT_ANNOUNCED
from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster_tests.midday import TODAY, ZONE, midnight
from fdtcc_dagster_tests.site import Site, partitions

ORDERS, EVENTS = dg.AssetKey(["raw", "orders"]), dg.AssetKey(["raw", "events"])
REPORT = dg.AssetKey(["raw", "report"])
DAYS = [(TODAY - timedelta(days=back)).isoformat() for back in (3, 2, 1, 0)]
DAILY = Schedule([{"cycle": "daily", "time": "00:00:00"}], buffer=timedelta(0), timezone=ZONE)
START = TODAY - timedelta(days=3)
orders = FoundryDataset("orders", DAILY, START, {"id": "Int64"})
events = FoundryDataset(
    "events", DAILY, START, {"id": "Int64", "at": "Datetime(us, UTC)"}, time_column="at", complete_history=True
)

Rename = Callable[[ModuleType], Sequence[dg.AssetsDefinition]]


def module() -> ModuleType:
    """A module that knows nothing of the prefix that its assets get."""

    @dg.asset(partitions_def=orders.partitions_def)
    def report(context: dg.AssetExecutionContext, orders: pl.LazyFrame) -> pl.DataFrame:
        return orders.select(pl.len().alias("rows")).collect()

    found = ModuleType("foundry_assets")
    vars(found)["assets"] = build_foundry_assets([orders, events], retry_policy=None)
    vars(found)["report"] = report
    return found


def loaded(found: ModuleType) -> list[dg.AssetsDefinition]:
    assets = dg.load_assets_from_modules([found], key_prefix="raw")
    return [asset for asset in assets if isinstance(asset, dg.AssetsDefinition)]


def replaced(found: ModuleType) -> list[dg.AssetsDefinition]:
    assets = [*vars(found)["assets"], vars(found)["report"]]
    keys = {asset.key: asset.key.with_prefix("raw") for asset in assets}
    return [asset.with_attributes(asset_key_replacements=keys) for asset in assets]


class RenamedAssets(Site):
    """Renamed assets, with their container, their instance and their files."""

    def __init__(self, container: SandboxContainer, directory: Path, instance: dg.DagsterInstance) -> None:
        super().__init__(container, directory, instance)
        times = [midnight(day) + timedelta(hours=1) for day in DAYS]
        for rows, instant in enumerate(times, 1):
            container.add_version("orders", instant, "id\n" + "1\n" * (10 + rows))
        rows_of_events = "".join(f"{day},{time.astimezone(timezone.utc)}\n" for day, time in enumerate(times))
        container.set_live("events", f"id,at\n{rows_of_events}")

    def pull(self, assets: Sequence[dg.AssetsDefinition], *keys: dg.AssetKey, days: Sequence[str]) -> list[str]:
        """Materialize assets with their checks; give those that fail."""
        definitions = dg.Definitions(assets, asset_checks=build_foundry_checks(assets), resources=self.resources())
        job = definitions.resolve_implicit_global_asset_job_def()
        checks = {key for each in build_foundry_checks(assets) for key in each.check_keys if key.asset_key in keys}
        # A job of the assets and checks, since `execute_in_process` cannot select checks.
        job = job.get_subset(asset_selection=set(keys), asset_check_selection=checks)
        result = job.execute_in_process(instance=self.instance, **partitions(days))
        evaluations = result.get_asset_check_evaluations()
        assert {evaluation.asset_check_key for evaluation in evaluations} == checks
        # A version that the container had cached was counted by nobody, which is a warning.
        failed = {evaluation.check_name for evaluation in evaluations if not evaluation.passed}
        return sorted(failed - {ROW_COUNT_ANNOUNCED})

    def paths(self) -> list[str]:
        return sorted(str(path.relative_to(self.parquet)) for path in self.parquet.rglob("*.parquet"))


@pytest.fixture
def site(sandbox_container: SandboxContainer, tmp_path: Path) -> Iterator[RenamedAssets]:
    with dg.instance_for_test() as instance:
        yield RenamedAssets(sandbox_container, tmp_path, instance)


@pytest.mark.parametrize("rename", [loaded, replaced])
def test_what_is_stored_and_recorded_has_the_key_that_dagster_gives(site: RenamedAssets, rename: Rename) -> None:
    assets = rename(module())
    # One partition, and what depends on it; then a range with the same one, and slices.
    assert site.pull(assets, ORDERS, REPORT, days=DAYS[1:2]) == ["foundry_freshness"]
    assert site.paths() == [f"raw/orders/{DAYS[1]}.parquet", f"raw/report/{DAYS[1]}.parquet"]
    assert pl.read_parquet(site.parquet / "raw" / "report" / f"{DAYS[1]}.parquet").item() == 12
    assert site.pull(assets, ORDERS, days=DAYS) == []
    assert site.pull(assets, EVENTS, days=DAYS[:3]) == []
    assert site.instance.get_materialized_partitions(ORDERS) == set(DAYS)
    assert site.instance.get_materialized_partitions(EVENTS) == set(DAYS[:3])
    assert {key.to_user_string() for key in site.instance.all_asset_keys()} == {
        "raw/orders",
        "raw/events",
        "raw/report",
    }
    assert {path.split("/")[0] for path in site.paths()} == {"raw"}
    # The stored partition is found.
    site.pull(assets, ORDERS, days=DAYS[1:2])
    (record,) = site.instance.fetch_materializations(ORDERS, limit=1).records
    assert record.asset_materialization
    assert record.asset_materialization.metadata["foundry/unchanged"].value is True


def test_checks_that_are_loaded_with_the_same_prefix_look_at_the_renamed_asset(site: RenamedAssets) -> None:
    found = module()
    vars(found)["checks"] = build_foundry_checks([orders], freshness_grace=None)
    site.pull(loaded(found), ORDERS, days=DAYS)
    definitions = dg.Definitions(
        loaded(found),
        asset_checks=dg.load_asset_checks_from_modules([found], asset_key_prefix="raw"),
        jobs=[dg.define_asset_job("checks", dg.AssetSelection.checks_for_assets(ORDERS))],
        resources=site.resources(),
    )
    result = definitions.resolve_job_def("checks").execute_in_process(instance=site.instance)
    evaluations = result.get_asset_check_evaluations()
    assert len(evaluations) == 5
    assert {evaluation.asset_key for evaluation in evaluations} == {ORDERS}
    assert not [e for e in evaluations if "nothing to check" in str(e.description)]


def test_schedules_and_the_sensor_request_the_renamed_assets(site: RenamedAssets) -> None:
    assets = loaded(module())
    (schedule, _), sensor = build_foundry_schedules(assets), build_foundry_sensor(assets, lookback=1)
    assert schedule.name == "raw__orders_schedule"
    repository = dg.Definitions(
        assets, schedules=[schedule], sensors=[sensor], resources=site.resources()
    ).get_repository_def()

    def looks() -> list[tuple[str, str | None]]:
        with dg.build_sensor_context(site.instance, repository_def=repository) as context:
            requests = sensor.evaluate_tick(context).run_requests or ()
        asked = [(key.to_user_string(), each.partition_key) for each in requests for key in each.asset_selection or ()]
        return sorted(asked)

    with dg.build_schedule_context(site.instance, midnight(TODAY), repository_def=repository) as context:
        (request,) = schedule.evaluate_tick(context).run_requests or ()
    assert (request.asset_selection, request.partition_key) == ([ORDERS], DAYS[-1])
    assert request.tags["foundry/asset"] == "raw/orders"
    assert looks() == [("raw/events", DAYS[2]), ("raw/orders", DAYS[-1])]
    job = repository.get_implicit_job_def_for_assets([ORDERS])
    assert job is not None
    tags = {**request.tags, "dagster/run_key": str(request.run_key)}
    result = job.execute_in_process(
        instance=site.instance, partition_key=request.partition_key, asset_selection=[ORDERS], tags=tags
    )
    assert result.success
    # So it was requested, and it is there.
    assert looks() == [("raw/events", DAYS[2])]


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_conditions_request_the_renamed_assets(site: RenamedAssets) -> None:
    found = ModuleType("conditions")
    translator = AutomatedTranslator(FoundryDatasetTranslator(), condition=foundry_automation_condition)
    vars(found)["assets"] = build_foundry_assets([orders], translator=translator)
    assets = loaded(found)
    (sensor,) = build_foundry_automation_sensors(assets)
    definitions = dg.Definitions(assets, sensors=[sensor], resources=site.resources())
    dg.Definitions.validate_loadable(definitions)
    first = dg.evaluate_automation_conditions(
        definitions, site.instance, evaluation_time=midnight(TODAY) - timedelta(1)
    )
    due = midnight(TODAY) + timedelta(minutes=1)
    second = dg.evaluate_automation_conditions(definitions, site.instance, cursor=first.cursor, evaluation_time=due)
    assert set(second.get_requested_partitions(ORDERS)) == {DAYS[-1]}


STALE = """
import dagster as dg
from fdtcc_dagster import *
from fdtcc_dagster_tests.test_renamed_assets import loaded, module, orders

defs = dg.Definitions(
    loaded(module()),
    asset_checks=build_foundry_checks([orders]),
    sensors=[build_foundry_sensor([orders])],
    jobs=[dg.define_asset_job("checks", dg.AssetSelection.checks_for_assets(dg.AssetKey("orders")))],
    executor=dg.in_process_executor,
    resources={"foundry_container": FoundryContainerResource(), "io_manager": FoundryParquetIOManager()},
)
"""
ADVICE = r"there is no asset 'orders'; its asset got the key 'raw/orders' .* Give the assets instead of the datasets"


def test_checks_and_the_sensor_of_the_old_key_say_what_to_do(site: RenamedAssets, tmp_path: Path) -> None:
    """Given the datasets, they know nothing of a prefix; in silence they would look at an asset that is not there."""
    (tmp_path / "stale.py").write_text(STALE)
    repository = ReconstructableRepository.for_file(str(tmp_path / "stale.py"), "defs", working_directory=None)
    definition = repository.get_definition()
    with (
        dg.build_sensor_context(site.instance, repository_def=definition) as context,
        pytest.raises(dg.DagsterError) as raised,
    ):
        definition.get_sensor_def("foundry_sensor").evaluate_tick(context)
    assert re.search(ADVICE, str(raised.value.__cause__ or raised.value))
    with dg.execute_job(repository.get_reconstructable_job("checks"), site.instance) as result:
        (failure,) = [event for event in result.all_events if event.is_step_failure]
        assert failure.step_failure_data.error
        assert "there is no asset 'orders'" in failure.step_failure_data.error.to_string()


def test_schedules_and_condition_sensors_of_the_old_key_do_not_load(site: RenamedAssets) -> None:
    for arguments in (
        {"schedules": build_foundry_schedules([orders])},
        {"sensors": build_foundry_automation_sensors([orders])},
    ):
        definitions = dg.Definitions(loaded(module()), resources=site.resources(), **arguments)
        with pytest.raises(dg.DagsterError):
            dg.Definitions.validate_loadable(definitions)


def test_only_assets_of_datasets_count() -> None:
    found = module()
    (schedule,) = build_foundry_schedules([vars(found)["report"], vars(found)["assets"][0]])
    assert schedule.name == "orders_schedule"
    with pytest.raises(ValueError, match="none of these"):
        build_foundry_checks([vars(found)["report"], dg.AssetSpec("other")])
    assert build_foundry_checks([]) == []
