"""Metadata: its names are written in one module only, and columns that are too many are counted."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl
import pytest

import fdtcc_dagster
from fdtcc_dagster import metadata
from fdtcc_dagster.metadata import column_metadata, column_schema, first_and_last, markdown_table, preview, range_tags

PACKAGE = Path(fdtcc_dagster.__file__).parent
KEYS = {name: value for name, value in vars(metadata).items() if re.fullmatch("[A-Z][A-Z0-9_]+", name)}


def texts(path: Path) -> Iterator[str]:
    """All texts of a module but its docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    documentation = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documentation:
            yield node.value


def test_no_other_module_writes_a_name_of_metadata() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}: {text}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path != Path(metadata.__file__)
        for text in texts(path)
        if text.startswith(metadata.NAMESPACE) or text in KEYS.values()
    ]
    assert found == []


def test_each_name_is_there_once() -> None:
    assert len(set(KEYS.values())) == len(KEYS)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, None),
        ({"dagster/partition": "2026-01-05"}, ("2026-01-05", "2026-01-05")),
        (range_tags("2026-01-05", "2026-01-07"), ("2026-01-05", "2026-01-07")),
        ({**range_tags("2026-01-05", "2026-01-07"), "dagster/partition": "2026-01-06"}, ("2026-01-06", "2026-01-06")),
        ({"dagster/asset_partition_range_start": "2026-01-05"}, None),
    ],
)
def test_a_run_has_one_partition_or_a_range_or_none(tags: Mapping[str, str], expected: tuple[str, str] | None) -> None:
    assert first_and_last(tags) == expected


def test_columns_that_are_too_many_for_an_event_are_counted() -> None:
    few = column_metadata({"a": pl.Int64()})
    assert {name: value.value for name, value in few.items()} == {
        "dagster/column_schema": column_schema({"a": pl.Int64()})
    }
    many = column_metadata({f"column{number}": pl.String() for number in range(200_000)})
    assert {name: value.value for name, value in many.items()} == {"foundry/columns": 200_000}


def test_a_cell_of_a_table_is_text_and_no_markdown() -> None:
    # The UI would fetch the image, and a backslash before a bar would end the cell.
    (*_, row) = markdown_table(["a"], [["![](http://example.com/x) a\\|b <br> _c_ &amp; `d`"]]).splitlines()
    assert row == r"| !\[\](http://example.com/x) a\\\|b \<br\> \_c\_ \&amp; \`d\` |"


def test_a_preview_of_many_columns_is_bounded() -> None:
    frame = pl.DataFrame({f"{number} {'x' * 500}": ["y" * 500] for number in range(3000)})
    shown = str(preview(frame)["foundry/preview"].value)
    assert len(shown) < 50_000
    assert "and 2,900 more" in shown.splitlines()[0]
