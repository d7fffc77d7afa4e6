"""A file takes its place as a whole, or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from polars.io.plugins import register_io_source
from upath import UPath

from fdtcc_dagster import FoundryParquetIOManager
from fdtcc_dagster.interrupts import stop_scans
from fdtcc_dagster.storage import checksums
from fdtcc_dagster_tests.test_io_manager import DAYS, files


def materialize(asset: dg.AssetsDefinition, base_dir: Path, key: str | None = None) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [asset],
        resources={"io_manager": FoundryParquetIOManager(base_dir=str(base_dir))},
        partition_key=key,
        raise_on_error=False,
    )


def store(ids: list[int], path: Path) -> None:
    context = dg.build_output_context(asset_key=dg.AssetKey("orders"))
    FoundryParquetIOManager(base_dir=str(path.parent)).write_df_to_path(context, pl.DataFrame({"id": ids}), UPath(path))


def test_a_lazy_frame_that_fails_in_the_middle_leaves_the_previous_file(tmp_path: Path) -> None:
    good = True

    def stream(columns: object, predicate: object, n_rows: object, batch_size: object) -> Iterator[pl.DataFrame]:
        yield pl.DataFrame({"id": [1]})
        if not good:
            raise OSError("the disk is gone")
        yield pl.DataFrame({"id": [2]})

    @dg.asset(key_prefix="sales", partitions_def=DAYS)
    def orders() -> pl.LazyFrame:
        return register_io_source(stream, schema={"id": pl.Int64})

    assert materialize(orders, tmp_path, "2024-01-02").success
    good = False
    assert not materialize(orders, tmp_path, "2024-01-02").success
    assert not materialize(orders, tmp_path, "2024-01-03").success
    assert files(tmp_path) == ["sales/orders/2024-01-02.parquet"]
    assert pl.read_parquet(tmp_path / "sales" / "orders" / "2024-01-02.parquet")["id"].to_list() == [1, 2]


def test_no_file_appears_after_a_failure_however_busy_the_machine_is(tmp_path: Path) -> None:
    """Given a path, Polars creates it now and then after it has raised: in 5 of 300 failures on two busy cores."""
    busy = True
    block = bytes(1 << 20)

    def burn() -> None:
        # It keeps a core busy without the interpreter's lock, for which every step below would have to wait.
        while busy:
            hashlib.sha256(block)

    def stream(columns: object, predicate: object, n_rows: object, batch_size: object) -> Iterator[pl.DataFrame]:
        raise OSError("the disk is gone")
        yield

    io_manager = FoundryParquetIOManager(base_dir=str(tmp_path))
    context = dg.build_output_context(asset_key=dg.AssetKey("orders"))
    threads = [threading.Thread(target=burn) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(200):
            frame = register_io_source(stream, schema={"id": pl.Int64})
            with pytest.raises((OSError, pl.exceptions.ComputeError), match="the disk is gone"):
                io_manager.sink_df_to_path(context, frame, UPath(tmp_path / "orders.parquet"))
        time.sleep(0.1)
    finally:
        busy = False
        for thread in threads:
            thread.join()
    assert files(tmp_path) == []


def test_a_file_is_on_the_disk_before_it_takes_its_place_and_then_its_place_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "orders.parquet"
    store([1], target)
    flushed: list[tuple[Path, list[int], list[int]]] = []

    def ids(path: Path) -> list[int]:
        return pl.read_parquet(path)["id"].to_list()

    fsync = os.fsync

    def observe(descriptor: int) -> None:
        fsync(descriptor)
        what = os.fstat(descriptor)
        (path,) = [each for each in (tmp_path, *tmp_path.iterdir()) if os.path.samestat(each.stat(), what)]
        flushed.append((path, ids(path if path.is_file() else target), ids(target)))

    monkeypatch.setattr(os, "fsync", observe)
    store([1, 2], target)
    (part, *before), (directory, *after) = flushed
    assert part.suffix == ".part"
    assert before == [[1, 2], [1]]
    assert directory == tmp_path
    assert after == [[1, 2], [1, 2]]


def test_what_cannot_be_flushed_to_the_disk_does_not_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "orders.parquet"
    store([1], target)

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"Input/output error: '.*orders\.parquet'"):
        store([1, 2], target)
    assert files(tmp_path) == ["orders.parquet"]
    assert pl.read_parquet(target)["id"].to_list() == [1]


def test_rows_that_were_stopped_when_they_were_written_do_not_take_the_place_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store([1], tmp_path / "orders.parquet")
    complete = checksums.complete

    def stop_then(*arguments: Any) -> str:
        stop_scans()
        return complete(*arguments)

    monkeypatch.setattr(checksums, "complete", stop_then)
    with pytest.raises(RuntimeError, match="stopped"):
        store([2], tmp_path / "orders.parquet")
    assert files(tmp_path) == ["orders.parquet"]
    assert pl.read_parquet(tmp_path / "orders.parquet")["id"].to_list() == [1]
