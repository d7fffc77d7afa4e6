"""Templates such as `{{ env.HOST }}`: where YAML may have one, and what stands there in the end.

Dagster makes a union with text of every field, for a template may stand there. A union's errors say that nothing fits,
and point at the whole; so here text is taken for a template only if it looks like one, and all else is checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, get_args

import dagster as dg
from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidatorFunctionWrapHandler, create_model
from pydantic_core import core_schema

_TEMPLATE = r"\{[{%]"


class Templated:
    """An annotation, `Annotated[int, Templated()]`: a template is taken in the value's place, and is not checked.

    So are null if it is `nullable`, and true and false if it is a `switch`.
    """

    def __init__(self, *, nullable: bool = False, switch: bool = False) -> None:
        self._also = (type(None),) * nullable + (bool,) * switch
        self._types = ["string", *["null"] * nullable, *["boolean"] * switch]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def validate(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
            return value if is_template(value) or isinstance(value, self._also) else check(value)

        as_it_is = core_schema.plain_serializer_function_ser_schema(lambda value: value)
        return core_schema.no_info_wrap_validator_function(validate, handler(source), serialization=as_it_is)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return unless_template(handler(schema), self._types)


def unless_template(json_schema: dict[str, Any], types: Sequence[str] = ("string",)) -> dict[str, Any]:
    """A JSON schema for what another one describes, or a template, or anything else of some types."""
    # A pattern concerns text only.
    return {"if": {"type": list(types), "pattern": _TEMPLATE}, "else": json_schema}


def is_template(value: object) -> bool:
    """Tell whether a value is text with a template in it."""
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def has_template(value: object) -> bool:
    """Tell whether there is a template anywhere in a value of `to_plain`."""
    if isinstance(value, dict):
        return any(map(has_template, value.values()))
    return any(map(has_template, value)) if isinstance(value, list) else is_template(value)


def to_plain(value: object) -> Any:
    """Turn a model of YAML into the dictionaries and lists that the YAML has; what is not given is left out."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {fields[name].alias or name: to_plain(getattr(value, name)) for name in sorted(value.model_fields_set)}
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    return [to_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def render(context: dg.ResolutionContext, value: object) -> Any:
    """Put values in the place of all templates.

    Args:
        context: Dagster's context, at the value's place in the YAML.
        value: A value of `to_plain`.

    Returns:
        The same with whatever the templates evaluate to. Text without a template stays as it is: "2024" is no number.

    Raises:
        ResolutionException: A template cannot be evaluated; the error has its file and line.
    """
    if isinstance(value, dict):
        return {key: render(context.at_path(key), item) for key, item in value.items()}
    if isinstance(value, list):
        return [render(context.at_path(index), item) for index, item in enumerate(value)]
    return context.resolve_value(value, as_type=object) if is_template(value) else value


@lru_cache
def without_unions(derived: type[BaseModel]) -> type[BaseModel]:
    """Take text out of the fields' types in a model that Dagster derived, but for templates."""
    fields: dict[str, Any] = {}
    for name, field in derived.model_fields.items():
        options = get_args(field.annotation)
        types = [option for option in options if option not in (str, type(None))] or [str]
        if options and len(types) == 1:
            fields[name] = (Annotated[types[0], Templated(nullable=type(None) in options)], field)
    return create_model(derived.__name__, __base__=derived, __doc__=derived.__doc__, **fields)
