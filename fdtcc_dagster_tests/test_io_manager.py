"""The Parquet store with frames that do not come from a container."""

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

DAYS = dg.DailyPartitionsDefinition(start_date="2024-01-01", end_date="2024-02-01")


def materialize(asset: dg.AssetsDefinition, base_dir: Path, key: str | None = None) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [asset],
        resources={"io_manager": FoundryParquetIOManager(base_dir=str(base_dir))},
        partition_key=key,
        raise_on_error=False,
    )


def files(base_dir: Path) -> list[str]:
    return sorted(str(path.relative_to(base_dir)) for path in base_dir.rglob("*") if path.is_file())


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


def test_frames_and_unpartitioned_assets_are_stored_too(tmp_path: Path) -> None:
    @dg.asset
    def numbers() -> pl.DataFrame:
        return pl.DataFrame({"id": [1, 2, 3]})

    @dg.asset
    def total(numbers: pl.LazyFrame) -> pl.DataFrame:
        return numbers.sum().collect()

    result = dg.materialize([numbers, total], resources={"io_manager": FoundryParquetIOManager(base_dir=str(tmp_path))})
    assert result.success
    assert files(tmp_path) == ["numbers.parquet", "total.parquet"]
    assert pl.read_parquet(tmp_path / "total.parquet")["id"].to_list() == [6]
    metadata = result.asset_materializations_for_node("numbers")[0].metadata
    assert metadata["dagster/row_count"].value == 3
    assert set(metadata) == {"dagster/column_schema", "dagster/row_count", "foundry/store_seconds", "path"}
    assert metadata["dagster/column_schema"].value == dg.TableSchema([dg.TableColumn("id", "Int64")])


def test_a_partition_that_is_not_stored_is_named(tmp_path: Path) -> None:
    upstream = dg.AssetSpec("orders", partitions_def=DAYS)

    @dg.asset(partitions_def=DAYS)
    def copy(orders: pl.LazyFrame) -> None:
        orders.collect()

    result = dg.materialize(
        [copy, upstream],
        resources={"io_manager": FoundryParquetIOManager(base_dir=str(tmp_path))},
        partition_key="2024-01-02",
        raise_on_error=False,
    )
    failures = [event for event in result.all_events if event.is_step_failure]
    assert "orders/2024-01-02.parquet; materialize it first" in str(failures[0].step_failure_data.error)


def test_without_a_directory_the_instance_s_storage_is_used(tmp_path: Path) -> None:
    @dg.asset
    def numbers() -> pl.DataFrame:
        return pl.DataFrame({"id": [1]})

    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        assert dg.materialize([numbers], resources={"io_manager": FoundryParquetIOManager()}, instance=instance).success
        assert (Path(instance.storage_directory()) / "numbers.parquet").is_file()


@pytest.mark.parametrize("kind", [pl.DataFrame, pl.LazyFrame])
@pytest.mark.parametrize("columns", [["*"], ["^a$", "*"], ["a", "^a$"]])
def test_columns_of_an_input_are_names_and_no_patterns(tmp_path: Path, columns: list[str], kind: type) -> None:
    rows = pl.DataFrame({"a": [1], "^a$": [2], "*": [3], "b": [4]})

    @dg.asset(key="rows")
    def stored() -> pl.DataFrame:
        return rows

    def read(some: Any) -> None:
        assert some.lazy().collect().to_dict(as_series=False) == {name: rows[name].to_list() for name in columns}

    read.__annotations__["some"] = kind
    asset = dg.asset(name="read", ins={"some": dg.AssetIn("rows", metadata={"columns": columns})})(read)
    manager = FoundryParquetIOManager(base_dir=str(tmp_path))
    assert dg.materialize([stored, asset], resources={"io_manager": manager}).success


@pytest.mark.parametrize("most_held", [1 << 20, 0], ids=["descriptors", "links"])
def test_a_directory_of_the_user_s_home_is_there_and_may_be_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_held: int
) -> None:
    monkeypatch.setattr("fdtcc_dagster.storage.reading._most_held", lambda: most_held)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    @dg.asset
    def orders() -> pl.DataFrame:
        return pl.DataFrame({"id": [1]})

    @dg.asset
    def copy(orders: pl.LazyFrame) -> pl.LazyFrame:
        return orders

    for base_dir in ("~/text", Path("~/path"), tmp_path / "absolute", "./~nobody-of-that-name/x"):
        io_manager: Any = FoundryParquetIOManager(base_dir=base_dir)
        assert dg.materialize([orders, copy], resources={"io_manager": io_manager}).success
    names = [f"{name}/{each}.parquet" for name in ("path", "text") for each in ("copy", "orders")]
    assert [file for file in files(tmp_path / "home") if "fdtcc-spool-" not in file] == names
    found = [file for file in files(tmp_path / "work") if "fdtcc-spool-" not in file]
    assert found == [f"~nobody-of-that-name/x/{each}.parquet" for each in ("copy", "orders")]
    found = [file for file in files(tmp_path / "absolute") if "fdtcc-spool-" not in file]
    assert found == ["copy.parquet", "orders.parquet"]


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
