"""Checks of what users pass: mistakes are refused where they are declared, with what was probably meant."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args

import dagster as dg
from pydantic import BaseModel, ModelWrapValidatorHandler, ValidationError, ValidatorFunctionWrapHandler
from pydantic_core import ErrorDetails, InitErrorDetails, core_schema

from fdtcc_dagster.errors import did_you_mean

_Model = TypeVar("_Model", bound=BaseModel)
_KINDS = frozenset(get_args(core_schema.ErrorType))
"""The types of pydantic's own errors."""


def members(name: str, value: object, of: str) -> list[Any]:
    """The members of a list that was given for an argument; `of` is their kind, for the error.

    Raises:
        ValueError: It is not a list, but a single member, text, a dictionary or nothing.
    """
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping, type)):
        return list(value)
    raise ValueError(f"{name}={shown(value)} must be a list of {of}, also where it has a single one")


def whole_number(name: str, value: object, least: int) -> None:
    """Check that a value is an integer of at least `least`."""
    if type(value) is not int or value < least:
        raise ValueError(f"{name}={shown(value)} is not allowed; give a whole number of at least {least}")


def flag(name: str, value: object) -> None:
    """Check that a value is True or False, and not something that Python would take for one of them."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}={shown(value)} must be True or False")


def kind_of(value: object) -> str:
    """The class of a value, for an error about something that may hold secrets."""
    if value is None:
        return "None"
    return f"<class {value.__qualname__}>" if isinstance(value, type) else f"<{type(value).__qualname__}>"


def shown(value: object) -> str:
    """A value for an error; of objects of other packages only the class, because they may hold secrets."""
    if isinstance(value, (str, bytes, int, float, list, tuple, dict, set, frozenset)):
        text = repr(value)
        return text if len(text) <= 200 else f"{text[:199]}…"
    return kind_of(value)


def instance_of(
    name: str,
    value: object,
    kind: type[Any] | tuple[type[Any], ...],
    meant: str,
    written: Callable[[object], str] = shown,
) -> None:
    """Check that a value is an object of a class, and not the class itself."""
    if isinstance(value, kind):
        return
    if isinstance(value, type):
        raise ValueError(f"{name}={kind_of(value)} is the class, and not an object: give {value.__name__}(…)")
    raise ValueError(f"{name}={written(value)} is no {meant}")


def check_appearance(
    name: str, description: object, group_name: object, owners: object, tags: object
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Check how an asset appears in Dagster, by Dagster's own rules, and return the owners and the tags."""
    people = members("owners", owners, "texts such as 'team:sales' or an e-mail address")
    if tags is not None and not isinstance(tags, Mapping):
        raise ValueError(f"tags={shown(tags)} must be a dictionary of texts")
    if description is not None and not isinstance(description, str):
        raise ValueError(f"description={shown(description)} must be text")
    if group_name is not None and not isinstance(group_name, str):
        raise ValueError(f"group_name={shown(group_name)} must be text")
    if not all(isinstance(owner, str) for owner in people):
        raise ValueError(f"owners={shown(people)} must be texts such as 'team:sales' or an e-mail address")
    given: dict[str, Any] = dict(tags or {})
    try:
        dg.AssetSpec([name], group_name=group_name, owners=people, tags=given)
    except (dg.DagsterError, ValueError, TypeError) as error:
        raise ValueError(str(error)) from error
    return tuple(people), given


def check_asset_key_argument(asset_key: object) -> None:
    """Check that a value is an asset key, or text or a list of texts that make one."""
    if isinstance(asset_key, (dg.AssetKey, str)):
        return
    if not isinstance(asset_key, Sequence) or not all(isinstance(part, str) for part in asset_key):
        raise ValueError(f"asset_key={shown(asset_key)} must be text with slashes between its parts, or a list of it")


def checked_descriptions(given: object, schema: Collection[str] | None) -> dict[str, str]:
    """Check the descriptions of a schema's columns; None are none."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ValueError(f"column_descriptions={shown(given)} must map columns to their descriptions")
    if schema is None:
        raise ValueError("column_descriptions need a schema that has the columns; give one, or leave them out")
    for column, text in given.items():
        if column not in schema:
            close = did_you_mean(column, schema)
            raise ValueError(f"column_descriptions: {column!r} is no column of the schema{close}")
        if not isinstance(text, str):
            raise ValueError(f"column_descriptions: the description of {column!r} must be text, not {shown(text)}")
    return dict(given)


def no_variable(name: str, value: object, *, integer: bool = False) -> None:
    """Check that a setting that is no text is not left to an environment variable as if it were.

    Args:
        name: The setting.
        value: Its value.
        integer: Whether it is an integer, which `EnvVar.int` gives.

    Raises:
        ValueError: It is; Dagster has environment variables of text and of integers only.
    """
    variable = getattr(value, "env_var_name", None)
    if variable is None or (integer and not isinstance(value, dg.EnvVar)):
        return
    if integer:
        raise ValueError(f'{name} is an integer, and dg.EnvVar("{variable}") is text: give dg.EnvVar.int("{variable}")')
    raise ValueError(
        f'{name} cannot be left to the run by an EnvVar: give os.environ["{variable}"], which is read when the '
        "definitions are loaded"
    )


def unless_variable(name: str, value: object, check: ValidatorFunctionWrapHandler, *, integer: bool = False) -> object:
    """Check the value of a setting as pydantic does; of what it refuses, an environment variable is told apart.

    Raises:
        ValidationError: It is refused.
        ValueError: It is an environment variable; see `no_variable`.
    """
    try:
        return check(value)
    except ValidationError:
        no_variable(name, value, integer=integer)
        raise


def with_unknown_named(model: type[_Model], values: Any, check: ModelWrapValidatorHandler[_Model]) -> _Model:
    """Check the values of a model as pydantic does, and say of unknown names which were probably meant.

    A secret may stand below such a name, or beside one that is missing, so their values are not shown.

    Raises:
        ValidationError: Pydantic refuses the values.
    """
    try:
        return check(values)
    except ValidationError as error:
        known = [field.alias or name for name, field in model.model_fields.items()]
        errors = [_of_a_name(details, known) for details in error.errors()]
        hide = bool(model.model_config.get("hide_input_in_errors"))
        raise ValidationError.from_exception_data(error.title, errors, hide_input=hide) from None


def _of_a_name(details: ErrorDetails, known: Sequence[str]) -> InitErrorDetails:
    kind, loc = details["type"], details["loc"]
    if kind not in _KINDS:  # somebody's own
        text = ValueError(details["msg"])
        return InitErrorDetails(type="value_error", loc=loc, input=details["input"], ctx={"error": text})
    if len(loc) == 1 and kind in ("extra_forbidden", "invalid_key"):  # the latter is no text, such as `5:` or `on:`
        return _unknown(loc[0] if kind == "extra_forbidden" else details["input"], known)
    value = loc[-1] if kind == "missing" else details["input"]
    return InitErrorDetails(type=kind, loc=loc, input=value, ctx=details.get("ctx", {}))


def _unknown(name: object, known: Sequence[str]) -> InitErrorDetails:
    text = f"{shown(name)} is not known here; allowed are {', '.join(known)}{did_you_mean(name, known)}"
    # Of a type that pydantic knows: Dagster makes the error once more, with the line, by the name of the type.
    return InitErrorDetails(type="value_error", loc=(str(name),), input=name, ctx={"error": ValueError(text)})
