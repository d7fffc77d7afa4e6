"""The benchmarks run, at a tiny size; no time is asserted."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from benchmarks.__main__ import main
from benchmarks.bench import Measured
from benchmarks.data import FIRST_DAY, SCHEMA, WEEKS, make_csv, rows_of
from benchmarks.processes import HOST, serving
from benchmarks.suite import GROUPS
from benchmarks.table import Row, figure, render
from benchmarks.throttle import TokenBucket
from fdtcc_dagster.client.parsing import CsvSource
from fdtcc_dagster.client.schema import to_schema

ROWS = {"one": 11, "large": 3, "links": 4, "memory": 2, "unchanged": 1, "backfill": 2, "slices": 4}


@pytest.mark.timeout(400)
def test_all_groups_give_their_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "figures.json"
    arguments = ["--size", "1MB", "--rounds", "1", "--directory", str(tmp_path), "--json", str(figures)]
    assert main(arguments) == 0
    assert sorted(ROWS) == sorted(GROUPS)
    table = capsys.readouterr().out.splitlines()
    rows = json.loads(figures.read_text(encoding="utf-8"))
    assert len(table) == 2 + sum(ROWS.values()) == 2 + len(rows)
    for row, line in zip(rows, table[2:], strict=True):
        assert line.startswith(f"| {row['what']} ")
        assert all(math.isfinite(value) and value > 0 for value in row["seconds"] + row["peak_mb"])
        assert (row["bound"] is None) == (row["values"] == [])
        assert all(math.isfinite(value) and value >= 0 for value in row["values"])
    spool = next(row for row in rows if row["unit"] == "files")
    assert 1 <= spool["values"][0] <= 4
    written = next(row for row in rows if row["what"].startswith("bytes written"))
    assert written["values"][0] == pytest.approx(1, abs=0.2)
    assert list(tmp_path.iterdir()) == [figures]
