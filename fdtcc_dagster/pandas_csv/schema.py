"""Declared schemas: from names, as they are written in YAML, to Polars data types.

No code here may start Polars' threads. A code location declares schemas while it loads. A process that is forked from
it has none of the threads that Polars has started by then, and its first query would wait for them without end.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from types import EllipsisType
from typing import Any

import polars as pl
import pytz
from polars.datatypes import DataType, DataTypeClass

from fdtcc_dagster.errors import which_zone
from fdtcc_dagster.redaction import excerpt

SchemaLike = Mapping[str, Any]
"""Column name → a Polars data type (class or instance) or its name, such as `"Datetime(us, UTC)"`."""

_PLAIN: dict[str, DataType] = {
    dtype.__name__: dtype()
    for dtype in (
        pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64,
        pl.Float32, pl.Float64, pl.Boolean, pl.String, pl.Date, pl.Time, pl.Categorical, pl.Datetime,
    )
}  # fmt: skip
_PLAIN["Utf8"] = pl.String()
_WITH_ARGUMENTS: dict[str, Callable[..., DataType]] = {
    "Datetime": lambda unit="us", zone=None: pl.Datetime(_time_unit(unit), zone),
    "Decimal": lambda precision, scale="0": pl.Decimal(int(precision), int(scale)),
    "Enum": lambda *categories: pl.Enum(_distinct(categories)),
}
_CALL = re.compile(r"(\w+)(?:\s*\((.*)\))?", re.DOTALL)
_PRINTED = re.compile(r"(\w+)(?:\s*[\[(](.*)[\])])?", re.DOTALL)
_OFFSET = re.compile(r"([+-])(0\d|1[0-4]):?00")
_OTHER_NAMES = {
    "int": "Int64", "integer": "Int64", "bigint": "Int64", "long": "Int64", "float": "Float64", "double": "Float64",
    "bool": "Boolean", "str": "String", "text": "String", "varchar": "String", "object": "String",
    "timestamp": "Datetime", "datetime64": "Datetime", "category": "Categorical",
}  # fmt: skip
"""Their names in Python, pandas and databases."""
_EXAMPLES = {"Datetime": "Datetime(us), Datetime(us, UTC)", "Decimal": "Decimal(10, 2)", "Enum": "Enum(a, b)"}
_ALLOWED = ", ".join([*(name for name in _PLAIN if name not in (*_EXAMPLES, "Utf8")), *_EXAMPLES.values()])


def to_schema(schema: SchemaLike) -> pl.Schema:
    """Normalize a declared schema.

    Args:
        schema: Column name → a Polars data type, as class, instance or name. Names are those of Polars, with arguments
            in parentheses: `"Int64"`, `"Datetime(ms, Europe/Berlin)"`, `"Decimal(10, 2)"`, `"Enum(low, high)"`.

    Returns:
        The Polars schema, columns in the given order.

    Raises:
        ValueError: There is no column, a column's name is not a string, or a data type is unknown or cannot be read
            from CSV text, such as a list or a struct.
    """
    if not isinstance(schema, Mapping) or not schema:
        raise ValueError(f"a schema maps at least one column to a data type, but {schema!r} was given")
    refuse_divided(schema)
    normalized = pl.Schema()
    for column, dtype in schema.items():
        if not isinstance(column, str):
            raise ValueError(f"a column's name must be a string, not {column!r}")
        normalized[column] = to_dtype(column, dtype)
    return normalized


def refuse_divided(schema: SchemaLike) -> None:
    """Refuse a data type that YAML has divided at its commas, as in `{amount: Decimal(12, 2)}`.

    Raises:
        ValueError: There is one; the rest of it is a column without a data type.
    """
    columns = list(schema.items())
    for number, (column, dtype) in enumerate(columns):
        if not isinstance(dtype, str) or "(" not in dtype or ")" in dtype:
            continue
        rest = itertools.takewhile(lambda item: item[1] is None, columns[number + 1 :])
        whole, closed, _ = ", ".join([dtype, *(str(more) for more, _ in rest)]).partition(")")
        if closed:
            raise ValueError(
                f"column {column!r}: in braces, YAML divides {whole}) at its comma: write it in quotes, "
                f'{{{column}: "{whole})"}}'
            )


def to_overrides(schema_overwrite: SchemaLike | EllipsisType | None) -> pl.Schema:
    """Normalize the types of some columns; None, an empty mapping and `...` all mean none, as documented.

    Raises:
        ValueError: As for `to_schema`.
    """
    if isinstance(schema_overwrite, EllipsisType) or not schema_overwrite:
        return pl.Schema()
    return to_schema(schema_overwrite)


def to_dtype(column: str, dtype: object) -> DataType:
    """Normalize one column's data type; see `to_schema`."""
    if isinstance(dtype, str):
        return _from_name(column, dtype)
    if isinstance(dtype, DataTypeClass):
        plain = _PLAIN.get(dtype.__name__)
        if plain is not None:
            return plain
    elif isinstance(dtype, DataType) and type(dtype).__name__ in {**_PLAIN, **_WITH_ARGUMENTS}:
        try:
            return _checked(dtype)
        except Exception as error:
            raise ValueError(f"column {column!r}: {dtype_name(dtype)} cannot be used: {_reason(error)}") from error
    raise _unknown(column, dtype)


