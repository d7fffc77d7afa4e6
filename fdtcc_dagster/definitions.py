"""Everything for a list of datasets at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal

import dagster as dg
from dagster._config.pythonic_config.io_manager import ConfigurableIOManagerFactory
from dagster._config.pythonic_config.resource import PartialResource

from fdtcc_dagster.arguments import flag, instance_of, kind_of, members
from fdtcc_dagster.assets import DEFAULT_RETRY_POLICY, build_foundry_assets
from fdtcc_dagster.automation import (
    AutomatedTranslator,
    build_foundry_automation_sensors,
    foundry_automation_condition,
    foundry_freshness_policy,
)
from fdtcc_dagster.checks.partition_checks import build_foundry_checks
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.errors import did_you_mean
from fdtcc_dagster.resource import FoundryContainerResource, check_resource
from fdtcc_dagster.schedules import build_foundry_schedules
from fdtcc_dagster.sensors import build_foundry_sensor
from fdtcc_dagster.targets import checked_translator
from fdtcc_dagster.translator import FoundryDatasetTranslator

if TYPE_CHECKING:
    from fdtcc_dagster.io_manager import FoundryParquetIOManager

IO_MANAGER_KEY = "foundry_io_manager"

Automation = Literal["schedule", "condition"]


def build_foundry_definitions(
    datasets: Sequence[FoundryDataset],
    *,
    resource: FoundryContainerResource,
    io_manager: dg.ConfigurableIOManager | dg.IOManagerDefinition | None = None,
    translator: FoundryDatasetTranslator | None = None,
    automation: Automation | None = "schedule",
    sensor: bool = False,
    checks: bool = False,
    max_partitions_per_run: int | None = None,
    pool: str | None = None,
    retry_policy: dg.RetryPolicy | None = DEFAULT_RETRY_POLICY,
) -> dg.Definitions:
    """Make complete definitions of datasets: an asset for each, what requests its partitions, and their resources.

    Schedules and sensors are stopped until they are switched on in the UI.

    Args:
        datasets: The datasets.
        resource: The container, which becomes the resource `foundry_container`.
        io_manager: Stores the partitions, as the resource `foundry_io_manager`; by default a `FoundryParquetIOManager`
            in the storage directory of the Dagster instance.
        translator: Gives the assets' keys, groups, tags and so on.
        automation: What requests a partition when its data become available: `"schedule"`, a schedule for each dataset;
            `"condition"`, an `AutomationCondition` of each asset, with the sensors that evaluate it; or None, nothing.
        sensor: Whether there is also a sensor, for available partitions that are missing, as after a downtime.
        checks: Whether there are the checks of `build_foundry_checks`, and a `FreshnessPolicy` if one fits.
        max_partitions_per_run: As for `build_foundry_assets`.
        pool: As for `build_foundry_assets`.
        retry_policy: As for `build_foundry_assets`.

    Returns:
        The definitions, to be used as they are or merged with others by `dg.Definitions.merge`.

    Raises:
        ValueError: An argument is not valid, or two datasets have the same asset key.
    """
    check_automation(automation)
    check_resource(resource)
    check_io_manager(io_manager)
    flag("sensor", sensor)
    flag("checks", checks)
    datasets, translator = members("datasets", datasets, "FoundryDataset"), checked_translator(translator)
    described = AutomatedTranslator(
        translator,
        condition=foundry_automation_condition if automation == "condition" else None,
        freshness=foundry_freshness_policy if checks else None,
    )
    return dg.Definitions(
        assets=build_foundry_assets(
            datasets,
            translator=described,
            io_manager_key=IO_MANAGER_KEY,
            max_partitions_per_run=max_partitions_per_run,
            pool=pool,
            retry_policy=retry_policy,
        ),
        schedules=build_foundry_schedules(datasets, translator=translator) if automation == "schedule" else [],
        sensors=[
            *(build_foundry_automation_sensors(datasets, translator=translator) if automation == "condition" else []),
            *([build_foundry_sensor(datasets, translator=translator)] if sensor and datasets else []),
        ],
        asset_checks=build_foundry_checks(datasets, translator=translator) if checks else [],
        resources={
            "foundry_container": resource,
            IO_MANAGER_KEY: default_io_manager() if io_manager is None else io_manager,
        },
    )


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
