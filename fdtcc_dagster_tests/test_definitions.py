from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._serdes import serialize_value

from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    FoundryDatasetTranslator,
    Refresh,
    Schedule,
    build_foundry_definitions,
)
from fdtcc_dagster.checks.partition_checks import DECLARATION, FRESHNESS
from fdtcc_dagster.sandbox import SandboxContainer

WEEKLY = Schedule([{"cycle": "weekly", "day": "Monday", "time": "02:00:00"}])
DATASETS = [
    FoundryDataset("orders", WEEKLY, "2026-01-01"),
    FoundryDataset("events", WEEKLY, "2026-01-01", time_column="at"),
]
CONTAINER = FoundryContainerResource()
PLAIN = {"container": dg.ResourceDefinition.none_resource(), "io_manager": dg.fs_io_manager}


def test_by_default_there_are_assets_schedules_and_resources() -> None:
    definitions = build_foundry_definitions(DATASETS, resource=CONTAINER)
    dg.Definitions.validate_loadable(definitions)
    repository = definitions.get_repository_def()
    assert {schedule.name for schedule in repository.schedule_defs} == {"orders_schedule", "events_schedule"}
    assert repository.sensor_defs == []
    assert set(definitions.resources or {}) == {"foundry_container", "foundry_io_manager"}
    assert {key.to_user_string() for key in definitions.resolve_all_asset_keys()} == {"orders", "events"}


def test_lineage_begins_at_assets_that_the_ui_can_show() -> None:
    class FromFoundry(FoundryDatasetTranslator):
        upstream = True

    def build(names: Sequence[str], resource_key: str, **arguments: Any) -> dg.Definitions:
        datasets = [FoundryDataset(name, WEEKLY, "2026-01-01", **arguments) for name in names]
        return build_foundry_definitions(
            datasets, resource=CONTAINER, resource_key=resource_key, translator=FromFoundry()
        )

    # What `orders` comes from is an asset already, and two containers have `returns`.
    definitions = dg.Definitions.merge(
        build(["foundry.orders", "orders", "returns"], "eu", group_name="eu"),
        build(["returns"], "us", asset_key="returns_us", group_name="us"),
    )
    dg.Definitions.validate_loadable(definitions)
    shown = definitions.resolve_asset_graph().external_asset_keys
    assert {key.to_user_string() for key in shown} == {"foundry/foundry.orders", "foundry/returns"}


def test_conditions_are_an_alternative_to_schedules() -> None:
    definitions = build_foundry_definitions(DATASETS, resource=CONTAINER, automation="condition")
    dg.Definitions.validate_loadable(definitions)
    repository = definitions.get_repository_def()
    assert repository.schedule_defs == []
    assert len(repository.sensor_defs) == 1
    assert all(spec.automation_condition is not None for spec in definitions.resolve_all_asset_specs())


def test_a_sensor_checks_and_freshness_policies_on_request() -> None:
    definitions = build_foundry_definitions(DATASETS, resource=CONTAINER, automation=None, sensor=True, checks=True)
    dg.Definitions.validate_loadable(definitions)
    repository = definitions.get_repository_def()
    assert repository.schedule_defs == []
    assert [sensor.name for sensor in repository.sensor_defs] == ["foundry_sensor"]
    assert len(repository.asset_checks_defs_by_key) > len(DATASETS)
    declarations = {key.asset_key for key in repository.asset_checks_defs_by_key if key.name == DECLARATION}
    assert declarations == set(definitions.resolve_all_asset_keys())
    assert all(spec.freshness_policy is not None for spec in definitions.resolve_all_asset_specs())
    # Never both: they may disagree.
    assert not [key for key in repository.asset_checks_defs_by_key if key.name == FRESHNESS]
    own = FoundryDataset("own", partitions_def=dg.DailyPartitionsDefinition("2026-01-01", end_offset=1))
    (checks,) = build_foundry_definitions([own], resource=CONTAINER, checks=True).asset_checks or []
    assert isinstance(checks, dg.AssetChecksDefinition)
    assert FRESHNESS in {key.name for key in checks.check_keys}


