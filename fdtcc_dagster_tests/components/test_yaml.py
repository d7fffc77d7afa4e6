"""Everything that Python can say, YAML can: what YAML declares, compared with Python's declarations."""

from __future__ import annotations

import datetime as dt
import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import make_dataclass
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
import polars as pl
import pytest
from dagster.components.resolved.errors import ResolutionException
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    FoundryParquetIOManager,
    Refresh,
    Schedule,
    build_foundry_assets,
    build_foundry_definitions,
    build_foundry_schedules,
    datasets_from_toml,
)
from fdtcc_dagster.automation import (
    RefreshBecameAvailable,
    build_foundry_automation_sensors,
    foundry_automation_condition,
    foundry_freshness_policy,
)
from fdtcc_dagster.checks.partition_checks import DECLARATION, build_foundry_checks
from fdtcc_dagster.components import FoundryDatasetsComponent
from fdtcc_dagster.components.models import PARTITIONS_DEFS
from fdtcc_dagster.components.scaffolder import (
    FoundryDatasetsScaffolder,
    FoundryDatasetsScaffolderParams,
)
from fdtcc_dagster.components.yaml_types import to_timedelta
from fdtcc_dagster.sensors import build_foundry_sensor

_OPTIONS = ["automation", "schedules", "conditions", "sensor", "checks", "freshness"]
_NOT_OPTIONS = {"cls", "_cls", "dataset", "datasets", "translator", "clock"}
DAILY = '{refreshs: [{cycle: daily, time: "06:00:00"}]}'
DAILY_SCHEDULE = Schedule([Refresh("daily", None, "06:00:00")])


@pytest.mark.parametrize(
    ("given", "value"), [("max_bytes: 5.0e+10", 50_000_000_000), ("attempts: 3.0", 3), ("open_timeout: 1.0e+3", 1000.0)]
)
def test_a_number_may_be_written_otherwise(given: str, value: float) -> None:
    resource = load(f"resource: {{{given}}}").resource
    assert getattr(resource, given.partition(":")[0]) == value


def load(yaml: str, **scope: object) -> FoundryDatasetsComponent:
    scope = {**FoundryDatasetsComponent.get_additional_scope(), **scope}
    component = FoundryDatasetsComponent.resolve_from_yaml(yaml, scope=scope)
    assert isinstance(component, FoundryDatasetsComponent)
    return component


def declare(yaml: str, **scope: object) -> FoundryDataset:
    """The one dataset of which the YAML gives the settings."""
    lines = "\n".join(f"    {line}" for line in yaml.strip().splitlines())
    (dataset,) = load(f"datasets:\n  - name: orders\n{lines}", **scope).datasets
    return dataset


def build(component: FoundryDatasetsComponent) -> dg.Definitions:
    return component.build_defs(dg.ComponentTree.for_test().load_context)


def schema_errors(attributes: dict[str, Any]) -> list[str]:
    """What `dg check yaml` says."""
    model = FoundryDatasetsComponent.get_model_cls()
    assert model is not None
    return [error.message for error in Draft202012Validator(model.model_json_schema()).iter_errors(attributes)]


@pytest.mark.parametrize(
    ("yaml", "rule"),
    [
        ('{cycle: daily, time: "06:00:00"}', Refresh("daily", None, "06:00:00")),
        ('{cycle: weekly, day: fRiDaY, time: "06:00:00"}', Refresh("weekly", "Friday", "06:00:00")),
        ("{cycle: monthly, day: -31, time: 06:00:00}", Refresh("monthly", -31, "06:00:00")),
        ('{cycle: quarterly, day: 2, time: "06:00:00"}', Refresh("quarterly", 2, "06:00:00")),
        ('{cycle: quarterly, day: 2, month: 3, time: "06:00:00"}', Refresh("quarterly", 2, "06:00:00", 3)),
        ('{cycle: yearly, day: 2, month: 12, time: "06:00:00"}', Refresh("yearly", 2, "06:00:00", 12)),
    ],
)
def test_every_rule_of_a_calendar_is_the_one_of_python(yaml: str, rule: Refresh) -> None:
    dataset = declare(f"start: 2026-01-01\nschedule: {{refreshs: [{yaml}]}}")
    assert dataset == FoundryDataset("orders", Schedule([rule]), "2026-01-01")


