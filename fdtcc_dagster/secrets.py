"""Secrets of resources: Dagster stores and shows their configuration, so it may only say where a secret is."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import dagster as dg

_OPTION = re.compile(
    r"secret|passw|token|credential|connection_?string|account_?key|customer_?key|private_?key|signature", re.IGNORECASE
)
_PUBLIC = re.compile(r"true|false", re.IGNORECASE)
_PUBLIC_TOKEN = re.compile(r"anon|google_default|cloud|cache|browser|/.*", re.IGNORECASE)
"""What stands in the place of gcsfs' `token` and is none: its words for where it finds one, and the path of a file."""
_IN_URL = re.compile(r"://[^@]*:[^@]*@|\bsig=", re.IGNORECASE)
"""A password or a signature in an address, such as those of an endpoint and of a proxy."""

IsReference = Callable[[object], bool]


def is_env_var(value: object) -> bool:
    """Tell whether a value in Python is the name of an environment variable, and not a secret itself."""
    return isinstance(value, dg.EnvVar)


def refuse_plain_secrets(owner: str, values: Mapping[str, object]) -> None:
    """Check that no secret is given as such.

    Args:
        owner: The class of the resource.
        values: Its secret settings; in a mapping, each value is a secret.

    Raises:
        dagster.DagsterInvalidDefinitionError: One is a secret itself, which is not shown.
    """
    for _, text in plain_secrets(owner, values, is_env_var):
        raise dg.DagsterInvalidDefinitionError(text)


def plain_secrets(
    owner: str, values: Mapping[str, object], is_reference: IsReference
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Find the secrets that are given as such: where each of them is, and what is to be done.

    Args:
        owner: The class of the resource.
        values: Its secret settings; in a mapping, each value is a secret.
        is_reference: Tells whether a value only says where the secret is.

    Yields:
        The names that lead to a secret, and a text that does not show it.
    """
    for path, value in _leaves(values):
        if value is not None and not is_reference(value):
            name = path[0] + "".join(f"[{inner!r}]" for inner in path[1:])
            yield (
                path,
                f"{name} of {owner} is a secret, and Dagster stores and shows what it is given: "
                'give dg.EnvVar("NAME"), or in YAML "{{ env.NAME }}" and nothing else, and put the value into '
                "that environment variable where runs are executed",
            )


def secret_options(options: object) -> dict[str, Any]:
    """Those of a store's options that are secrets by their names or have one in an address, at any depth."""
    found: dict[str, Any] = {}
    items = enumerate(options) if isinstance(options, (list, tuple)) else ()
    for name, value in options.items() if isinstance(options, Mapping) else items:
        if _is_secret(str(name), value):
            found[str(name)] = value
        elif inner := secret_options(value):
            found[str(name)] = inner
    return found


def _is_secret(name: str, value: object) -> bool:
    if not _OPTION.search(name):
        return isinstance(value, str) and bool(_IN_URL.search(value))
    public = _PUBLIC_TOKEN if name == "token" else _PUBLIC
    return not isinstance(value, bool) and not (isinstance(value, str) and public.fullmatch(value))


def with_values(options: Mapping[str, Any]) -> dict[str, Any]:
    """Put the values of environment variables into options, at any depth, where Dagster has written `{"env": NAME}`.

    Raises:
        ValueError: A variable is not set.
    """
    return {name: _value_of(name, value) for name, value in options.items()}


def _value_of(name: str, value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_value_of(name, item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"env"} and isinstance(value["env"], str):
        if (found := os.environ.get(value["env"])) is None:
            raise ValueError(f"the environment variable {value['env']!r}, which {name!r} is to come from, is not set")
        return found
    return with_values(value)


def _leaves(values: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], object]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            for inner, item in _leaves(value):
                yield (str(name), *inner), item
        else:
            yield (str(name),), value
