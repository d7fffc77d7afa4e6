"""Resources in YAML: secrets, of which only the variable's name is allowed, and the same resource in several files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import dagster as dg
from pydantic import ValidationError
from pydantic_core import InitErrorDetails

from fdtcc_dagster.resource import SECRETS, FoundryContainerResource
from fdtcc_dagster.secrets import plain_secrets, secret_options

_T = TypeVar("_T")

# The resources of each project by key, and the components that gave them.
_given: WeakKeyDictionary[Any, dict[str, tuple[Any, Any]]] = WeakKeyDictionary()

_VARIABLE = re.compile(r"\s*\{\{\s*env\.(\w+)\s*\}\}\s*")
_TEMPLATE_ALONE = re.compile(r"\s*\{\{[^{}]*\}\}\s*")


def refuse_secrets(model: str, attributes: object) -> None:
    """Refuse secrets that are given as plain text in the attributes of a component, in the validation of its model.

    Raises:
        ValidationError: Some are; it has the place of each, and does not show them.
    """
    if not isinstance(attributes, dict):
        return
    resource, io_manager = attributes.get("resource"), attributes.get("io_manager")
    given: list[tuple[str, str, dict[str, Any]]] = []
    if isinstance(resource, dict):
        secrets = {name: resource.get(name) for name in SECRETS}
        given.append(("resource", "FoundryContainerResource", secrets))
    if isinstance(io_manager, dict):
        options = secret_options(io_manager.get("storage_options"))
        given.append(("io_manager", "FoundryParquetIOManager", {"storage_options": options}))
    refused = [
        # Of a type that pydantic knows, as Dagster makes the error once more.
        InitErrorDetails(type="value_error", loc=(name, *path), input=path[-1], ctx={"error": ValueError(text)})
        for name, owner, secrets in given
        for path, text in plain_secrets(owner, secrets, _is_template)
    ]
    if refused:
        raise ValidationError.from_exception_data(model, refused)


def leave_to_the_run(resource: Any) -> Any:
    """Replace each `{{ env.NAME }}` of a secret by an `EnvVar`, because a value would be stored and shown."""
    if not isinstance(resource, dict):
        return resource
    secret = (*SECRETS, "storage_options")
    return {name: _as_env_vars(value) if name in secret else value for name, value in resource.items()}


def _is_template(value: object) -> bool:
    return isinstance(value, str) and bool(_TEMPLATE_ALONE.fullmatch(value))


def _as_env_vars(value: object) -> Any:
    if isinstance(value, dict):
        return {name: _as_env_vars(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_env_vars(item) for item in value]
    match = _VARIABLE.fullmatch(value) if isinstance(value, str) else None
    return dg.EnvVar(match[1]) if match else value


def shared(kind: Callable[..., _T]) -> Callable[[Any], _T]:
    """Make a resource once for equal arguments: Dagster refuses two equal resources with one key."""
    made: list[tuple[object, _T]] = []

    def get(arguments: Any) -> _T:
        given = _with_types(arguments)
        for known, value in made:
            if known == given:
                return value
        made.append((given, kind(**arguments)))
        return made[-1][1]

    return get


def check_resources(context: dg.ComponentLoadContext, resources: Mapping[str, Any]) -> None:
    """Refuse two different resources with the same key, and name both files, which Dagster's error does not.

    Raises:
        ValueError: Another file of the project, or another document, gives another resource with one of their keys.
    """
    given = _given.setdefault(context.component_tree.state_tracker, {})
    here = context.component_path
    for key, resource in resources.items():
        there, known = given.setdefault(key, (here, resource))
        if known is resource or there == here:
            continue
        same_file = there.file_path == here.file_path
        places = f"two documents in {here.file_path}" if same_file else f"{there.file_path} and {here.file_path}"
        remedy = (
            "give `resource` in one of them and leave it out in the other, or give each a `resource_key` of its own"
            if isinstance(resource, FoundryContainerResource)
            else "give both the same `io_manager`, or one of them an `io_manager_key` of its own"
        )
        raise ValueError(f"{places} give different resources {key!r}: {remedy}")


def _with_types(value: object) -> object:
    """Distinguish equal values of different types: an `EnvVar` equals the text of its name or a zero."""
    if isinstance(value, Mapping):
        return {key: _with_types(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_types(item) for item in value]
    return type(value), getattr(value, "env_var_name", value)