@pytest.mark.parametrize(
    ("yaml", "buffer"),
    [
        ("2h", dt.timedelta(hours=2)),
        ("0s", dt.timedelta(0)),
        ("1d2h3m4s", dt.timedelta(days=1, hours=2, minutes=3, seconds=4)),
        ("{minutes: 90}", dt.timedelta(minutes=90)),
        ("{hours: 1.5, seconds: 1}", dt.timedelta(hours=1.5, seconds=1)),
        ("'{{ a_day }}'", dt.timedelta(days=1)),
    ],
)
def test_a_duration_is_text_with_units_or_the_arguments_of_timedelta(yaml: str, buffer: dt.timedelta) -> None:
    settings = f"{DAILY[:-1]}, buffer: {yaml}, timezone: asia/tokyo}}"
    dataset = declare(f"start: 2026-01-01\nschedule: {settings}", a_day=dt.timedelta(days=1))
    assert dataset.schedule == Schedule([Refresh("daily", None, "06:00:00")], buffer, "Asia/Tokyo")


@pytest.mark.parametrize("value", ["", "2", "h", "2 h", "1m1h", "2h30", 90, {}, {"weeks": 1}, None])
def test_a_duration_that_might_be_misread_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        to_timedelta(value)


@pytest.mark.parametrize(
    ("yaml", "definition"),
    [
        (
            '{type: hourly, start_date: "2026-01-01-00:00", minute_offset: 5}',
            dg.HourlyPartitionsDefinition("2026-01-01-00:00", minute_offset=5),
        ),
        (
            "{type: daily, start_date: 2026-01-01, end_date: 2027-01-01, hour_offset: 3, exclusions: ['0 3 1 * *']}",
            dg.DailyPartitionsDefinition("2026-01-01", "2027-01-01", hour_offset=3, exclusions=["0 3 1 * *"]),
        ),
        (
            "{type: weekly, start_date: 2026-01-01, day_offset: 1, timezone: Europe/Berlin}",
            dg.WeeklyPartitionsDefinition("2026-01-01", day_offset=1, timezone="Europe/Berlin"),
        ),
        (
            "{type: monthly, start_date: 2026-01, fmt: '%Y-%m', end_offset: 1}",
            dg.MonthlyPartitionsDefinition("2026-01", fmt="%Y-%m", end_offset=1),
        ),
        (
            "{type: time_window, start: 2026-01-01, end: 2027-01-01, cron_schedule: '0 0 * * 2', end_offset: 1}",
            dg.TimeWindowPartitionsDefinition(
                start="2026-01-01", end="2027-01-01", fmt="%Y-%m-%d", cron_schedule="0 0 * * 2", end_offset=1
            ),
        ),
        (
            "'{{ daily }}'",
            dg.DailyPartitionsDefinition("2026-01-01"),
        ),
    ],
)
def test_every_kind_of_partitions_is_the_one_of_dagster(
    yaml: str, definition: dg.TimeWindowPartitionsDefinition
) -> None:
    assert declare(f"partitions_def: {yaml}", daily=definition).partitions_def == definition


def arguments_in_yaml(model: str) -> set[str]:
    """The arguments in the JSON schema, of each of which an editor shows a description."""
    component = FoundryDatasetsComponent.get_model_cls()
    assert component is not None
    properties = component.model_json_schema()["$defs"][model]["properties"]
    assert {name for name, of in properties.items() if "description" not in of} <= {"type"}
    return set(properties)


