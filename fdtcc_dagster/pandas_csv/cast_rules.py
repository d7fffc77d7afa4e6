"""How the strings of pandas' CSV dialect are cast to each type.

The usual spelling of a type is cast first, for all columns of a block at once. If that leaves values of a column
(midnight datetimes without their time), the column is cast again with every spelling that pandas has for the type.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

import polars as pl
from polars.datatypes import DataType

from fdtcc_dagster.pandas_csv.spelling import are_within, first_changed, has_identifiers

_EXACT_IN_FLOAT = 2**53
_DECIMAL = r"^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:E[+-]?\d{1,3})?$"
_YEAR = r"(?:[1-9]\d{3}|0[1-9]\d\d|00[1-9]\d|000[1-9])"
NANOSECOND_YEARS = ("1678", "2262")
"""Between these, 64 bits of nanoseconds have whole years; Polars lets others overflow into another century."""
_CLOCK = r"[01]\d:[0-5]\d:[0-5]\d|2[0-3]:[0-5]\d:[0-5]\d"
"""No leap second: Polars would make it the next minute."""
_MIDNIGHT = r"[ T]00:00:00(?:\.0+)?(?:Z|\+00:00)?"
_OFFSET = r"(?:[+-]\d\d:\d\d|Z)"
_DATE = ("0000-00-00", "9999-19-39")
_SECONDS = ("0000-00-00 00:00:00", "9999-19-39 29:59:59")
"""The lowest and highest character of each place: Polars itself refuses the other texts that are no date or time."""
_FEW = 256
_WHOLE = ".0"
_DIGIT = re.compile("[0-9]")
_TIME_UNIT_DIGITS = {"ms": 3, "us": 6, "ns": 9}


@dataclass(frozen=True)
class Cast:
    """How a column is cast."""

    usual: Callable[[pl.Expr], pl.Expr]
    """The usual spelling; null where it does not fit."""
    doubtful: Callable[[pl.Series, pl.Series], bool]
    """Whether `usual` may have changed some of a block's texts, by these and its results."""
    every: Callable[[pl.Expr], pl.Expr]
    """Every spelling of the type; null where none fits."""
    refuse: Callable[[pl.Expr], pl.Expr] | None = None
    """True for text that a cast would accept and change; for floats, `first_changed` finds such text."""
    alike: bool = False
    """Whether all texts have the shape of the first one if they are not doubtful."""

    def fits(self, text: pl.Series, typed: pl.Series) -> bool:
        """Tell whether `usual` has read all texts of a block without changing any."""
        return typed.null_count() == text.null_count() and not self.doubtful(text, typed)


def spelling_of(dtype: DataType, text: pl.Series) -> str:
    """The spelling of a block's column, as far as it matters for a type, because pandas writes all of a column alike.

    Returns:
        One of its first texts, with zeros for its digits; "" if the type has only one spelling.
    """
    if not (dtype.is_integer() or dtype.is_temporal()):
        return ""
    sample = next((value for value in text.head(_FEW) if value is not None), "")
    if dtype.is_integer():
        return _WHOLE if sample.endswith(_WHOLE) else ""
    return _DIGIT.sub("0", sample)


@lru_cache(maxsize=256)
def cast_of(dtype: DataType, spelling: str = "") -> Cast:
    """The cast of a column to a type, with the spelling that `spelling_of` found."""
    if dtype.is_integer() and spelling == _WHOLE:
        return Cast(
            lambda c: c.cast(pl.Float64, strict=False).cast(dtype, strict=False),
            _doubtful_floats_of_integers,
            lambda c: _integers(c, dtype),
            _identifiers,
        )
    if dtype.is_integer():
        return Cast(_plainly(dtype), _doubtful_integers, lambda c: _integers(c, dtype), _identifiers)
    if dtype.is_float():
        return Cast(_plainly(dtype), _doubtful_floats, _plainly(dtype), _identifiers)
    if isinstance(dtype, pl.Boolean):
        true, false = ["True", "true"], ["False", "false"]
        return Cast(lambda c: _booleans(c, true[:1], false[:1]), _never, lambda c: _booleans(c, true, false))
    if isinstance(dtype, pl.Date):
        refuse = _not_spelled(rf"^{_YEAR}-\d\d-\d\d(?:{_MIDNIGHT})?$")
        return Cast(_dates, _not_within(*_DATE), lambda c: _dates(c.str.head(len(_DATE[0]))), refuse, alike=True)
    if isinstance(dtype, pl.Time):
        refuse = _not_spelled(rf"^(?:{_CLOCK})(?:\.\d{{1,9}})?$")
        return Cast(_times, _any(refuse), _times, refuse)
    if isinstance(dtype, pl.Datetime):
        return _datetime_cast(dtype, spelling)
    if isinstance(dtype, pl.Decimal):
        return Cast(
            lambda c: _decimals(c, dtype),
            _any(lambda c: _no_decimal(c, dtype.scale)),
            lambda c: _all_decimals(c, dtype),
            lambda c: _no_decimal(c, dtype.scale),
        )
    return Cast(_plainly(dtype), _never, _plainly(dtype))


