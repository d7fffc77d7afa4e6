"""Templates such as `{{ env.HOST }}`: finding and evaluating them."""

from __future__ import annotations

import os
from typing import Any

import dagster as dg
from jinja2 import StrictUndefined

TEMPLATE = r"\{[{%]"
"""Finds the beginning of a template."""


def is_template(value: object) -> bool:
    """Tell whether a value is text that contains a template."""
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def has_template(value: object) -> bool:
    """Tell whether a value of YAML contains a template anywhere."""
    if isinstance(value, dict):
        return any(map(has_template, value.values()))
    return any(map(has_template, value)) if isinstance(value, list) else is_template(value)


def render(context: dg.ResolutionContext, value: object) -> Any:
    """Evaluate all templates in a value of YAML. Other text stays unchanged: "2024" does not become a number.

    Raises:
        ResolutionException: A template cannot be evaluated; the error has its file and line.
    """
    if isinstance(value, dict):
        return {key: render(context.at_path(key), item) for key, item in value.items()}
    if isinstance(value, list):
        return [render(context.at_path(index), item) for index, item in enumerate(value)]
    return context.resolve_value(value, as_type=object) if is_template(value) else value


class Environment:
    """The `env` of templates: Dagster's own, but a variable that is not set is an error instead of None."""

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Return a variable or its default: `env('NAME', 'default')`."""
        return dg.ResolutionContext.default().scope["env"](*args, **kwargs)

    def __getattr__(self, name: str) -> object:
        """Return a variable: `env.NAME`."""
        if name.startswith("jinja"):  # Jinja recognizes its own functions by them
            raise AttributeError(name)
        return (
            os.environ[name]
            if name in os.environ
            else _Unset(
                f"the environment variable {name} is not set: set it, as in the file .env of the project, or give a "
                f"default, such as {{{{ env('{name}', 'default') }}}}"
            )
        )


class _Unset(StrictUndefined):
    """A variable that is not set: false, as in `{{ env.NAME or 'default' }}`, and an error in any other use."""

    __slots__ = ()

    def __bool__(self) -> bool:  # type: ignore[override]  # StrictUndefined refuses even that
        return False