@pytest.mark.parametrize(
    ("model", "functions"),
    [
        ("RefreshModel", [Refresh]),
        ("ScheduleModel", [Schedule]),
        ("DatasetModel", [FoundryDataset]),
        ("FoundryContainerResource", [FoundryContainerResource]),
        ("FoundryParquetIOManager", [FoundryParquetIOManager]),
        ("RetryPolicyModel", [dg.RetryPolicy]),
        ("SchedulesModel", [build_foundry_schedules]),
        ("ConditionsModel", [foundry_automation_condition, build_foundry_automation_sensors]),
        ("SensorModel", [build_foundry_sensor]),
        ("ChecksModel", [build_foundry_checks]),
        ("FreshnessModel", [foundry_freshness_policy]),
    ],
)
def test_yaml_has_every_argument_of_python(model: str, functions: list[Callable[..., Any]]) -> None:
    arguments = {name for function in functions for name in inspect.signature(function).parameters}
    assert arguments_in_yaml(model) == arguments - _NOT_OPTIONS


def test_yaml_has_every_argument_of_shared_settings_of_partitions_and_of_the_definitions() -> None:
    settings = inspect.signature(FoundryDataset).parameters.keys() - {"name"}
    assert arguments_in_yaml("SettingsModel") == settings
    assert arguments_in_yaml("TomlModel") == settings | inspect.signature(datasets_from_toml).parameters.keys() - {
        "settings"
    }
    partitions = {name for kind in PARTITIONS_DEFS.values() for name in inspect.signature(kind).parameters}
    assert arguments_in_yaml("PartitionsDefModel") == partitions - {"kwargs", "schedule_type"} | {"type"}
    component = inspect.signature(FoundryDatasetsComponent).parameters.keys()
    assert inspect.signature(build_foundry_definitions).parameters.keys() - {"translator"} <= component


def test_yaml_has_every_option_of_the_assets() -> None:
    options = inspect.signature(build_foundry_assets).parameters.keys() - {"translator"}
    assert options <= inspect.signature(FoundryDatasetsComponent).parameters.keys()


def test_all_settings_of_a_dataset_reach_it() -> None:
    dataset = declare(
        f"""
start: 2026-01-01
schedule: {DAILY}
schema: {{id: Int64, at: "Datetime(ms, Europe/Berlin)", kind: "Enum(a, b)"}}
missing_version: accept
asset_key: sales/orders
description: All orders.
group_name: sales
owners: [team:sales, a@example.com]
tags: {{tier: gold}}
"""
    )
    assert dataset == FoundryDataset(
        "orders",
        DAILY_SCHEDULE,
        "2026-01-01",
        {"id": "Int64", "at": "Datetime(ms, Europe/Berlin)", "kind": "Enum(a, b)"},
        missing_version="accept",
        asset_key="sales/orders",
        description="All orders.",
        group_name="sales",
        owners=["team:sales", "a@example.com"],
        tags={"tier": "gold"},
    )


def test_slices_are_declared_by_their_time_column() -> None:
    settings = "time_column: updated_at\nallow_null_times: true\ncomplete_history: true"
    dataset = declare(f"start: 2026-01-01\nschedule: {DAILY}\n{settings}")
    assert dataset == FoundryDataset(
        "orders",
        DAILY_SCHEDULE,
        "2026-01-01",
        time_column="updated_at",
        allow_null_times=True,
        complete_history=True,
    )


@pytest.mark.parametrize(
    ("yaml", "executor"),
    [("in_process", dg.in_process_executor), ("'{{ ours }}'", dg.multi_or_in_process_executor), ("null", None)],
)
def test_the_executor_is_one_of_dagsters_or_of_the_project(yaml: str, executor: dg.ExecutorDefinition | None) -> None:
    component = load(f"executor: {yaml}", ours=dg.multi_or_in_process_executor)
    assert build(component).executor is executor


