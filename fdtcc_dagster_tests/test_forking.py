"""A code location is loaded without starting Polars, so that Polars works in a process that is forked from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads are told by /proc")

_DECLARE = """
import glob, os, signal, sys
from pathlib import Path
import dagster as dg
import polars as pl
import fdtcc_dagster as fd
import fdtcc_dagster.demo.definitions
from fdtcc_dagster.pandas_csv.schema import to_schema

hard = fd.Schedule([{"cycle": "monthly", "day": -2, "time": "04:00:00"}], timezone="Europe/Berlin")
schema = {
    "at": "Datetime(us, Europe/Berlin)", "since": pl.Datetime("ms", "utc"), "offset": "Datetime(us, +02:00)",
    "size": "Enum(small, large)", "color": pl.Enum(["red", "green"]), "amount": "Decimal(12, 2)", "day": "Date",
}
for wrong in ("Enum(a, a)", "Datetime(us, Mars)", pl.Struct({"x": pl.Int8}), pl.List(pl.String)):
    try:
        to_schema({"a": wrong})
    except ValueError:
        pass
datasets = [
    fd.FoundryDataset("snapshot", hard, "2024-01-01", schema),
    fd.FoundryDataset("sliced", hard, "2024-01-01", schema, time_column="at"),
    fd.FoundryDataset("inferred", hard, "2024-01-01"),
]
for automation in ("condition",):
    defs = fd.build_foundry_definitions(
        datasets, resource=fd.FoundryContainerResource(), automation=automation, sensor=True, checks=True,
        io_manager=fd.FoundryParquetIOManager(base_dir=sys.argv[1]),
    )
    dg.Definitions.validate_loadable(defs)
component = fd.FoundryDatasetsComponent.resolve_from_yaml(
    "{resource: {host: localhost}, checks: true, datasets: [{name: a, start: '2024-01-01', "
    "schedule: {refreshs: [{cycle: daily, time: '04:00:00'}]}, schema: {at: 'Datetime(us, UTC)', e: 'Enum(a, b)'}}]}"
)
dg.Definitions.validate_loadable(component.build_defs(dg.ComponentTree.for_test().load_context))
"""

_WORK = """
threads = {Path(each).read_text().strip() for each in glob.glob("/proc/self/task/*/comm")}
assert not any(name.startswith(("polars-0", "fdtcc", "tokio")) for name in threads), threads
if not (child := os.fork()):
    signal.alarm(20)  # ends a child that waits for threads which it has not
    frame = pl.LazyFrame({name: [None, None] for name in schema}).cast(datasets[0].schema)
    frame.sink_parquet(os.path.join(sys.argv[1], "a.parquet"))
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_polars_works_in_a_process_that_was_forked_from_a_loaded_code_location(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _DECLARE + _WORK, str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
