"""`FoundryDatasetsComponent`: everything that Python can say about datasets, in YAML."""

# No postponed annotations here: Dagster reads those of the component's fields.

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import dagster as dg
from dagster.components.utils.translation import (
    ComponentTranslator,
    TranslationFn,
    TranslationFnResolver,
    create_component_translator_cls,
)
from pydantic import BaseModel

from fdtcc_dagster.assets import DEFAULT_RETRY_POLICY, build_foundry_assets
from fdtcc_dagster.automation import (
    AutomatedTranslator,
    build_foundry_automation_sensors,
    foundry_automation_condition,
    foundry_freshness_policy,
)
from fdtcc_dagster.checks.partition_checks import build_foundry_checks
from fdtcc_dagster.components.foundry_datasets.environment import Environment
from fdtcc_dagster.components.foundry_datasets.models import DatasetModel, IOManagerModel, ResourceModel, TomlModel
from fdtcc_dagster.components.foundry_datasets.options import (
    ChecksModel,
    ConditionsModel,
    FreshnessModel,
    RetryPolicyModel,
    SchedulesModel,
    SensorModel,
    check_options,
    to_checks,
    to_conditions,
    to_freshness,
    to_retry_policy,
    to_schedules,
    to_sensor,
    with_options_checked,
)
from fdtcc_dagster.components.foundry_datasets.resolving import (
    resolve_datasets,
    resolve_resource,
    resolve_toml,
    resolver_of,
    with_secrets_refused,
)
from fdtcc_dagster.components.foundry_datasets.scaffolder import FoundryDatasetsScaffolder
from fdtcc_dagster.components.foundry_datasets.sharing import check_resources, shared
from fdtcc_dagster.components.foundry_datasets.templates import Templated, without_unions
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.definitions import IO_MANAGER_KEY, Automation, check_automation, default_io_manager
from fdtcc_dagster.io_manager import FoundryParquetIOManager
from fdtcc_dagster.resource import FoundryContainerResource
from fdtcc_dagster.schedules import build_foundry_schedules
from fdtcc_dagster.sensors import build_foundry_sensor
from fdtcc_dagster.translator import FoundryDatasetTranslator