def _plainly(dtype: DataType) -> Callable[[pl.Expr], pl.Expr]:
    return lambda c: c.cast(dtype, strict=False)


def _not_spelled(form: str) -> Callable[[pl.Expr], pl.Expr]:
    return lambda c: c.str.contains(form).not_()


def _any(refuse: Callable[[pl.Expr], pl.Expr]) -> Callable[[pl.Series, pl.Series], bool]:
    return lambda text, _: bool(text.to_frame().select(refuse(pl.col(text.name)).any()).item())


def _never(text: pl.Series, typed: pl.Series) -> bool:
    return False


def _not_within(low: str, high: str, first_year: str = "0001", beyond: str | None = None) -> Callable[..., bool]:
    """Make a test for texts of different shapes or years outside the range, which are then checked one by one."""

    def doubtful(text: pl.Series, _: pl.Series) -> bool:
        early, late = text < first_year, beyond is not None and bool((text >= beyond).any())
        return late or bool(early.any()) or not are_within(text, low, high)

    return doubtful


def _doubtful_integers(text: pl.Series, _: pl.Series) -> bool:
    return has_identifiers(text)


def _doubtful_floats(text: pl.Series, typed: pl.Series) -> bool:
    return has_identifiers(text) or first_changed(text, typed) is not None


def _doubtful_floats_of_integers(text: pl.Series, typed: pl.Series) -> bool:
    return (
        _reach(typed, _EXACT_IN_FLOAT)
        or has_identifiers(text)
        or any((text == without_digits).any() for without_digits in (".0", "-.0"))
        or not text.str.ends_with(_WHOLE).all()
    )


def _reach(numbers: pl.Series, bound: float) -> bool:
    """Tell whether a number is at least as far from zero as a bound."""
    lowest, highest = typing.cast("tuple[float | None, float | None]", (numbers.min(), numbers.max()))
    return lowest is not None and highest is not None and (lowest <= -bound or highest >= bound)


def _identifiers(c: pl.Expr) -> pl.Expr:
    return c.str.contains(r"^(?:\+|-?0\d)")


def _integers(c: pl.Expr, dtype: DataType) -> pl.Expr:
    return pl.coalesce(c.cast(dtype, strict=False), _floats_of_integers(c, dtype))


def _floats_of_integers(c: pl.Expr, dtype: DataType) -> pl.Expr:
    # With a null among them pandas holds ints as floats and writes 1.0; beyond 2^53 that float may be another integer.
    number = c.str.strip_suffix(_WHOLE).cast(dtype, strict=False)
    # As a float: older versions of Polars compare large unsigned integers with negative ones by failing.
    exact = number.cast(pl.Float64).is_between(-_EXACT_IN_FLOAT, _EXACT_IN_FLOAT, closed="none")
    return pl.when(exact).then(number).otherwise(None)


def _booleans(c: pl.Expr, true: list[str], false: list[str]) -> pl.Expr:
    is_true, is_false = (pl.any_horizontal(*(c == text for text in texts)) for texts in (true, false))
    return pl.when(is_true).then(statement=True).when(is_false).then(statement=False).otherwise(None)


def _dates(c: pl.Expr) -> pl.Expr:
    return c.str.to_date("%Y-%m-%d", strict=False)


def _times(c: pl.Expr) -> pl.Expr:
    return c.str.to_time("%H:%M:%S%.f", strict=False)