def _from_name(column: str, name: str) -> DataType:
    match = _CALL.fullmatch(name.strip())
    if match is None:
        raise _unknown(column, name)
    base, arguments = match[1], match[2]
    if arguments is None and base in _PLAIN:
        return _PLAIN[base]
    if arguments is None or base not in _WITH_ARGUMENTS:
        raise _unknown(column, name)
    try:
        return _checked(_WITH_ARGUMENTS[base](*(argument.strip(" '\"") for argument in arguments.split(","))))
    except Exception as error:
        raise ValueError(
            f"column {column!r}: {name!r} is not a data type: {_reason(error)}; write it like {_EXAMPLES[base]}"
        ) from error


def _time_unit(unit: str) -> Any:
    if unit not in ("ms", "us", "ns"):
        raise ValueError(f"its unit must be ms, us or ns, and not {unit!r}")
    return unit


def _reason(error: Exception) -> str:
    # Polars' advice on time zones is longer than a line, and does not apply here.
    return str(error).partition("\n")[0]


def _checked(dtype: DataType) -> DataType:
    """Check arguments that Polars checks late or, depending on its version, not at all."""
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return pl.Datetime(dtype.time_unit, _zone_name(dtype.time_zone))
    if isinstance(dtype, pl.Decimal):
        precision = 38 if dtype.precision is None else dtype.precision
        if not 0 <= dtype.scale <= precision <= 38 or precision == 0:
            raise ValueError("a decimal has at most 38 digits, and not more of them behind its point")
        return pl.Decimal(precision, dtype.scale)
    # Not `"" in categories`, which is a query.
    if isinstance(dtype, pl.Enum) and (dtype.categories.is_empty() or "" in dtype.categories.to_list()):
        raise ValueError("an enum has at least one category, and an empty field is null")
    return dtype


@lru_cache
def _zone_name(zone: str) -> str:
    """A time zone as Polars spells it: with an offset or another case, the frame's type would differ from the schema's.

    pytz knows the zones that Polars knows.
    """
    if match := _OFFSET.fullmatch(zone):
        hours = int(match[1] + match[2])
        # By POSIX, Etc/GMT-2 is two hours ahead.
        zone = f"Etc/GMT{-hours:+d}" if hours else "UTC"
    spelled = {each.casefold(): each for each in pytz.all_timezones}
    if (known := spelled.get(zone.casefold())) is None:
        raise ValueError(f"the time zone {zone!r} is unknown{which_zone(zone)}")
    return known


def _distinct(categories: tuple[str, ...]) -> tuple[str, ...]:
    for number, category in enumerate(categories):
        if category in categories[:number]:
            raise ValueError(f"an enum has each category once, and {category!r} is there twice")
    return categories


def _unknown(column: str, dtype: object) -> ValueError:
    name = dtype.__name__ if isinstance(dtype, type) and not isinstance(dtype, DataTypeClass) else dtype
    meant = _meant(name) if isinstance(name, str) else None
    bare = getattr(dtype, "__name__", dtype)
    if meant is None and isinstance(bare, str) and bare in _EXAMPLES:
        return ValueError(f"column {column!r}: {bare} needs arguments; write it like {_EXAMPLES[bare]}")
    shown = dtype_name(dtype) if isinstance(dtype, DataType) else repr(dtype)
    advice = f"write {meant!r}; " if meant else ""
    if isinstance(dtype, (DataType, DataTypeClass)):
        advice = "its values arrive as text, which String takes; "
    return ValueError(
        f"column {column!r}: {shown} is not a data type that CSV text can hold; {advice}allowed are {_ALLOWED}"
    )


def _meant(name: str) -> str | None:
    """The data type that is probably meant by a misspelled name, other brackets, or another system's name."""
    match = _PRINTED.fullmatch(name.strip().removeprefix("pl."))
    # A type that Polars has and we do not support is not misspelled.
    if match is None or (
        isinstance(getattr(pl, match[1], None), DataTypeClass) and match[1] not in {**_PLAIN, **_WITH_ARGUMENTS}
    ):
        return None
    if (known := _closest(match[1].casefold())) is None:
        return None
    meant = known if match[2] is None else f"{known}({match[2].replace('μ', 'u')})"
    try:
        return None if meant == name else dtype_name(to_dtype("", meant))
    except ValueError:
        return None


def _closest(name: str) -> str | None:
    spelled = {each.casefold(): each for each in (*_PLAIN, *_WITH_ARGUMENTS)} | _OTHER_NAMES
    close = [name] if name in spelled else get_close_matches(name, spelled, n=1, cutoff=0.75)
    return spelled[close[0]] if close else None


def dtype_name(dtype: DataType) -> str:
    """Write a data type as `to_schema` reads it, such as `"Datetime(us, UTC)"`; others as Polars writes them."""
    arguments = dtype_arguments(dtype)
    return f"{type(dtype).__name__}({', '.join(arguments)})" if arguments else str(dtype)


def a_type(dtype: DataType) -> str:
    """Write a data type for an error, as it is declared and with its article: `an Int64`, `a Datetime(us, UTC)`."""
    name = excerpt(dtype_name(dtype))
    # "a UInt8", as "a unit".
    return f"{'an' if name[0] in 'EI' else 'a'} {name}"


def dtype_arguments(dtype: DataType) -> list[str]:
    """The arguments of a data type in a schema; none for plain types."""
    if isinstance(dtype, pl.Datetime):
        return [dtype.time_unit, *([dtype.time_zone] if dtype.time_zone else [])]
    if isinstance(dtype, pl.Decimal):
        return [str(dtype.precision), str(dtype.scale)]
    return list(dtype.categories) if isinstance(dtype, pl.Enum) else []
