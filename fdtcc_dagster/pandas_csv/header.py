"""Compares a CSV's header with the declared columns.

If the header is missing, the first row is in its place, and nothing of it may be shown. So the names that were found
are shown only if at least half of the declared ones are among them: a row may contain one by coincidence.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from fdtcc_dagster.redaction import listed


class ColumnsError(ValueError):
    """The columns of a CSV cannot be used, or are not the declared ones.

    Attributes:
        column: The name of one of them, unless it may be a row's value.
    """

    def __init__(self, message: str, column: str | None) -> None:
        super().__init__(message)
        self.column = column


def check_columns(found: Sequence[str], schema: pl.Schema | None) -> None:
    """Check that column names are unique, and those of the schema if there is one.

    Raises:
        ColumnsError: They are not.
    """
    declared = [] if schema is None else list(schema)
    known = set(declared)
    is_header = bool(known) and 2 * len(known.intersection(found)) >= len(known)
    first: dict[str, int] = {}
    for number, name in enumerate(found, start=1):
        if (other := first.setdefault(name, number)) != number:
            named = f", {listed([name])}" if is_header else ""
            raise ColumnsError(
                f"columns {other} and {number} of the CSV have the same name{named}", name if is_header else None
            )
    if schema is None or known == first.keys():
        return
    missing, extra = [c for c in declared if c not in first], [c for c in found if c not in known]
    if is_header:
        raise ColumnsError(
            f"the CSV's columns are not those of the schema: missing {listed(missing)}, not declared "
            f"{listed(extra)}; adapt the schema to the dataset",
            (missing or extra)[0],
        )
    raise ColumnsError(
        f"the CSV's columns are not those of the schema: missing {listed(missing)}, which are {len(missing)} of "
        f"{len(declared)}, and its first line has {len(extra)} others, which may be a row: adapt the schema, or have "
        "the dataset written with a header",
        missing[0],
    )