def test_templates_may_stand_for_values_and_for_whole_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FDTCC_TEST_PORT", "8123")
    monkeypatch.setenv("FDTCC_TEST_STAGE", "test")
    component = load(
        """
resource: {host: "{{ env.FDTCC_TEST_STAGE }}.example.com", port: "{{ env.FDTCC_TEST_PORT }}"}
datasets:
  - name: "orders_{{ env.FDTCC_TEST_STAGE }}"
    start: 2026-01-01
    schedule: "{{ calendar }}"
    schema: "{{ columns }}"
  - "{{ other }}"
""",
        calendar=DAILY_SCHEDULE,
        columns=pl.Schema({"id": pl.Int64()}),
        other=FoundryDataset("other", DAILY_SCHEDULE, "2026-01-01"),
    )
    assert component.resource == FoundryContainerResource(host="test.example.com", port=8123)
    assert list(component.datasets) == [
        FoundryDataset("orders_test", DAILY_SCHEDULE, "2026-01-01", {"id": "Int64"}),
        FoundryDataset("other", DAILY_SCHEDULE, "2026-01-01"),
    ]
    assert list(load('datasets: "{{ all }}"', all=component.datasets).datasets) == list(component.datasets)


def test_text_that_looks_like_a_number_stays_text() -> None:
    (dataset,) = load(f'datasets: [{{name: "2024", start: 2026-01-01, schedule: {DAILY}}}]').datasets
    assert dataset.name == "2024"


def test_null_in_an_override_takes_a_shared_setting_back(tmp_path: Path) -> None:
    path = tmp_path / "foundry_datasets.toml"
    path.write_text('[datasets]\norders = "x"\n"Customer Demographics" = "y"\n')
    component = load(
        f"""
from_toml:
  - path: {path}
    start: 2026-01-01
    schedule: {DAILY}
    schema: {{id: Int64}}
    overrides:
      orders: {{schema: null, partitions_def: {{type: daily, start_date: 2026-01-01}}}}
"""
    )
    orders, customers = component.from_toml
    assert orders.schema is None
    assert orders.partitions_def == dg.DailyPartitionsDefinition("2026-01-01")
    assert customers.schema == {"id": pl.Int64()}
    assert customers.schedule == DAILY_SCHEDULE


def test_the_resources_are_those_that_are_given() -> None:
    datasets = f"datasets: [{{name: orders, start: 2026-01-01, schedule: {DAILY}}}]"
    resources = build(load(f"{datasets}\nresource: {{}}")).resources or {}
    assert resources == {
        "foundry_container": FoundryContainerResource(),
        "foundry_io_manager": FoundryParquetIOManager(),
    }
    resources = build(load(f"{datasets}\nio_manager: {{base_dir: data}}\nio_manager_key: parquet")).resources or {}
    assert resources == {"parquet": FoundryParquetIOManager(base_dir="data")}
    assert not build(load(f"{datasets}\nio_manager_key: parquet")).resources
    nothing = load("resource: null\nio_manager: null")
    assert nothing.resource is None
    assert nothing.io_manager is None


def test_two_components_share_the_container_of_one_of_them() -> None:
    first = build(load(f"resource: {{}}\ndatasets: [{{name: a, start: 2026-01-01, schedule: {DAILY}}}]"))
    second = build(load(f"datasets: [{{name: b, start: 2026-01-01, schedule: {DAILY}}}]"))
    merged = dg.Definitions.merge(first, second)
    dg.Definitions.validate_loadable(merged)
    assert len(merged.resolve_all_asset_keys()) == 2


def test_components_share_resources_that_are_given_alike() -> None:
    given = "resource: {host: container, port: 8888}\nio_manager: {base_dir: data}"
    several = [
        build(load(f"{given}\ndatasets: [{{name: {name}, start: 2026-01-01, schedule: {DAILY}}}]")) for name in "ab"
    ]
    dg.Definitions.validate_loadable(dg.Definitions.merge(*several))


