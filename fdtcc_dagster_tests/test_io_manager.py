"""The Parquet store with frames that do not come from a container."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from fdtcc_dagster import FoundryParquetIOManager

DAYS = dg.DailyPartitionsDefinition(start_date="2024-01-01", end_date="2024-02-01")


def files(base_dir: Path) -> list[str]:
    return sorted(str(path.relative_to(base_dir)) for path in base_dir.rglob("*") if path.is_file())


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
    assert metadata["dagster/size_bytes"].value == (tmp_path / "numbers.parquet").stat().st_size
    names = {"dagster/column_schema", "dagster/row_count", "dagster/size_bytes", "dagster/uri", "path"}
    assert set(metadata) == names | {"foundry/store_seconds"}
    assert metadata["dagster/column_schema"].value == dg.TableSchema([dg.TableColumn("id", "Int64")])


def test_the_first_rows_are_shown_on_request_only(tmp_path: Path) -> None:
    rid = "ri.foundry.main.dataset.0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"

    @dg.asset
    def numbers() -> pl.DataFrame:
        return pl.DataFrame({"id": [1, 2, 3], "of": ["a|b\nc", None, rid], "long": ["x" * 500] * 3})

    found = {}
    for rows in (0, 2, 3):
        io_manager = FoundryParquetIOManager(base_dir=str(tmp_path), preview_rows=rows)
        result = dg.materialize([numbers], resources={"io_manager": io_manager})
        found[rows] = result.asset_materializations_for_node("numbers")[0].metadata.get("foundry/preview")
    assert found[0] is None
    assert found[2] is not None
    header, _, first, second = str(found[2].value).splitlines()
    assert header == "| id | of | long |"
    assert first.startswith(r"| 1 | a\|b c | xxx")
    assert len(first) < 150
    assert second.startswith("| 2 |  | ")
    assert rid not in str(found[3])


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
