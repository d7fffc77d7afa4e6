"""`FoundryDatasetsComponent`: everything that Python can say about datasets, in YAML."""

# No postponed annotations here: Dagster reads those of the component's fields.

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

import dagster as dg
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import BaseModel, Field, ValidationInfo, create_model, field_validator, model_validator

from fdtcc_dagster.assets import DEFAULT_RETRY_POLICY
from fdtcc_dagster.client.directories import expand_home
from fdtcc_dagster.components import models
from fdtcc_dagster.components.models import descriptions_of
from fdtcc_dagster.components.resources import check_resources, leave_to_the_run, refuse_secrets
from fdtcc_dagster.components.scaffolder import FoundryDatasetsScaffolder
from fdtcc_dagster.components.yaml_types import Environment, Known, OrTemplate, Yaml, is_template, render, yaml_of
from fdtcc_dagster.dagster_internals import CheckError
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.datasets_toml import datasets_from_toml
from fdtcc_dagster.definitions import IO_MANAGER_KEY, Automation, assemble, check_automation, default_io_manager
from fdtcc_dagster.errors import FdtccError
from fdtcc_dagster.resource import RESOURCE_KEY, FoundryContainerResource
from fdtcc_dagster.translator import FoundryDatasetTranslator
from fdtcc_dagster.yaml_lines import check

if TYPE_CHECKING:
    from typing_extensions import Self

_AUTOMATION_OF = {"schedules": "schedule", "conditions": "condition"}
"""Attribute with options → the automation that uses them."""


def _attribute(form: Any, resolve: Callable[[dg.ResolutionContext, Any], Any] | None = None) -> dg.Resolver:
    """Describe an attribute: its YAML type, and how to build Python's object from it, by default as the type says."""

    def build(context: dg.ResolutionContext, value: Any) -> Any:
        return _located(context, value, yaml_of(form).python)

    return dg.Resolver(resolve or build, model_field_type=form, inject_before_resolve=False)


def _located(context: dg.ResolutionContext, value: Any, build: Callable[[Any], Any]) -> Any:
    """Evaluate the templates in a value and build an object of it; errors have the line of the YAML."""
    try:
        return build(render(context, value))
    except (FdtccError, CheckError, dg.DagsterError, OSError, OverflowError, TypeError, ValueError) as error:
        raise context.build_resolve_fn_exc([str(error)], field_name=str(context.path[-1]), model=value) from None


def _each(context: dg.ResolutionContext, value: Any, build: Callable[[Any], Any]) -> list[Any]:
    """Build an object from each item; one template may replace the whole list."""
    if not isinstance(value, list):
        return list(_located(context, value, list))
    return [_located(context.at_path(index), item, build) for index, item in enumerate(value)]


def _resolve_datasets(context: dg.ResolutionContext, value: Any) -> list[FoundryDataset]:
    return _each(context, value, yaml_of(models.DATASET).python)


def _resolve_resource(context: dg.ResolutionContext, value: Any) -> Any:
    return _located(context, leave_to_the_run(value), yaml_of(models.RESOURCE).python)


def _resolve_io_manager(context: dg.ResolutionContext, value: Any) -> Any:
    return _located(context, leave_to_the_run(value), yaml_of(models.IO_MANAGER).python)


def _resolve_toml(context: dg.ResolutionContext, value: Any) -> list[FoundryDataset]:
    def declare(values: Any) -> list[FoundryDataset]:
        arguments = yaml_of(models.TOML).build(values)
        # An absolute path stays unchanged.
        path = context.resolve_source_relative_path(str(expand_home("path", arguments.pop("path"))))
        return datasets_from_toml(path, **arguments)

    found = _each(context, value, declare)
    return [dataset for datasets in found for dataset in datasets] if isinstance(value, list) else found


def _resolve_translation(context: dg.ResolutionContext, value: Any) -> Any:
    if value is None:
        return None
    model = dg.AssetAttributesModel(**value) if isinstance(value, dict) else value
    resolver: TranslationFnResolver[FoundryDataset] = TranslationFnResolver(lambda dataset: {"dataset": dataset})
    return resolver.fn.callable(context, model)