@pytest.mark.parametrize(
    ("field", "ours", "theirs"),
    [
        ("port", dg.EnvVar.int("OUR_PORT"), dg.EnvVar.int("THEIR_PORT")),
        ("host", dg.EnvVar("OUR_HOST"), "OUR_HOST"),
    ],
    ids=["number", "text"],
)
def test_variables_of_the_run_are_other_values_than_they_look_like(field: str, ours: object, theirs: object) -> None:
    resources = [
        load(f'resource: {{{field}: "{{{{ given }}}}"}}', given=given).resource for given in (ours, theirs, ours)
    ]
    assert resources[0] is not resources[1]
    assert resources[0] is resources[2]


def test_schedules_sensor_and_checks_are_made_as_they_are_said() -> None:
    datasets = f"datasets: [{{name: orders, start: 2026-01-01, schedule: {DAILY}}}]"
    plain = build(load(datasets))
    assert [len(list(made or [])) for made in (plain.schedules, plain.sensors, plain.asset_checks)] == [1, 0, 0]
    off = build(load(f"{datasets}\nautomation: null\nsensor: true\nchecks: true"))
    assert [len(list(made or [])) for made in (off.schedules, off.sensors, off.asset_checks)] == [0, 1, 1]
    (checks,) = off.asset_checks or []
    assert DECLARATION in {key.name for key in checks.check_keys}
    component = load(
        f"""
{datasets}
max_partitions_per_run: 3
pool: foundry
retry_policy: {{max_retries: 5, delay: 1.5, backoff: LINEAR, jitter: FULL}}
schedules: {{default_status: RUNNING, max_catchup: 0}}
sensor: {{name: net, lookback: 2, max_runs: 1, redeclared: true, minimum_interval_seconds: 30, default_status: RUNNING}}
checks: {{blocking: [foundry_row_count_announced], max_row_change: null, freshness_grace: 3h}}
"""
    )
    assert component.retry_policy == dg.RetryPolicy(5, 1.5, dg.Backoff.LINEAR, dg.Jitter.FULL)
    assert component.checks == {
        "blocking": ["foundry_row_count_announced"],
        "max_row_change": None,
        "freshness_grace": dt.timedelta(hours=3),
    }
    defs = build(component)
    (asset,) = defs.assets or []
    assert isinstance(asset, dg.AssetsDefinition)
    assert asset.backfill_policy == dg.BackfillPolicy.multi_run(3)
    assert asset.op.pool == "foundry"
    (schedule,) = defs.schedules or []
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    (sensor,) = defs.sensors or []
    assert (sensor.name, sensor.minimum_interval_seconds) == ("net", 30)
    assert load(f"{datasets}\nretry_policy: null").retry_policy is None


def conditions_and_policies(yaml: str) -> list[tuple[bool, dg.FreshnessPolicy | None]]:
    specs = build(load(f"datasets: [{{name: orders, start: 2026-01-01, schedule: {DAILY}}}]\n{yaml}")).assets or []
    return [
        (spec.automation_condition is not None, spec.freshness_policy)
        for asset in specs
        if isinstance(asset, dg.AssetsDefinition)
        for spec in asset.specs
    ]


def test_conditions_are_an_alternative_to_schedules() -> None:
    datasets = f"datasets: [{{name: orders, start: 2026-01-01, schedule: {DAILY}}}]"
    how = "conditions: {max_catchup: 2, name: asks, minimum_interval_seconds: 9, default_status: RUNNING}"
    defs = build(load(f"{datasets}\nautomation: condition\n{how}"))
    assert list(defs.schedules or []) == []
    (sensor,) = defs.sensors or []
    assert isinstance(sensor, dg.AutomationConditionSensorDefinition)
    assert (sensor.name, sensor.minimum_interval_seconds) == ("asks", 9)
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    (asset,) = defs.assets or []
    assert isinstance(asset, dg.AssetsDefinition)
    condition: Any = asset.specs_by_key[dg.AssetKey("orders")].automation_condition
    asks_the_calendar = condition.operands[0].trigger_condition
    assert isinstance(asks_the_calendar, RefreshBecameAvailable)
    assert asks_the_calendar.max_catchup == 2
    assert conditions_and_policies("") == [(False, None)]
    with pytest.raises(ValueError, match="schedules: goes with 'automation: schedule' only"):
        build(load(f"{datasets}\nautomation: condition\nschedules: {{shared: true}}"))
    with pytest.raises(ValueError, match="automation='cron' must be"):
        build(load(f"{datasets}\nautomation: '{{{{ other }}}}'", other="cron"))
    with pytest.raises(ValueError, match="conditions: goes with 'automation: condition' only"):
        build(load(f"{datasets}\nconditions: {{max_catchup: 2}}"))


