"""`{{ env.NAME }}` in YAML, where a variable that is not set is an error.

Dagster puts None in its place, or the text "None" into other text.
"""

from __future__ import annotations

import os

import dagster as dg
from jinja2 import StrictUndefined

_NOT_SET = (
    "the environment variable {name} is not set: set it, as in the file .env of the project, or give a default, "
    "such as {{{{ env('{name}', 'default') }}}}"
)


class Environment:
    """What templates find under `env`: Dagster's own `env('NAME', 'default')`, and `env.NAME`."""

    def __call__(self, *args: object, **kwargs: object) -> object:
        """Give a variable, or the default that is given; what Dagster's own does."""
        return dg.ResolutionContext.default().scope["env"](*args, **kwargs)

    def __getattr__(self, name: str) -> object:
        """Give a variable, or what is an error as soon as it is used."""
        if name.startswith("jinja"):  # by which Jinja tells its own functions
            raise AttributeError(name)
        return os.environ[name] if name in os.environ else _Unset(_NOT_SET.format(name=name))


class _Unset(StrictUndefined):
    """A variable that is not set: false, as in `{{ env.NAME or 'default' }}`, and an error in all other use."""

    __slots__ = ()

    def __bool__(self) -> bool:  # type: ignore[override]  # StrictUndefined refuses even that
        return False