def test_several_containers_are_behind_one_code_location(tmp_path: Path) -> None:
    with SandboxContainer() as eu, SandboxContainer() as us:
        for container, name in ((eu, "orders"), (us, "orders_us")):
            container.set_live(name, f"name\n{name}\n")
        merged = dg.Definitions.merge(
            *(
                build_foundry_definitions(
                    [FoundryDataset(name, WEEKLY, "2026-01-01")],
                    resource=FoundryContainerResource(host="127.0.0.1", port=container.port),
                    resource_key=f"foundry_{name}",
                    automation="condition",
                    sensor=True,
                )
                for container, name in ((eu, "orders"), (us, "orders_us"))
            )
        )
        with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
            sensors = {sensor.name for sensor in merged.get_repository_def().sensor_defs}
            named = {f"foundry_{name}_{what}" for name in ("orders", "orders_us") for what in ("automation", "sensor")}
            assert sensors == named
            job = merged.resolve_implicit_global_asset_job_def()
            newest = WEEKLY.get_latest_refresh().date().isoformat()
            assert job.execute_in_process(instance=instance, partition_key=newest).success
        assert [set(each.max_conversations) for each in (eu, us)] == [{"orders"}, {"orders_us"}]


def test_runs_use_the_given_executor() -> None:
    definitions = build_foundry_definitions(DATASETS, resource=CONTAINER, executor=dg.in_process_executor)
    assert definitions.resolve_implicit_global_asset_job_def().executor_def is dg.in_process_executor


def plain(name: str) -> dg.Definitions:
    """What one would write by hand for a dataset with daily partitions."""

    @dg.asset(
        name=name,
        partitions_def=dg.DailyPartitionsDefinition("2020-01-01", end_offset=1),
        description=f"The Foundry dataset {name!r}.",
        kinds={"foundry", "parquet"},
        required_resource_keys={"container"},
    )
    def stored() -> None: ...

    schedule = dg.ScheduleDefinition(
        name=f"{name}_schedule", target=dg.AssetSelection.assets(name), cron_schedule="0 4 * * *"
    )
    return dg.Definitions([stored], schedules=[schedule], resources=PLAIN)


def bytes_of_one_more(of: Callable[[str], dg.Definitions]) -> int:
    """What a second dataset adds to the snapshot of the code location that goes to the webserver."""
    one, more = of("orders_1"), dg.Definitions.merge(of("orders_1"), of("orders_2"))
    first, both = (len(serialize_value(RepositorySnap.from_def(each.get_repository_def()))) for each in (one, more))
    return both - first


@pytest.mark.parametrize(
    ("rules", "most"),
    [
        ([("weekly", "Monday")], 1.3),
        ([("monthly", -2)], 1.4),
        ([("monthly", 30)], 1.3),
        ([("quarterly", 1), ("weekly", "Monday")], 2.0),
        # The one kind of calendar of which each date without a refresh has to be named: see docs/growth.md.
        ([("monthly", -2), ("weekly", "Monday")], 4.1),
    ],
)
def test_hard_calendars_send_little_more_to_the_webserver_than_plain_days(
    rules: list[tuple[str, Any]], most: float
) -> None:
    calendar = Schedule([Refresh(*rule, "04:00:00") for rule in rules], timezone="Europe/Berlin")

    def ours(name: str) -> dg.Definitions:
        return build_foundry_definitions([FoundryDataset(name, calendar, "2020-01-01")], resource=CONTAINER)

    assert bytes_of_one_more(ours) <= most * bytes_of_one_more(plain)


def test_definitions_merge_with_others() -> None:
    @dg.asset(io_manager_key="io_manager")
    def mine() -> None: ...

    others = dg.Definitions([mine], resources={"io_manager": dg.FilesystemIOManager()})
    merged = dg.Definitions.merge(others, build_foundry_definitions(DATASETS, resource=CONTAINER))
    dg.Definitions.validate_loadable(merged)


def test_definitions_merge_with_each_other() -> None:
    merged = dg.Definitions.merge(*(build_foundry_definitions([one], resource=CONTAINER) for one in DATASETS))
    dg.Definitions.validate_loadable(merged)


def test_an_unknown_automation_is_refused() -> None:
    with pytest.raises(ValueError, match="automation='cron'"):
        build_foundry_definitions(DATASETS, resource=CONTAINER, automation="cron")  # type: ignore[arg-type]  # on purpose


def test_host_and_port_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTAINER_PORT", "8888")
    container = FoundryContainerResource(host=dg.EnvVar("CONTAINER_HOST"), port=dg.EnvVar.int("CONTAINER_PORT"))
    definitions = build_foundry_definitions(DATASETS, resource=container)
    dg.Definitions.validate_loadable(definitions)


@pytest.mark.parametrize("host", ["http://127.0.0.1", "container/path", ""])
def test_a_host_that_is_none_is_refused_at_once(host: str) -> None:
    with pytest.raises(ValueError, match="without scheme, port and path"):
        FoundryContainerResource(host=host)