@pytest.mark.parametrize(
    ("yaml", "hours"),
    [
        ("freshness: true", 1),
        ("freshness: {grace: 3h}", 3),
        ("checks: true", 1),
        ("checks: {}\nfreshness: null", 1),
        ("checks: true\nfreshness: false", None),
        ("freshness: false", None),
    ],
)
def test_freshness_comes_with_the_checks_or_as_it_is_said(yaml: str, hours: int | None) -> None:
    dataset = FoundryDataset("orders", DAILY_SCHEDULE, "2026-01-01")
    policy = None if hours is None else foundry_freshness_policy(dataset, grace=dt.timedelta(hours=hours))
    assert conditions_and_policies(yaml) == [(False, policy)]


def test_a_translation_changes_the_specs_and_a_subclass_may_make_them() -> None:
    class Component(FoundryDatasetsComponent):
        def get_asset_spec(self, dataset: FoundryDataset) -> dg.AssetSpec:
            return super().get_asset_spec(dataset).merge_attributes(tags={"source": "foundry"})

    component = Component.resolve_from_yaml(
        f"""
datasets: [{{name: orders, start: 2026-01-01, schedule: {DAILY}, tags: {{tier: gold}}}}]
translation: {{key_prefix: raw, owners: [team:a], tags: {{name: "{{{{ dataset.name }}}}"}}, kinds: [csv]}}
"""
    )
    (asset,) = build(component).assets or []
    assert isinstance(asset, dg.AssetsDefinition)
    (spec,) = asset.specs
    assert spec.key == dg.AssetKey(["raw", "orders"])
    assert {"tier": "gold", "source": "foundry", "name": "orders"}.items() <= spec.tags.items()
    assert list(spec.owners) == ["team:a"]
    (schedule,) = build(component).schedules or []
    assert schedule.name == "raw__orders_schedule"


def test_attributes_of_a_subclass_are_checked_and_accept_templates() -> None:
    # Made so because Dagster does not read the postponed annotations of a class in this module.
    own: list[Any] = [
        ("count", int | None, None),
        ("either", int | str, 0),
        ("limit", Annotated[int, dg.Resolver(lambda _, text: len(text), model_field_type=int | str)], 0),
        ("rules", Sequence[str], ()),
    ]
    component: Any = make_dataclass("Component", own, bases=(FoundryDatasetsComponent,))
    given = component.resolve_from_yaml("count: '{{ 3 }}'\neither: many\nlimit: many\nrules: [a]")
    assert (given.count, given.either, given.limit, list(given.rules)) == (3, "many", 4, ["a"])
    assert component.resolve_from_yaml("count: null").count is None
    for wrong in ("count: many", "rules: a"):
        with pytest.raises(ValidationError, match=rf"{wrong.partition(':')[0]} at <string>:2"):
            component.resolve_from_yaml(f"pool: p\n{wrong}")


@pytest.mark.parametrize("yaml", ["{id: Int64, amount: Decimal(12, 2)}", "{id: Enum(a, b, c), amount: Int64}"])
def test_a_data_type_with_a_comma_and_without_quotes_is_told_that_it_needs_them(yaml: str) -> None:
    with pytest.raises(ValidationError, match=r"schema at <string>:3.*\n.*(\{\w+: \"\w+\(\w+(, \w+)+\)\"\})") as caught:
        load(f"datasets:\n  - name: orders\n    schema: {yaml}")
    assert "valid string" not in str(caught.value)


