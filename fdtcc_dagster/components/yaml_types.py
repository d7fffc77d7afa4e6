"""Types of values in YAML, how Python's objects are built from them, and templates such as `{{ env.HOST }}`."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import dagster as dg
from jinja2 import StrictUndefined
from pydantic import (
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import core_schema

from fdtcc_dagster.arguments import with_unknown_named
from fdtcc_dagster.dagster_internals import CheckError
from fdtcc_dagster.errors import did_you_mean

if TYPE_CHECKING:
    from typing_extensions import Self

TEMPLATE = r"\{[{%]"
"""Finds the beginning of a template."""
_DURATION = r"^(?=\d)(\d+d)?(\d+h)?(\d+m)?(\d+s)?$"
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_TIME = r"^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]$"
_UNITS = ("days", "hours", "minutes", "seconds")


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


class Known(dg.Model):
    """A model whose error about an unknown name says which one was meant, beside all other errors."""

    @model_validator(mode="wrap")
    @classmethod
    def _name_unknown(cls, values: Any, check: ModelWrapValidatorHandler[Self]) -> Self:
        return with_unknown_named(cls, values, check)


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


def as_it_is(value: Any) -> Any:
    """Return a value whose form is the same in YAML and Python."""
    return value


@dataclass(frozen=True)
class Yaml:
    """An annotation of a type in a model: the value stays as it is in YAML, but is checked unless it is a template.

    Dagster makes a union of every type with text, because text may be a template. A union's errors only say that no
    member fits, and point at the whole value; so here text counts as a template only if it looks like one.

    Attributes:
        build: Builds Python's object from a value without templates, or raises a `ValueError`.
        others: Other types that are allowed: `NoneType`, or `bool` for what may also just be on or off.
    """

    build: Callable[[Any], Any] = as_it_is
    others: tuple[type, ...] = ()

    def python(self, value: Any) -> Any:
        """Build Python's object from a value without templates; an object that a template has given stays unchanged."""
        plain = isinstance(value, (str, int, float, list, dict)) and not isinstance(value, self.others)
        return self.build(value) if plain else value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def validate(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
            unchecked = is_template(value) or isinstance(value, self.others)
            return value if unchecked else self._checked(value, check)

        unchanged = core_schema.plain_serializer_function_ser_schema(as_it_is)
        return core_schema.no_info_wrap_validator_function(validate, handler(source), serialization=unchanged)

    def _checked(self, value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        if isinstance(check(value), (bool, int, float)) and isinstance(value, str):
            # The JSON schema refuses it. YAML takes a number with an exponent for text, too, unless it is written so.
            raise ValueError("a number, true or false has no quotes in YAML, and with an exponent a sign: 1.0e+3")
        if not has_template(value):
            try:
                self.build(value)
            except (CheckError, dg.DagsterError, OverflowError, TypeError) as error:
                raise ValueError(str(error)) from error  # pydantic adds its place
        return value

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        names = ["null" if other is NoneType else "boolean" for other in self.others]
        # A pattern concerns text only.
        return {"if": {"type": ["string", *names], "pattern": TEMPLATE}, "else": handler(schema)}


class OrTemplate(Yaml):
    """The same for a type that Dagster resolves: the value becomes what pydantic makes of it."""

    def _checked(self, value: Any, check: ValidatorFunctionWrapHandler) -> Any:
        return check(value)


def typed(kind: Any, build: Callable[[Any], Any] = as_it_is, *others: type) -> Any:
    """Annotate a type by `Yaml`."""
    return Annotated[kind, Yaml(build, others)]


def yaml_of(form: Any) -> Any:
    """The `Yaml` of a type that `typed` has made; for other types something else or None."""
    return getattr(form, "__metadata__", (None,))[-1]


def only_json(**schema: Any) -> Any:
    """A type that only a JSON schema checks, because Python's own error says more than pydantic's."""
    return Annotated[Any, WithJsonSchema(schema)]


def member_of(kind: type[Enum], *others: type) -> Any:
    """The type of an enumeration's members, by their names."""

    def member(name: object) -> Enum:
        if name not in kind.__members__:
            raise ValueError(
                f"{name!r} is not allowed; give one of {', '.join(kind.__members__)}"
                f"{did_you_mean(name, kind.__members__)}"
            )
        return kind[str(name)]

    return typed(Literal[tuple(kind.__members__)], member, *others)


def to_timedelta(value: object) -> dt.timedelta:
    """Turn `"1h30m"` or `{"hours": 1, "minutes": 30}` into a timedelta, or raise a ValueError."""
    match = re.match(_DURATION, value) if isinstance(value, str) else None
    if match:
        return dt.timedelta(**{unit: int(part[:-1]) for unit, part in zip(_UNITS, match.groups(), strict=True) if part})
    numbers = isinstance(value, dict) and all(type(number) in (int, float) for number in value.values())
    if isinstance(value, dict) and value and set(value) <= set(_UNITS) and numbers:
        return dt.timedelta(**value)
    raise ValueError(f"{value!r} is no duration; allowed are such as '2h', '1h30m', '45s' or {{minutes: 90}}")


def to_date(value: object) -> dt.date:
    """Turn `"2026-01-31"` into a date, or raise a ValueError."""
    try:
        if isinstance(value, str) and re.fullmatch(_DATE, value):
            return dt.date.fromisoformat(value)
    except ValueError:
        pass
    raise ValueError(f"{value!r} is no date; write it like 2026-01-31")


def to_grace(value: object) -> dt.timedelta:
    """Turn the grace of a freshness policy into a timedelta, or raise a ValueError."""
    grace = to_timedelta(value)
    if grace < dt.timedelta(minutes=1):
        raise ValueError(f"grace={value!r} is not allowed; give a minute or more")
    return grace


def _spelled(pattern: str, words: str) -> dict[str, str]:
    """A pattern that an error shows in words, too.

    jsonschema, and so `dg check yaml`, shows nothing but the pattern: words behind `(?!)` match nothing, in Python and
    in the JavaScript of editors. These show `patternErrorMessage` instead.
    """
    return {"pattern": f"(?!){words}|{pattern}", "patternErrorMessage": f"must be {words}"}


DATE = only_json(type="string", **_spelled(_DATE, "a date such as 2026-01-31"))
TIME = only_json(type="string", **_spelled(_TIME, "a time of day such as 06:00:00"))
DURATION = only_json(
    type=["string", "object"],
    **_spelled(_DURATION, "a duration such as 2h or 1h30m"),
    examples=["2h", "1h30m", {"minutes": 90}],
)