def _datetime_cast(dtype: pl.Datetime, sample: str = "") -> Cast:
    unit, zone = dtype.time_unit, dtype.time_zone
    unit_digits = _TIME_UNIT_DIGITS[unit]

    def in_zone(c: pl.Expr) -> pl.Expr:
        return c.dt.replace_time_zone("UTC").dt.convert_time_zone(zone) if zone else c

    def parsed_as(c: pl.Expr, unit: typing.Literal["ns", "us", "ms"]) -> pl.Expr:
        form = "%Y-%m-%d %H:%M:%S%.f%:z" if zone else "%Y-%m-%d %H:%M:%S%.f"
        return c.str.to_datetime(form, time_unit=unit, time_zone=zone and "UTC", strict=False)

    def any_spelling(c: pl.Expr) -> pl.Expr:
        parsed = parsed_as(c, unit)
        if unit == "ns":
            parsed = _unless_overflown(parsed, parsed_as(c, "us"))
        return parsed.dt.convert_time_zone(zone) if zone else parsed

    # pandas writes all of a column alike, and Polars is slow at fractions.
    offset = "+00:00" if zone and sample.endswith("+00:00") else ""
    digits = max(0, len(sample) - len(offset) - len(_SECONDS[0]) - 1)

    def usual(c: pl.Expr) -> pl.Expr:
        whole = c if not (digits or offset) else c.str.head(len(_SECONDS[0]))
        parsed = whole.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit=unit, strict=False, cache=False)
        if digits:
            fraction = c.str.slice(len(_SECONDS[0]) + 1, digits).cast(pl.Int64, strict=False)
            parsed = (parsed.cast(pl.Int64) + fraction * 10 ** (unit_digits - digits)).cast(pl.Datetime(unit))
        return in_zone(parsed)

    def every(c: pl.Expr) -> pl.Expr:
        c = c.str.replace("T", " ", literal=True).str.replace("Z", "+00:00", literal=True)
        c = pl.when(c.str.len_bytes() == len(_DATE[0])).then(c + " 00:00:00").otherwise(c)
        if zone:
            # Without an offset the instant is UTC, as everywhere in the container.
            c = pl.when(c.str.contains(rf"{_OFFSET}$")).then(c).otherwise(c + "+00:00")
        return any_spelling(c)

    # Digits beyond the unit would be dropped, so they must be zeros.
    clock = rf"(?:{_CLOCK})(?:\.\d{{1,{unit_digits}}}0*)?{_OFFSET + '?' if zone else ''}"
    refuse = _not_spelled(rf"^{_YEAR}-\d\d-\d\d(?:[ T]{clock})?$")
    if not len(_SECONDS[0]) <= len(sample) - len(offset) <= len(_SECONDS[0]) + 1 + unit_digits:
        return Cast(every, _any(refuse), every, refuse)
    low, high = (
        bound + f".{digit * digits}" * (digits > 0) + offset for bound, digit in zip(_SECONDS, "09", strict=True)
    )
    years = NANOSECOND_YEARS if unit == "ns" else ()
    return Cast(usual, _not_within(low, high, *years), every, refuse, alike=True)


def _unless_overflown(nanoseconds: pl.Expr, microseconds: pl.Expr) -> pl.Expr:
    """Replace instants beyond pandas' `Timestamp.min` and `.max` by null; the same ones in microseconds show them."""
    fine, coarse = nanoseconds.to_physical(), microseconds.to_physical()
    # Within the outermost microseconds only the sign shows it; the lowest number is pandas' null.
    near = coarse.is_between(-(2**63) // 1000, (2**63 - 1) // 1000) & (fine != -(2**63))
    return pl.when(near & ((fine < 0) == (coarse < 0))).then(nanoseconds)


def read_instants(text: pl.Series) -> pl.Series:
    """Read ISO 8601 timestamps from strings.

    Args:
        text: Dates or timestamps; without an offset they are in UTC. A date is its midnight.

    Returns:
        `Datetime("us", "UTC")`, rounded down to microseconds; null if the text is not a timestamp.
    """
    known, c = _datetime_cast(pl.Datetime("us", "UTC")), pl.col(text.name)
    short = with_four_digit_years(text, declared=False).str.replace(r"(\.\d{6})\d{1,3}", "$1")
    assert known.refuse is not None  # noqa: S101  datetimes have a spelling
    return short.to_frame().select(pl.when(known.refuse(c)).then(None).otherwise(known.every(c))).to_series()


def with_four_digit_years(text: pl.Series, *, declared: bool) -> pl.Series:
    """Add the zeros to the years of dates and timestamps that pandas 2 leaves out before 1000: `1-01-01 00:00:00`.

    Two digits are more likely the end of a year, or a day (`31-12-24`), unless a time is declared and follows.
    """
    if not text.str.contains(r"^[1-9]\d{0,2}-").any():
        return text
    years = r"^([1-9]|[1-9]\d\d)(-)"
    if declared:
        text = text.str.replace(r"^([1-9]\d)(-\d\d-\d\d \d\d:)", "00$1$2")
    return text.str.replace(years, "00${1}$2").str.replace(r"^00(\d)-", "000$1-").str.replace(r"^00(\d{3}-)", "0$1")


def _no_decimal(c: pl.Expr, scale: int) -> pl.Expr:
    """Tell which texts Python does not write so, or have digits beyond the scale, which a cast would round away."""
    return c.str.contains(_DECIMAL).not_() | c.str.contains(rf"\.\d{{{scale}}}\d*[1-9]\d*$")


def _decimals(c: pl.Expr, dtype: pl.Decimal) -> pl.Expr:
    # Polars rounds what has an exponent, or cannot read it, depending on its version.
    return pl.when(c.str.contains("E", literal=True)).then(None).otherwise(c).cast(dtype, strict=False)


def _all_decimals(c: pl.Expr, dtype: pl.Decimal) -> pl.Expr:
    # Python writes small decimals and zeros of a large scale with an exponent: 1E-7, 0E-18.
    short = c.str.contains("E", literal=True) & c.str.contains(_DECIMAL)
    written_out = pl.when(short).then(c).otherwise(None).map_elements(_written_out, pl.String)
    exact = pl.when(_no_decimal(written_out, dtype.scale)).then(None).otherwise(written_out)
    return pl.coalesce(_decimals(c, dtype), exact.cast(dtype, strict=False))


def _written_out(text: str) -> str:
    return format(Decimal(text), "f")
