"""The benchmarks run, at a tiny size; no time is asserted."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import aiohttp
import polars as pl
import pytest

from benchmarks.__main__ import main
from benchmarks.bench import Bench, Job, Measured
from benchmarks.data import FIRST_DAY, SCHEMA, VERSION_DAY, WEEKS, make_csv, rows_of
from benchmarks.processes import HOST, serving
from benchmarks.suite import GROUPS
from benchmarks.table import figure, render
from fdtcc_dagster.pandas_csv.schema import to_schema
from fdtcc_dagster.pandas_csv.source import CsvSource
from fdtcc_dagster.sandbox import SandboxContainer

ROWS = {"one": 15, "large": 3, "links": 8, "memory": 2, "unchanged": 1, "backfill": 2, "slices": 4}
ROWS |= {"stores": 5, "loading": 2}


@pytest.mark.real_instance
@pytest.mark.skipif(not (shutil.which("curl") or os.environ.get("CI")), reason="needs curl: install it")
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
        assert all(math.isfinite(value) and value > 0 for value in row["seconds"] + row["cpu"] + row["peak_mb"])
        assert row["bound"] is None or row["values"]
        assert all(math.isfinite(value) and value >= 0 for value in row["values"])
    spool = next(row for row in rows if row["unit"] == "files")
    assert 1 <= spool["values"][0] <= 4
    written = next(row for row in rows if row["what"].startswith("bytes written"))
    assert written["values"][0] == pytest.approx(1, abs=0.2)
    assert list(tmp_path.iterdir()) == [figures]


@pytest.mark.real_instance
@pytest.mark.timeout(600)
def test_the_table_of_loading_has_figures_of_both_locations() -> None:
    command = [sys.executable, "benchmarks/load_time.py", "--rounds", "1", "--datasets", "12"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    _, *lines = done.stdout.splitlines()
    figures = {line[:36].strip(): [float(figure) for figure in line[36:].split()[:2]] for line in lines}
    assert {"import", "definitions", "a schedule's tick", "the latest 100 keys"} <= set(figures)
    # A bare location has a line, too, where it does next to nothing.
    assert all(bare >= 0 and ours > 0 for bare, ours in figures.values())


def test_snapshots_are_of_the_size_and_of_the_declared_types(tmp_path: Path) -> None:
    path = make_csv(tmp_path / "one.csv", 2_000_000, first_id=7)
    assert path.stat().st_size == pytest.approx(2_000_000, rel=0.03)
    source = CsvSource(lambda: path.open("rb"))
    frame = source.scan().collect()
    declared = to_schema(SCHEMA)
    # Without a schema, integers beside nulls are floats.
    assert frame.schema == pl.Schema({**declared, "rating": pl.Float64()})
    assert source.scan(declared).collect().height == rows_of(2_000_000)
    assert frame["id"].to_list() == list(range(7, 7 + frame.height))
    start = dt.datetime.fromisoformat(FIRST_DAY)
    for column, ordered in {"created_at": True, "updated_at": False}.items():
        weeks = (frame[column] - start).dt.total_days() // 7
        assert set(weeks) == set(range(WEEKS))
        assert weeks.diff().drop_nulls().is_between(-1, 1).all() is ordered
    for text in (",", "\n", '"'):
        assert frame["note"].str.contains(text, literal=True).any()
    again = make_csv(tmp_path / "two.csv", 2_000_000, first_id=7)
    assert again.read_bytes() == path.read_bytes() != make_csv(tmp_path / "three.csv", 2_000_000).read_bytes()


def test_a_job_that_stores_other_rows_ends_the_benchmark(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 100_000, 1)
    csv = bench.snapshot("big")
    with pytest.raises(RuntimeError, match=f"sink stored {rows_of(100_000)} rows instead of 1"):
        bench.measure({"sink": Job("baselines.polars_sink", 1, {"path": str(csv)})})
    with pytest.raises(RuntimeError, match="No such file"):
        bench.measure({"sha256": Job("baselines.sha256", None, {"path": str(tmp_path / "none.csv")})})


async def test_the_link_passes_everything_on(tmp_path: Path) -> None:
    data = "id\n" + "1234567\n" * 400_000
    with SandboxContainer() as container:
        pulled_at = dt.datetime.fromisoformat(f"{VERSION_DAY}T04:00:00+00:00")
        pointer = container.add_version("big", pulled_at, data)
        with serving("benchmarks.throttle", str(container.port), "200", scratch=tmp_path) as link:
            url = f"http://{HOST}:{link.port}/fdtc-api/dataset/download/csv/{pointer}"
            async with aiohttp.ClientSession() as session:
                for _ in range(2):
                    async with session.get(url) as response:
                        assert hashlib.sha256(await response.read()).hexdigest() == pointer


def test_the_table_says_which_bounds_are_met() -> None:
    curl = Measured([1.0, 2.0, 4.0], [0.5] * 3, [10.0] * 3)
    ours = Measured([1.0, 4.0, 6.0], [1.0] * 3, [100.0, 300.0, 200.0])
    rows = [figure("ratio", ours.per(curl), 1.5, ours), figure("memory", ours.peak_mb, 150, ours, "MB")]
    rows += [figure("processor", ours.cpu_per(curl, curl), None, ours), figure("most", ours.per(curl, of=max), 1, ours)]
    assert [row.met for row in rows] == [True, False, True, False]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in render(rows).splitlines()[2:]]
    assert cells == [
        ["ratio", "≤ 1.50", "1.50 (1.00…2.00)", "yes", "4.00 (1.00…6.00)", "1.00 (1.00…1.00)", "300"],
        ["memory", "≤ 150 MB", "200 (100…300) MB", "NO", "4.00 (1.00…6.00)", "1.00 (1.00…1.00)", "300"],
        ["processor", "", "1.00 (1.00…1.00)", "", "4.00 (1.00…6.00)", "1.00 (1.00…1.00)", "300"],
        ["most", "≤ 1.00", "1.50 (1.00…2.00)", "NO", "4.00 (1.00…6.00)", "1.00 (1.00…1.00)", "300"],
    ]