@dg.scaffold_with(FoundryDatasetsScaffolder)
@dataclass
class FoundryDatasetsComponent(dg.Component, dg.Resolvable):
    """Palantir Foundry datasets, through the Foundry DevTools Container, as partitioned assets with schedules.

    ``dg scaffold defs fdtcc_dagster.FoundryDatasetsComponent {defs_path}`` writes a ``defs.yaml`` to begin with.

    Attributes:
        datasets: The datasets.
        from_toml: More datasets: those in the container's own foundry_datasets.toml, with settings they share.
        resource: The container. Leave it out if the project defines the resource elsewhere.
        resource_key: The resource key of the container, by default foundry_container; each of several has its own.
        io_manager: A FoundryParquetIOManager that stores the partitions. If it and io_manager_key are left out, one in
            the storage directory of the Dagster instance.
        io_manager_key: The resource key of the IO manager. Without io_manager, the project defines it elsewhere.
        max_partitions_per_run: How many partitions of a backfill share a run; null for all.
        pool: The Dagster pool of the assets' steps, which limits all runs.
        retry_policy: When a step is retried after a failure that may pass by itself; null for never.
        executor: What executes the steps of runs: in_process, multiprocess, or a template that gives another, such as
            Celery's; null for Dagster's default.
        automation: What requests a partition when its refresh is available: schedules, the assets' conditions, or null
            for nothing.
        schedules: With `automation: schedule`, the options of the schedules.
        conditions: With `automation: condition`, the options of the conditions and of the sensors that evaluate them.
        sensor: A sensor that requests missing partitions that are available: true, false, or its options.
        checks: Checks of the stored partitions: true, false, or their options.
        freshness: Freshness policies where one fits: true, false, or their options. By default on with the checks.
        translation: Attributes of all assets; their templates may use `dataset`, and `spec`, the asset's spec so far.
    """

    datasets: Annotated[Sequence[FoundryDataset], _attribute(models.DATASETS, _resolve_datasets)] = ()
    from_toml: Annotated[Sequence[FoundryDataset], _attribute(models.TOMLS, _resolve_toml)] = ()
    # Quoted: Dagster would look for limits in the fields of resources, and refuse them.
    resource: Annotated["FoundryContainerResource | None", _attribute(models.RESOURCE, _resolve_resource)] = None
    resource_key: Annotated[str | None, _attribute(models.TEXT)] = None
    io_manager: Annotated[
        "dg.ConfigurableIOManager | dg.IOManagerDefinition | None", _attribute(models.IO_MANAGER, _resolve_io_manager)
    ] = None
    io_manager_key: Annotated[str | None, _attribute(models.TEXT)] = None
    max_partitions_per_run: Annotated[int | None, _attribute(models.NUMBER)] = None
    pool: Annotated[str | None, _attribute(models.TEXT)] = None
    retry_policy: Annotated[dg.RetryPolicy | None, _attribute(models.RETRY_POLICY)] = DEFAULT_RETRY_POLICY
    executor: Annotated[dg.ExecutorDefinition | dg.Executor | None, _attribute(models.EXECUTOR)] = None
    automation: Annotated[Automation | None, _attribute(models.AUTOMATION)] = "schedule"
    schedules: Annotated[Mapping[str, Any] | None, _attribute(models.SCHEDULES)] = None
    conditions: Annotated[Mapping[str, Any] | None, _attribute(models.CONDITIONS)] = None
    sensor: Annotated[bool | Mapping[str, Any], _attribute(models.SENSOR)] = False
    checks: Annotated[bool | Mapping[str, Any], _attribute(models.CHECKS)] = False
    freshness: Annotated[bool | Mapping[str, Any] | None, _attribute(models.FRESHNESS)] = None
    translation: Annotated[
        TranslationFn[FoundryDataset] | None, _attribute(models.TRANSLATION, _resolve_translation)
    ] = None

    @classmethod
    def model(cls) -> type[BaseModel]:
        """The model of the YAML's attributes, whose errors point at their line."""
        derived, descriptions = super().model(), descriptions_of(FoundryDatasetsComponent)
        texts = {field.name for field in dataclasses.fields(cls) if _may_be_text(field.type)}
        fields: dict[str, Any] = {}
        for name, field in derived.model_fields.items():
            # Dagster has made a union of each type with text, for templates; types with `Yaml` accept them themselves.
            options = get_args(field.annotation)
            kinds = [option for option in options if option not in (str, NoneType)]
            if len(kinds) != 1 or options[-1] is not str:
                continue
            if isinstance(yaml_of(kinds[0]), Yaml):
                fields[name] = (kinds[0], Field(field.default, description=descriptions.get(name)))
            elif name not in texts:  # a subclass's
                kind, others = kinds[0], (NoneType,) if NoneType in options else ()
                if get_origin(kind) is Sequence:  # Dagster cannot repeat pydantic's error about text instead of it
                    kind = list[get_args(kind)]  # type: ignore[misc]
                fields[name] = (Annotated[kind, OrTemplate(others=others)], field)
        return create_model(derived.__name__, __base__=(_Checked, derived), __doc__=derived.__doc__, **fields)

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> "Self":
        """Load a component; Dagster calls it.

        Args:
            attributes: The attributes of its YAML.
            context: Dagster's context.

        Returns:
            The component.

        Raises:
            ValueError: The YAML has a key twice, of which Dagster takes the last one.
        """
        for name in ("", "defs.yaml", "defs.yml", "component.yaml"):
            file = context.component_path.file_path / name
            if file.suffix in (".yaml", ".yml") and file.is_file():
                check(file.read_text(encoding="utf-8"), str(file))
        return super().load(attributes, context)

    @classmethod
    def get_additional_scope(cls) -> Mapping[str, Any]:
        """Add an `env` to what templates may use, in which a variable that is not set is an error."""
        return {"env": Environment(), **super().get_additional_scope()}

    @property
    def translator(self) -> FoundryDatasetTranslator:
        """The translator of the datasets: `get_asset_spec`, and then `translation`."""
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
        """Make the definitions; Dagster calls it.

        Args:
            context: Dagster's context.

        Returns:
            An asset for each dataset, the schedules, sensor and checks that are on, and the given resources.

        Raises:
            ValueError: Two datasets have the same asset key, the automation is unknown, there are options of an
                automation that is off, or another file of the project gives another resource with the same key.
        """
        check_automation(self.automation)
        _check_options("schedules", self.schedules, self.automation)
        _check_options("conditions", self.conditions, self.automation)
        key, resource_key = self.io_manager_key or IO_MANAGER_KEY, self.resource_key or RESOURCE_KEY
        resources: dict[str, Any] = {}
        if self.resource is not None:
            resources[resource_key] = self.resource
        if self.io_manager is not None or self.io_manager_key is None:
            resources[key] = self.io_manager or default_io_manager()
        check_resources(context, resources)
        return assemble(
            [*self.datasets, *self.from_toml],
            self.translator,
            resources=resources,
            resource_key=resource_key,
            io_manager_key=key,
            automation=self.automation,
            schedules=self.schedules,
            conditions=self.conditions,
            sensor=_switched(self.sensor),
            checks=_switched(self.checks),
            freshness=_switched(self.checks is not False if self.freshness is None else self.freshness),
            max_partitions_per_run=self.max_partitions_per_run,
            pool=self.pool,
            retry_policy=self.retry_policy,
            executor=self.executor,
        )


