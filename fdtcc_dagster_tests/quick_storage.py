"""Dagster's storage, as it is but quicker: tests make hundreds of instances, and record thousands of events.

For each connection Dagster makes another engine, which compiles each statement anew; for each database alembic loads
every migration's module; SQLite waits for the disk at each event; and what a step prints is mirrored by four processes.
None of this bears on what is stored.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import sqlalchemy
from alembic.config import Config
from alembic.script import ScriptDirectory
from dagster._core.execution.compute_logs import redirect_to_file
from dagster._core.storage import local_compute_log_manager
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage

_MOST_ENGINES = 64
_engines: dict[str, sqlalchemy.Engine] = {}
_directories: dict[str | None, ScriptDirectory] = {}
_read_directory = ScriptDirectory.from_config


def _engine(conn_string: str, **options: Any) -> sqlalchemy.Engine:
    key = f"{conn_string} {options}"
    engine = _engines.get(key)
    if engine is None:
        if len(_engines) >= _MOST_ENGINES:
            _engines.clear()
        engine = _engines[key] = sqlalchemy.create_engine(conn_string, **options)
    return engine


def _directory(config: Config) -> ScriptDirectory:
    location = config.get_main_option("script_location")
    if location not in _directories:
        _directories[location] = _read_directory(config)
    return _directories[location]


@contextlib.contextmanager
def _mirror(stream: TextIO, path: str) -> Iterator[None]:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    before = file.stat().st_size
    try:
        with redirect_to_file(stream, path):
            yield
    finally:
        stream.write(file.read_bytes()[before:].decode(errors="replace"))


@sqlalchemy.event.listens_for(sqlalchemy.Engine, "connect")
def _do_not_wait_for_the_disk(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")


for _storage in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
    vars(_storage)["create_engine"] = _engine
vars(local_compute_log_manager)["mirror_stream_to_file"] = _mirror
type.__setattr__(ScriptDirectory, "from_config", staticmethod(_directory))
