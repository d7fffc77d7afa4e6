"""CSV snapshots of a given size in pandas' dialect: reproducible, realistic, and fast to make."""

from __future__ import annotations

import os
import random
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

SCHEMA = {
    "id": "Int64",
    "customer": "String",
    "note": "String",
    "amount": "Float64",
    "quantity": "Int64",
    "rating": "Int64",
    "ratio": "Float64",
    "active": "Boolean",
    "created_at": "Datetime(us)",
    "updated_at": "Datetime(us)",
}
"""What a user would declare; `rating` has nulls, so pandas writes its integers as `4.0`."""

FIRST_DAY, WEEKS = "2024-01-01", 52
"""The rows' times are spread over whole weeks."""
VERSION_DAY = "2025-01-05"
"""When the snapshots were pulled."""
DATETIME_FORMAT = "%Y-%m-%d %H:%M:%S"

_BYTES_PER_ROW = 116
_BLOCK_ROWS = 200_000
_WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"]
_SPAN_SECONDS = int(timedelta(weeks=WEEKS).total_seconds())


def rows_of(size: int) -> int:
    """How many rows a snapshot of about `size` bytes has."""
    return max(WEEKS, round(size / _BYTES_PER_ROW))


def make_csv(path: Path, size: int, *, first_id: int = 0) -> Path:
    """Make a snapshot unless it is there already.

    Args:
        path: The file; it appears when it is complete.
        size: Its size in bytes, about.
        first_id: The id of its first row, by which snapshots differ.

    Returns:
        `path`.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    notes, rows = _notes(), rows_of(size)
    with unfinished.open("wb") as file:
        file.write(",".join(SCHEMA).encode() + b"\n")
        for start in range(0, rows, _BLOCK_ROWS):
            block = _block(start, min(start + _BLOCK_ROWS, rows), rows, first_id, notes)
            block.write_csv(file, include_header=False, datetime_format=DATETIME_FORMAT)
    os.replace(unfinished, path)
    return path


def _block(start: int, end: int, rows: int, first_id: int, notes: pl.Series) -> pl.DataFrame:
    row = pl.int_range(start, end, dtype=pl.Int64)
    number = row + first_id

    def dice(sides: int, salt: int) -> pl.Expr:
        """A number below `sides` that looks random, also beside those of the rows around it."""
        mixed = (number * 2_654_435_761 + salt * 40_503) % (1 << 32)
        for _ in range(2):
            mixed = (mixed ^ (mixed // (1 << 16))) * 73_244_475 % (1 << 32)
        return (mixed ^ (mixed // (1 << 16))) % sides

    # In the order of the ids but for some hours, as of rows that arrive late; and in no order at all.
    rising = (row * _SPAN_SECONDS // rows + dice(20_000, 1)).clip(0, _SPAN_SECONDS - 1)
    anywhere = dice(_SPAN_SECONDS, 2)
    return pl.select(
        id=number,
        customer=pl.lit("C") + dice(10_000_000, 3).cast(pl.String).str.zfill(7),
        note=pl.lit(notes).gather(dice(len(notes), 4)),
        amount=(dice(10_000_000, 5) / 100).round(2),
        quantity=dice(1_000, 6),
        rating=pl.when(dice(5, 7) > 0).then(dice(5, 8).cast(pl.Float64)),
        # Not below 0.0001, where pandas writes exponents.
        ratio=(dice(1 << 32, 9) + (1 << 28)) / (1 << 33),
        active=pl.when(dice(3, 10) > 0).then(pl.lit("True")).otherwise(pl.lit("False")),
        created_at=pl.lit(datetime.fromisoformat(FIRST_DAY)) + pl.duration(seconds=rising),
        updated_at=pl.lit(datetime.fromisoformat(FIRST_DAY)) + pl.duration(seconds=anywhere),
    )


def _notes() -> pl.Series:
    """Free text: a fifth of it null, some with commas, quotes and newlines, which are quoted."""
    dice = random.Random(0)  # noqa: S311  not for secrets
    separators = [" ", " ", " ", ", ", "\n", ' "so-called" ']

    def note() -> str | None:
        words = dice.choices(_WORDS, k=dice.randint(1, 5))
        return None if dice.random() < 0.2 else dice.choice(separators).join(words)

    return pl.Series([note() for _ in range(10_007)], dtype=pl.String)