@pytest.mark.parametrize("name", ["datasets", "from_toml", "resource", "io_manager", *_OPTIONS])
def test_a_template_may_stand_for_every_attribute(name: str) -> None:
    assert schema_errors({name: "{{ anything }}"}) == []
    assert schema_errors({name: "anything"}) != []


@pytest.mark.parametrize(
    ("yaml", "place", "message"),
    [
        (
            'datasets:\n  - name: a\n  - name: "{{ name }}"\n    start: 2026-01-01\n    schedule: ' + DAILY,
            "<string>:3 - datasets.1",
            "a string that is not empty, not None",
        ),
        ("from_toml:\n  - path: missing.toml", "<string>:2 - from_toml.0", "missing.toml"),
        (
            'resource:\n  port: "{{ number }}"',
            "<string>:1 - resource",
            "less than 65536",
        ),
        ('resource:\n  port: "{{ unknown }}"', "<string>:2 - resource.port", "'unknown' not found in scope"),
        ('retry_policy:\n  backoff: "{{ short }}"', "<string>:1 - retry_policy", "give one of LINEAR, EXPONENTIAL"),
        ('retry_policy:\n  delay: "{{ short }}"', "<string>:1 - retry_policy", "could not convert string to float"),
        ('freshness:\n  grace: "{{ short }}"', "<string>:1 - freshness", "give a minute or more"),
        ('checks:\n  freshness_grace: "{{ number }}"', "<string>:1 - checks", "99999 is no duration"),
    ],
)
def test_a_template_with_an_unusable_value_is_an_error_at_its_place(yaml: str, place: str, message: str) -> None:
    yaml = yaml.replace("  - name: a\n", f"  - {{name: a, start: 2026-01-01, schedule: {DAILY}}}\n")
    with pytest.raises(ResolutionException) as caught:
        load(yaml, name=None, number=99999, short="59s")
    assert place in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "yaml",
    [
        'resource:\n  host: "{{ env.UNSET }}"\n  port: 8888',
        'resource:\n  port: "{{ env.UNSET | int }}"',
        'resource:\n  host: "{{ env.UNSET | lower }}"',
        'io_manager:\n  base_dir: "s3://{{- env.UNSET -}}/foundry"',
        f'datasets:\n  - name: "{{{{ env.UNSET }}}}"\n    start: 2026-01-01\n    schedule: {DAILY}',
        'pool: "{{ env.UNSET }}"',
        'io_manager_key: "{{ env.UNSET }}"',
        'max_partitions_per_run: "{{ env.UNSET }}"',
        'automation: "{{ env.UNSET }}"',
        'retry_policy: "{{ env.UNSET }}"',
        'sensor: "{{ env.UNSET }}"',
    ],
)
def test_a_variable_that_is_not_set_is_named_and_what_to_do(yaml: str) -> None:
    with pytest.raises(ResolutionException) as caught:
        load(yaml)
    assert "variable UNSET is not set: set it, as in the file .env" in str(caught.value)
    assert "or give a default, such as {{ env('UNSET', 'default') }}" in str(caught.value)
    assert "<string>:" in str(caught.value)


def test_a_variable_that_is_not_set_is_an_error_in_a_translation() -> None:
    component = load(
        f"datasets:\n  - {{name: orders, start: 2026-01-01, schedule: {DAILY}}}\n"
        'translation: {group_name: "{{ env.UNSET }}"}'
    )
    with pytest.raises(ResolutionException, match="variable UNSET is not set: set it"):
        build(component)