class _Checked(Known):
    """Checks of all attributes together."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_secrets(cls, attributes: object) -> object:
        # First and alone, because other errors repeat values of YAML.
        refuse_secrets(cls.__name__, attributes)
        return attributes

    @field_validator("schedules", "conditions", check_fields=False)
    @classmethod
    def _check_options(cls, value: object, info: ValidationInfo) -> object:
        automation = info.data.get("automation", "{{ refused itself }}")
        if not (is_template(value) or is_template(automation)):
            _check_options(str(info.field_name), value, automation)
        return value


class _Translator(FoundryDatasetTranslator):
    """The translator of a component; a subclass and `translation` may change its specs."""

    def __init__(self, component: FoundryDatasetsComponent) -> None:
        self._component = component

    def get_asset_spec(self, dataset: FoundryDataset) -> dg.AssetSpec:
        spec, translation = self._component.get_asset_spec(dataset), self._component.translation
        return spec if translation is None else translation(spec, dataset)


def _may_be_text(declared: Any) -> bool:
    """Whether a field's declaration has a union with text, which Dagster's own cannot be told from."""
    if get_origin(declared) is Annotated:
        kind, *more = get_args(declared)
        declared = next((item.model_field_type for item in more if isinstance(item, dg.Resolver)), None) or kind
    return get_origin(declared) in (Union, UnionType) and str in get_args(declared)


def _check_options(name: str, options: object, automation: object) -> None:
    """Refuse options of an automation that is off."""
    if options is not None and automation != _AUTOMATION_OF[name]:
        raise ValueError(f"{name}: goes with 'automation: {_AUTOMATION_OF[name]}' only, which is {automation!r}")


def _switched(options: bool | Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The options of a feature that may be on or off; None if it is off."""
    return ({} if options else None) if isinstance(options, bool) else options
