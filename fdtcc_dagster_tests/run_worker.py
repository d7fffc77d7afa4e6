"""Run workers that start in no time: forked from a process in which all is imported and built already.

Nothing here may start threads when it is imported, as Polars does at its first query: a forked process has none.
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from datetime import date
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import dagster as dg
import polars as pl

from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    FoundryParquetIOManager,
    Schedule,
    build_foundry_assets,
)
from fdtcc_dagster.client.directories import STATE_DIRECTORY

KEY = "2026-01-05"
NAMES = ("old", "new")
"""Two datasets that are stored in one place, so that each run overwrites what the other one has stored."""
MANY = tuple(f"dataset{number:02}" for number in range(64))
GROWN = ".grown"
SCHEMA = {"id": "Int64", "version": "Int64", "amount": "Float64", "note": "String"}
DAILY = Schedule([{"cycle": "daily", "time": "00:00:00"}])
ASSETS = {
    name: build_foundry_assets(
        [FoundryDataset(name, DAILY, date(2026, 1, 1), SCHEMA, asset_key="orders" if name in NAMES else name)],
        retry_policy=None,
    )
    for name in (*NAMES, *MANY)
}
dg.DagsterInstance.ephemeral().dispose()


def materialize(started: Connection, name: str, port: int, directory: Path, state: str) -> None:
    """What a run worker does: materialize the partition. In the end it writes by how much its memory grew."""
    tempfile.tempdir = str(directory / "tmp")
    # The process from which this one was forked may be that of an earlier test.
    os.environ[STATE_DIRECTORY] = state
    before = resident("VmRSS")
    started.send(None)
    dg.materialize(
        ASSETS[name],
        partition_key=KEY,
        resources={
            "foundry_container": FoundryContainerResource(
                host="127.0.0.1", port=port, spool_directory=str(directory / "spool")
            ),
            "io_manager": FoundryParquetIOManager(base_dir=str(directory / "parquet")),
        },
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    (directory / "tmp" / f"{os.getpid()}{GROWN}").write_text(str(resident("VmHWM") - before))


def resident(which: str) -> int:
    """The memory of this process in bytes, now (VmRSS) or at its highest (VmHWM)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[which].split()[0]) * 1024


def snapshot(version: int, rows: int) -> pl.DataFrame:
    """Rows of the datasets' columns."""
    ids = pl.int_range(rows, eager=True)
    return pl.DataFrame(
        {
            "id": ids,
            "version": pl.repeat(version, rows, dtype=pl.Int64, eager=True),
            "amount": (ids * 7919 % 100_000) / 8,
            "note": "row " + (ids * version).cast(pl.String) + ', "quoted"',
        }
    )


class Workers:
    """Run workers.

    Args:
        port: The port of a container with the datasets of `NAMES` or `MANY`.
        directory: Has the directories `tmp`, `spool` and `parquet`.
    """

    def __init__(self, port: int, directory: Path) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])
        self._port, self._directory, self._state = port, directory, os.environ[STATE_DIRECTORY]

    def start(self, name: str) -> BaseProcess:
        """Start a worker that materializes the dataset's partition; give it when it begins to."""
        ours, theirs = self._context.Pipe(duplex=False)
        arguments = (theirs, name, self._port, self._directory, self._state)
        process = self._context.Process(target=materialize, args=arguments)
        process.start()
        theirs.close()
        with ours:
            ours.recv()
        return process

    def run(self, name: str, seconds: float | None = None, since: Callable[[], bool] | None = None) -> int | None:
        """Materialize the dataset's partition, and give the worker's exit code.

        Args:
            name: The dataset.
            seconds: When to kill the worker; None: never.
            since: What these seconds are counted from; None: from when it began.
        """
        process = self.start(name)
        while since and process.is_alive() and not since():
            time.sleep(0.001)
        process.join(seconds)
        process.kill()
        process.join()
        code = process.exitcode
        process.close()
        return code

    def grown(self) -> list[int]:
        """By how many bytes the memory of each worker has grown that has come to its end."""
        return [int(path.read_text()) for path in (self._directory / "tmp").glob(f"*{GROWN}")]
