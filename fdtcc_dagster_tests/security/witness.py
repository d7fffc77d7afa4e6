"""Real runs in a Dagster instance on disk, of which every byte that is written anywhere can be searched."""

from __future__ import annotations

import json
import logging
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fdtcc_dagster import FoundryContainerResource, FoundryDataset, FoundryParquetIOManager, build_foundry_definitions

TODAY = datetime.now(timezone.utc).strftime("%Y-%m-%d")
DAYS = dg.DailyPartitionsDefinition("2026-01-01", end_offset=1)


class Witness:
    """Keeps what runs write: databases, compute logs, the console, and Python's logging at its most talkative."""

    def __init__(self, directory: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
        self._home = directory / "dagster"
        self._home.mkdir()
        self._parquet = directory / "parquet"
        self._caplog, self._capfd = caplog, capfd
        self._console = ""
        # Also of loggers that would not say so much by themselves.
        caplog.set_level(logging.DEBUG)
        self.instance = dg.DagsterInstance.local_temp(str(self._home))

    def run(
        self, resource: FoundryContainerResource, keys: tuple[str, ...] = (TODAY,), **settings: Any
    ) -> dg.ExecuteInProcessResult:
        """Materialize partitions of `orders`, and keep the definition's snapshots too."""
        dataset = FoundryDataset("orders", **{"partitions_def": DAYS, "missing_version": "accept", **settings})
        definitions = build_foundry_definitions(
            [dataset],
            resource=resource,
            io_manager=FoundryParquetIOManager(base_dir=str(self._parquet)),
            automation=None,
            retry_policy=None,
        )
        job = definitions.resolve_implicit_global_asset_job_def()
        tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
        chosen: Mapping[str, Any] = {"partition_key": keys[0]} if len(keys) == 1 else {"tags": tags}
        return job.execute_in_process(instance=self.instance, raise_on_error=False, **chosen)

    def written(self) -> str:
        """Everything, as one text."""
        out, err = self._capfd.readouterr()
        self._console += out + err
        records = [f"{r.name} {r.levelname} {r.getMessage()} {r.exc_text or ''}" for r in self._caplog.records]
        files = [path for path in self._home.rglob("*") if path.is_file()]
        texts = [path.read_bytes().decode("latin-1") for path in files if path.suffix != ".db"]
        cells = [cell for path in files if path.suffix == ".db" for cell in _cells(path)]
        assert cells
        return "\n".join([self._console, *records, *texts, *cells])

    def failure(self, result: dg.ExecuteInProcessResult) -> str:
        """Why a run failed, as its page shows it: with the whole chain of causes."""
        (failed,) = result.filter_events(lambda event: event.is_step_failure)
        error = failed.step_failure_data.error
        assert error is not None
        return error.to_string()


def _cells(path: Path) -> Iterator[str]:
    """The cells of a database's tables; Dagster compresses some."""
    with sqlite3.connect(path) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in database.execute(f'SELECT * FROM "{table}"'):  # noqa: S608  names of Dagster's own tables
                for cell in row:
                    if isinstance(cell, bytes):
                        try:
                            yield zlib.decompress(cell).decode()
                        except zlib.error:
                            yield cell.decode("latin-1")
                    elif isinstance(cell, str):
                        yield cell
                        yield json.dumps(cell)
