"""Everything for a list of datasets at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import dagster as dg

from fdtcc_dagster.arguments import flag, instance_of, kind_of, members
from fdtcc_dagster.assets import DEFAULT_RETRY_POLICY, build_foundry_assets
from fdtcc_dagster.automation import (
    AutomatedTranslator,
    build_foundry_automation_sensors,
    foundry_automation_condition,
    foundry_freshness_policy,
)
from fdtcc_dagster.checks.partition_checks import build_foundry_checks
from fdtcc_dagster.dagster_internals import ConfigurableIOManagerFactory, PartialResource
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.errors import did_you_mean
from fdtcc_dagster.resource import RESOURCE_KEY, FoundryContainerResource, check_resource
from fdtcc_dagster.schedules import build_foundry_schedules
from fdtcc_dagster.sensors import build_foundry_sensor
from fdtcc_dagster.translator import FoundryDatasetTranslator, checked_translator, upstream_specs

if TYPE_CHECKING:
    from fdtcc_dagster.io_manager import FoundryParquetIOManager

IO_MANAGER_KEY = "foundry_io_manager"

Automation = Literal["schedule", "condition"]
Options: TypeAlias = Mapping[str, Any] | None


def build_foundry_definitions(
    datasets: Sequence[FoundryDataset],
    *,
    resource: FoundryContainerResource,
    resource_key: str = RESOURCE_KEY,
    io_manager: dg.ConfigurableIOManager | dg.IOManagerDefinition | None = None,
    translator: FoundryDatasetTranslator | None = None,
    automation: Automation | None = "schedule",
    sensor: bool = False,
    checks: bool = False,
    max_partitions_per_run: int | None = None,
    pool: str | None = None,
    retry_policy: dg.RetryPolicy | None = DEFAULT_RETRY_POLICY,
    executor: dg.ExecutorDefinition | dg.Executor | None = None,
) -> dg.Definitions:
    """Make complete definitions of datasets: an asset for each, what requests its partitions, and their resources.

    Schedules and sensors are stopped until they are switched on in the UI.

    Args:
        datasets: The datasets.
        resource: The container, which becomes the resource with the key `resource_key`.
        resource_key: Another key for each of several containers, whose definitions are merged. Its sensors are named
            after it.
        io_manager: Stores the partitions, as the resource `foundry_io_manager`; by default a `FoundryParquetIOManager`
            in the storage directory of the Dagster instance.
        translator: Gives the assets' keys, groups, tags and so on.
        automation: What requests a partition when its data become available: `"schedule"`, a schedule for each dataset;
            `"condition"`, an `AutomationCondition` of each asset, with the sensors that evaluate it; or None, nothing.
        sensor: Whether there is also a sensor, for available partitions that are missing, as after a downtime.
        checks: Whether there are the checks of `build_foundry_checks`, with a `FreshnessPolicy` in place of the check
            of freshness where one fits.
        max_partitions_per_run: As for `build_foundry_assets`.
        pool: As for `build_foundry_assets`.
        retry_policy: As for `build_foundry_assets`.
        executor: What executes the steps of runs, such as dagster-celery's `celery_executor`; None: Dagster's default.

    Returns:
        The definitions, to be used as they are or merged with others by `dg.Definitions.merge`.

    Raises:
        ValueError: An argument is not valid, or two datasets have the same asset key.
    """
    check_automation(automation)
    check_resource(resource)
    check_io_manager(io_manager)
    if executor is not None:
        meant = "executor, such as dagster.in_process_executor"
        instance_of("executor", executor, (dg.ExecutorDefinition, dg.Executor), meant, kind_of)
    flag("sensor", sensor)
    flag("checks", checks)
    given: Options = {} if checks else None
    return assemble(
        members("datasets", datasets, "FoundryDataset"),
        checked_translator(translator),
        resources={
            resource_key: resource,
            IO_MANAGER_KEY: default_io_manager() if io_manager is None else io_manager,
        },
        automation=automation,
        sensor={} if sensor else None,
        checks=given,
        freshness=given,
        resource_key=resource_key,
        max_partitions_per_run=max_partitions_per_run,
        pool=pool,
        retry_policy=retry_policy,
        executor=executor,
    )


def assemble(
    datasets: Sequence[FoundryDataset],
    translator: FoundryDatasetTranslator,
    *,
    resources: Mapping[str, Any],
    automation: Automation | None,
    schedules: Options = None,
    conditions: Options = None,
    sensor: Options = None,
    checks: Options = None,
    freshness: Options = None,
    resource_key: str = RESOURCE_KEY,
    io_manager_key: str = IO_MANAGER_KEY,
    executor: dg.ExecutorDefinition | dg.Executor | None = None,
    **assets: Any,
) -> dg.Definitions:
    """Make what `build_foundry_definitions` and the component have in common.

    The options are arguments of the functions that make each part; those of the conditions also have `max_catchup`.
    Without `sensor`, `checks` or `freshness` there is none. All else goes to `build_foundry_assets`.
    """
    asking = dict(conditions or {})
    condition = {"max_catchup": asking.pop("max_catchup")} if "max_catchup" in asking else {}

    @cache
    def policy(dataset: FoundryDataset) -> dg.FreshnessPolicy | None:
        return None if freshness is None else foundry_freshness_policy(dataset, **freshness)

    described = AutomatedTranslator(
        translator,
        condition=partial(foundry_automation_condition, **condition) if automation == "condition" else None,
        freshness=None if freshness is None else policy,
    )
    made = build_foundry_assets(
        datasets, translator=described, resource_key=resource_key, io_manager_key=io_manager_key, **assets
    )
    # The definitions of several containers are merged, and Dagster refuses two sensors with one name.
    stem = "foundry" if resource_key == RESOURCE_KEY else resource_key
    sensors: list[dg.SensorDefinition] = []
    if automation == "condition":
        named = {"name": f"{stem}_automation", **asking}
        sensors += build_foundry_automation_sensors(datasets, translator=translator, **named)
    if sensor is not None and datasets:
        sensors.append(build_foundry_sensor(datasets, translator=translator, **{"name": f"{stem}_sensor", **sensor}))
    by_schedule = automation == "schedule"
    return dg.Definitions(
        assets=[*made, *upstream_specs(datasets, translator, (key for asset in made for key in asset.keys))],
        schedules=build_foundry_schedules(datasets, translator=translator, **(schedules or {})) if by_schedule else [],
        sensors=sensors,
        asset_checks=[
            check
            for dataset in (datasets if checks is not None else ())
            for check in build_foundry_checks(
                [dataset], translator=translator, **_checks_beside(policy(dataset), checks or {})
            )
        ],
        resources=resources,
        executor=executor,
    )


def _checks_beside(policy: dg.FreshnessPolicy | None, checks: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of a dataset's checks: no check of freshness beside a policy, as the two may disagree."""
    return checks if policy is None else {"freshness_grace": None, **checks}


@cache
def default_io_manager() -> FoundryParquetIOManager:
    """The one IO manager of all definitions that name none: Dagster refuses to merge two that only look the same."""
    from fdtcc_dagster.io_manager import FoundryParquetIOManager

    return FoundryParquetIOManager()


def check_automation(automation: object) -> None:
    """Refuse what is not an `Automation`."""
    if automation not in ("schedule", "condition", None):
        meant = did_you_mean(automation, ("schedule", "condition"))
        raise ValueError(f"automation={automation!r} must be 'schedule', 'condition' or None{meant}")


def check_io_manager(io_manager: object) -> None:
    """Refuse what is not an IO manager and does not become one, such as a place, a class or a dictionary."""
    kinds = (dg.IOManager, dg.ResourceDefinition, ConfigurableIOManagerFactory, PartialResource)
    if io_manager is not None:
        meant = "IO manager: give FoundryParquetIOManager(base_dir=…)"
        instance_of("io_manager", io_manager, kinds, meant, kind_of)
