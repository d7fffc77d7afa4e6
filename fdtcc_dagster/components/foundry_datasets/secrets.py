"""Secrets in YAML: only the name of an environment variable is allowed, and runs read its value."""

from __future__ import annotations

import re
from typing import Any

import dagster as dg

from fdtcc_dagster.resource import SECRETS, refuse_plain_secrets

_VARIABLE = re.compile(r"\s*\{\{\s*env\.(\w+)\s*\}\}\s*")
_TEMPLATE_ALONE = re.compile(r"\s*\{\{[^{}]*\}\}\s*")


def refuse_secrets(attributes: object) -> None:
    """Refuse secrets that are given as plain text in the attributes of a component.

    Raises:
        dagster.DagsterInvalidDefinitionError: One is; the error does not show it.
    """
    resource = attributes.get("resource") if isinstance(attributes, dict) else None
    if isinstance(resource, dict):
        token, headers = (resource.get(name) for name in SECRETS)
        named = headers if isinstance(headers, dict) else {"…": headers}
        refuse_plain_secrets(
            token, named, lambda value: isinstance(value, str) and bool(_TEMPLATE_ALONE.fullmatch(value))
        )


def leave_to_the_run(resource: Any) -> Any:
    """Replace each `{{ env.NAME }}` of a secret by an `EnvVar`, because a value would be stored and shown."""
    if not isinstance(resource, dict):
        return resource
    return {name: _as_env_vars(value) if name in SECRETS else value for name, value in resource.items()}


def _as_env_vars(value: object) -> Any:
    if isinstance(value, dict):
        return {name: _as_env_vars(item) for name, item in value.items()}
    match = _VARIABLE.fullmatch(value) if isinstance(value, str) else None
    return dg.EnvVar(match[1]) if match else value
