"""From the models of YAML to Python's objects, with an error at the place in the YAML where something is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import dagster as dg
from pydantic import BaseModel, model_validator

from fdtcc_dagster.client.paths import expand_home
from fdtcc_dagster.components.foundry_datasets.building import to_arguments, to_dataset
from fdtcc_dagster.components.foundry_datasets.sharing import shared
from fdtcc_dagster.components.foundry_datasets.templates import render, to_plain
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.datasets_toml import datasets_from_toml
from fdtcc_dagster.errors import FdtccError
from fdtcc_dagster.resource import SECRETS, FoundryContainerResource, refuse_plain_secrets

_T = TypeVar("_T")
_ENV = re.compile(r"\s*\{\{\s*env\.(\w+)\s*\}\}\s*")
_ALONE = re.compile(r"\s*\{\{[^{}]*\}\}\s*")
"""A template, and nothing else."""
_shared_container = shared(FoundryContainerResource)


def resolver_of(build: Callable[[Any], _T]) -> Callable[[dg.ResolutionContext, Any], _T]:
    """Make a resolver of a function.

    Args:
        build: Makes the object of plain values, in which no template is left.

    Returns:
        A function for `dagster.Resolver`. What `build` says about its values becomes an error that tells where they
        stand in the YAML.
    """

    def resolve(context: dg.ResolutionContext, model: Any) -> _T:
        return _located(context, model, build)

    return resolve


def resolve_datasets(context: dg.ResolutionContext, models: Sequence[Any]) -> list[FoundryDataset]:
    """Resolve the field `datasets`; the arguments are those of every resolver."""
    return [_located(context.at_path(index), model, to_dataset) for index, model in enumerate(models)]


def resolve_toml(context: dg.ResolutionContext, models: Sequence[Any]) -> list[FoundryDataset]:
    """Resolve the field `from_toml`; the arguments are those of every resolver."""

    def declare(values: dict[str, Any]) -> list[FoundryDataset]:
        settings = dict(values)
        # Of an absolute path, nothing is put before it.
        path = context.resolve_source_relative_path(str(expand_home("path", settings.pop("path"))))
        overrides = {name: to_arguments(own) for name, own in settings.pop("overrides", {}).items()}
        return datasets_from_toml(path, overrides=overrides, **to_arguments(settings))

    return [
        dataset for index, model in enumerate(models) for dataset in _located(context.at_path(index), model, declare)
    ]


def resolve_resource(context: dg.ResolutionContext, model: Any) -> FoundryContainerResource:
    """Resolve the field `resource`; the arguments are those of every resolver.

    A secret's `{{ env.NAME }}` is left to the run: its value here would be stored and shown as configuration.
    """
    plain = to_plain(model)
    deferred = {name: _as_env_vars(plain[name]) for name in SECRETS if name in plain}
    return _located(context, model, _shared_container, {**plain, **deferred})


def with_secrets_refused(model: type[BaseModel]) -> type[BaseModel]:
    """Refuse secrets that stand in YAML as such, before all else is checked: Dagster's errors repeat lines of YAML."""

    def check(values: object) -> object:
        resource = values.get("resource") if isinstance(values, dict) else None
        if isinstance(resource, dict):
            token, headers = (resource.get(name) for name in SECRETS)
            named = headers if isinstance(headers, dict) else {"…": headers}
            refuse_plain_secrets(token, named, lambda value: isinstance(value, str) and bool(_ALONE.fullmatch(value)))
        return values

    return type(
        model.__name__,
        (model,),
        {
            "__doc__": model.__doc__,
            "__module__": model.__module__,
            "_check_secrets": model_validator(mode="before")(check),
        },
    )


def _as_env_vars(value: object) -> Any:
    if isinstance(value, dict):
        return {name: _as_env_vars(item) for name, item in value.items()}
    match = _ENV.fullmatch(value) if isinstance(value, str) else None
    return dg.EnvVar(match[1]) if match else value


def _located(context: dg.ResolutionContext, model: Any, build: Callable[[Any], _T], plain: object = None) -> _T:
    given = to_plain(model) if plain is None else plain
    try:
        return build(render(context, given))
    except (FdtccError, OSError, TypeError, ValueError) as error:
        raise context.build_resolve_fn_exc([str(error)], field_name=str(context.path[-1]), model=model) from None