def test_a_variable_that_is_not_set_may_have_a_default() -> None:
    component = load(
        "resource:\n  host: \"{{ env('UNSET', 'localhost') }}\"\n  bearer_token: '{{ env.UNSET_TOKEN }}'\n"
        'io_manager:\n  base_dir: "{% if env.UNSET %}{{ env.UNSET }}{% else %}data{% endif %}"\n'
        "pool: \"{{ env.UNSET or 'foundry' }}\"\n"
        "io_manager_key: \"{{ env('UNSET', default='parquet') }}\""
    )
    assert component.resource is not None
    assert component.resource.host == "localhost"
    assert isinstance(component.io_manager, FoundryParquetIOManager)
    assert component.io_manager.base_dir == "data"
    assert component.pool == "foundry"
    assert component.io_manager_key == "parquet"


def test_the_documented_files_are_valid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FDTCC_HOST", "localhost")
    monkeypatch.setenv("FDTCC_PORT", "8888")
    names = ["foundry.hr.monthly_closings", "foundry.hr.salaries", "foundry.hr.teams"]
    toml = tmp_path / "foundry_datasets.toml"
    toml.write_text("[datasets]\n" + "\n".join(f'"{name}" = "x"' for name in names))
    documentation = Path(__file__).parents[2] / "docs" / "component.md"
    files = re.findall(r"```yaml\n.*?attributes:\n(.*?)```", documentation.read_text(encoding="utf-8"), re.DOTALL)
    counts = []
    for text in files:
        component = load(textwrap.dedent(text).replace("path: foundry_datasets.toml", f"path: {toml}"))
        counts.append(len(list(build(component).assets or [])))
    assert counts == [2, 2]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"host": "127.0.0.1:8891"}, r"resource\.host\n.*: give host='127\.0\.0\.1', port=8891"),
        ({"port": 0}, r"resource\.port\n.*port=0 must be an integer from 1 to 65535"),
        ({"port": 65536}, r"resource\.port\n.*less than 65536"),
        ({"dataset": ""}, r"datasets\.0\.name\n.*at least 1 character"),
        ({"dataset": "00000000-0000-0000-0000-000000000000"}, r"datasets\.0\n.*not a RID or a uuid"),
        ({"start": "5"}, r"start\n.*'5' is no date; write it like 2026-01-31"),
        ({"start": "9000-01-01"}, r"datasets\.0\n.*give a year from 1800 to 8999"),
    ],
)
def test_what_could_not_be_loaded_is_not_scaffolded(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FoundryDatasetsScaffolderParams(**params)


def test_templates_can_be_scaffolded() -> None:
    FoundryDatasetsScaffolderParams(host="{{ env.FDTCC_HOST }}", dataset="orders_{{ env.STAGE }}")


def test_a_value_that_may_be_a_secret_is_not_shown_where_names_are_unknown() -> None:
    with pytest.raises(ValidationError) as caught:
        load("datasets:\n  - start: 2026-01-01\n    bearer_token: word\nresource: {bearer_tokn: word, on: word}")
    assert "'bearer_token' is not known here" in str(caught.value)
    assert "True is not known here" in str(caught.value)
    assert "Field required" in str(caught.value)
    assert "word" not in str(caught.value)


def test_a_container_s_file_can_be_scaffolded(tmp_path: Path) -> None:
    (tmp_path / "foundry_datasets.toml").write_text('[datasets]\norders = "x"\ncustomers = "y"\n')
    FoundryDatasetsScaffolder().scaffold(
        dg.ScaffoldRequest(
            type_name="fdtcc_dagster.FoundryDatasetsComponent",
            target_path=tmp_path,
            scaffold_format="yaml",
            project_root=None,
            params=FoundryDatasetsScaffolderParams(toml=str(tmp_path / "foundry_datasets.toml")),
        )
    )
    text = (tmp_path / "defs.yaml").read_text()
    component = load(textwrap.dedent(text.split("attributes:\n")[1]))
    assert [dataset.name for dataset in component.from_toml] == ["orders", "customers"]