@dg.scaffold_with(FoundryDatasetsScaffolder)
@dataclass
class FoundryDatasetsComponent(dg.Component, dg.Resolvable):
    """Palantir Foundry datasets, through the Foundry DevTools Container, as partitioned assets with schedules.

    ``dg scaffold defs fdtcc_dagster.FoundryDatasetsComponent {defs_path}`` writes a ``defs.yaml`` for a start.
    """

    datasets: Annotated[
        Sequence[FoundryDataset],
        dg.Resolver(
            resolve_datasets,
            model_field_type=list[Annotated[DatasetModel, Templated()]],
            description="The datasets.",
        ),
    ] = ()
    from_toml: Annotated[
        Sequence[FoundryDataset],
        dg.Resolver(
            resolve_toml,
            model_field_type=list[Annotated[TomlModel, Templated()]],
            description="More datasets: those in the container's own foundry_datasets.toml, with settings they share.",
        ),
    ] = ()
    resource: Annotated[
        "FoundryContainerResource | None",  # quoted: Dagster would look for limits in its fields, and refuse them
        dg.Resolver(
            resolve_resource,
            model_field_type=ResourceModel,
            description="The container. Left out, the project has a resource 'foundry_container' elsewhere.",
        ),
    ] = None
    io_manager: Annotated[
        "dg.ConfigurableIOManager | dg.IOManagerDefinition | None",
        dg.Resolver(
            resolver_of(shared(FoundryParquetIOManager)),
            model_field_type=IOManagerModel,
            description="A FoundryParquetIOManager that stores the partitions. Left out together with io_manager_key, "
            "one in the storage directory of the Dagster instance.",
        ),
    ] = None
    io_manager_key: Annotated[
        str | None,
        dg.Resolver.default(
            description="The resource key of the IO manager. Without io_manager, the project has it elsewhere."
        ),
    ] = None
    max_partitions_per_run: Annotated[
        int | None, dg.Resolver.default(description="How many partitions of a backfill share a run; null for all.")
    ] = None
    pool: Annotated[
        str | None, dg.Resolver.default(description="The Dagster pool of the assets' steps, which limits all runs.")
    ] = None
    retry_policy: Annotated[
        dg.RetryPolicy | None,
        dg.Resolver(
            resolver_of(to_retry_policy),
            model_field_type=Annotated[RetryPolicyModel, Templated(nullable=True)],
            description="When a step is attempted again after a failure that may pass; null for never.",
        ),
    ] = DEFAULT_RETRY_POLICY
    automation: Annotated[
        Automation | None,
        dg.Resolver(
            # The values of templates come without this, so they are checked when all is built.
            resolver_of(lambda value: value),
            model_field_type=Annotated[Literal["schedule", "condition"], Templated(nullable=True)],
            description="What requests a partition when its refresh is available: schedules, the assets' conditions, "
            "or null for nothing.",
        ),
    ] = "schedule"
    schedules: Annotated[
        Mapping[str, Any] | None,
        dg.Resolver(
            resolver_of(to_schedules),
            model_field_type=SchedulesModel,
            description="With automation: schedule, how the schedules are made.",
        ),
    ] = None
    conditions: Annotated[
        Mapping[str, Any] | None,
        dg.Resolver(
            resolver_of(to_conditions),
            model_field_type=ConditionsModel,
            description="With automation: condition, how the conditions and the sensors that evaluate them are made.",
        ),
    ] = None
    sensor: Annotated[
        bool | Mapping[str, Any],
        dg.Resolver(
            resolver_of(to_sensor),
            model_field_type=Annotated[SensorModel, Templated(switch=True)],
            description="A sensor that requests what is available and missing: true, false, or how.",
        ),
    ] = False
    checks: Annotated[
        bool | Mapping[str, Any],
        dg.Resolver(
            resolver_of(to_checks),
            model_field_type=Annotated[ChecksModel, Templated(switch=True)],
            description="Checks of the stored partitions: true, false, or how.",
        ),
    ] = False
    freshness: Annotated[
        bool | Mapping[str, Any] | None,
        dg.Resolver(
            resolver_of(to_freshness),
            model_field_type=Annotated[FreshnessModel, Templated(switch=True, nullable=True)],
            description="Freshness policies where one fits: true, false, or how. Left out, they come with the checks.",
        ),
    ] = None
    translation: Annotated[
        Annotated[
            TranslationFn[FoundryDataset],
            TranslationFnResolver(template_vars_for_translation_fn=lambda dataset: {"dataset": dataset}),
        ]
        | None,
        dg.Resolver.default(
            description="Attributes of all assets, in which templates may use 'dataset', and 'spec' as it would be."
        ),
    ] = None

    @classmethod
    def model(cls) -> type[BaseModel]:
        """The model of the YAML's attributes, whose errors point at the very line."""
        return with_secrets_refused(with_options_checked(without_unions(super().model())))

    @classmethod
    def get_additional_scope(cls) -> Mapping[str, Any]:
        """What templates may use besides Dagster's own: an `env` in which a variable that is not set is an error."""
        return {"env": Environment(), **super().get_additional_scope()}

    @property
    def translator(self) -> FoundryDatasetTranslator:
        """Gives the assets' keys, groups, tags and so on: `get_asset_spec`, and then `translation`."""
        return _Translator(self)

    def get_asset_spec(self, dataset: FoundryDataset) -> dg.AssetSpec:
        """Describe a dataset's asset; override it in a subclass to follow conventions of your own.

        Args:
            dataset: The dataset.

        Returns:
            The spec of `FoundryDatasetTranslator`; `translation` is applied to it afterwards.
        """
        return FoundryDatasetTranslator().get_asset_spec(dataset)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Make the definitions; called by Dagster.

        Args:
            context: Dagster's context.

        Returns:
            An asset for each dataset, the schedules, sensor and checks that are on, and the resources that are given.

        Raises:
            ValueError: Two datasets have the same asset key, the automation is unknown, there are options of one that
                is not on, or another file of the project gives another resource with the same key.
        """
        check_automation(self.automation)
        check_options("schedules", self.schedules, self.automation)
        check_options("conditions", self.conditions, self.automation)
        datasets = [*self.datasets, *self.from_toml]
        key = self.io_manager_key or IO_MANAGER_KEY
        resources: dict[str, Any] = {}
        if self.resource is not None:
            resources["foundry_container"] = self.resource
        if self.io_manager is not None or self.io_manager_key is None:
            resources[key] = self.io_manager or default_io_manager()
        check_resources(context, resources)
        return dg.Definitions(
            assets=build_foundry_assets(
                datasets,
                translator=self._automated(),
                io_manager_key=key,
                max_partitions_per_run=self.max_partitions_per_run,
                pool=self.pool,
                retry_policy=self.retry_policy,
            ),
            schedules=self._made_by(build_foundry_schedules, datasets, self._options("schedule", self.schedules)),
            sensors=[
                *self._made_by(
                    build_foundry_automation_sensors,
                    datasets,
                    self._options("condition", self.conditions, "max_catchup"),
                ),
                *self._made_by(
                    lambda *args, **options: [build_foundry_sensor(*args, **options)], datasets, self.sensor
                ),
            ],
            asset_checks=self._made_by(build_foundry_checks, datasets, self.checks),
            resources=resources,
        )

    def _automated(self) -> FoundryDatasetTranslator:
        """The translator, and the conditions and policies that are on."""
        catchup = {name: value for name, value in (self.conditions or {}).items() if name == "max_catchup"}
        grace = self.freshness if isinstance(self.freshness, Mapping) else {}
        fresh = (self.checks if self.freshness is None else self.freshness) is not False
        return AutomatedTranslator(
            self.translator,
            condition=partial(foundry_automation_condition, **catchup) if self.automation == "condition" else None,
            freshness=partial(foundry_freshness_policy, **grace) if fresh else None,
        )

    def _options(self, automation: str, options: Mapping[str, Any] | None, *others: str) -> bool | Mapping[str, Any]:
        """The options of an automation, but for those of another function; False if it is off."""
        if self.automation != automation:
            return False
        return {name: value for name, value in (options or {}).items() if name not in others}

    def _made_by(
        self,
        build: Callable[..., list[Any]],
        datasets: Sequence[FoundryDataset],
        options: bool | Mapping[str, Any],
    ) -> list[Any]:
        if options is False or not datasets:
            return []
        return build(datasets, translator=self.translator, **({} if options is True else options))


class _Translator(
    create_component_translator_cls(FoundryDatasetsComponent, FoundryDatasetTranslator),  # type: ignore[misc]
    ComponentTranslator[FoundryDatasetsComponent],
):
    def __init__(self, component: FoundryDatasetsComponent) -> None:
        self._component = component

    def get_asset_spec(self, dataset: FoundryDataset) -> dg.AssetSpec:
        spec: dg.AssetSpec = super().get_asset_spec(dataset)
        return spec if self.component.translation is None else self.component.translation(spec, dataset)
