"""What a user's assets may return to the Parquet store, where it is stored, and how it is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import dagster as dg
import pandas as pd
import polars as pl
import pytest

from fdtcc_dagster import FoundryParquetIOManager

DAYS = dg.DailyPartitionsDefinition(start_date="2024-01-01", end_date="2024-02-01")
DAY = "2024-01-02"
PAIRS = dg.MultiPartitionsDefinition(
    {"letter": dg.StaticPartitionsDefinition(["x", "y"]), "number": dg.StaticPartitionsDefinition(["1", "2"])}
)
ONE, OTHER = pl.DataFrame({"id": [1]}), pl.DataFrame({"id": [2, 2]})


def error_of(result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    texts, error = [], failure.step_failure_data.error
    while error is not None:
        texts.append(error.message)
        error = error.cause
    return "\n".join(texts)


def files(base_dir: Path) -> list[str]:
    return sorted(str(path.relative_to(base_dir)) for path in base_dir.rglob("*") if path.is_file())


class Store:
    def __init__(self, directory: Path, instance: dg.DagsterInstance) -> None:
        self.directory, self.instance = directory, instance
        self.io_manager = FoundryParquetIOManager(base_dir=str(directory))

    def run(self, asset: Any, *keys: str, with_: Any = None) -> dg.ExecuteInProcessResult:
        tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
        return dg.materialize(
            [asset, *([with_] if with_ else [])],
            resources={"io_manager": self.io_manager},
            instance=self.instance,
            selection=[asset],
            partition_key=keys[0] if len(keys) == 1 else None,
            tags=tags if len(keys) > 1 else None,
            raise_on_error=False,
        )

    def output(self, output: object, *keys: str, partitions_def: Any = None, **arguments: Any) -> Any:
        policy = dg.BackfillPolicy.single_run() if partitions_def else None

        @dg.asset(name="a", partitions_def=partitions_def, backfill_policy=policy, **arguments)  # type: ignore[untyped-decorator]
        def asset() -> Any:
            return output

        return self.run(asset, *keys) if keys else self.run_unpartitioned(asset)

    def run_unpartitioned(self, asset: Any) -> dg.ExecuteInProcessResult:
        return dg.materialize([asset], resources={"io_manager": self.io_manager}, raise_on_error=False)

    def read(self, partitions_def: Any, key: str) -> pl.DataFrame:
        seen: list[pl.DataFrame] = []

        @dg.asset(name="reader", ins={"rows": dg.AssetIn("a")}, partitions_def=partitions_def)
        def reader(rows: pl.DataFrame) -> None:
            seen.append(rows)

        assert self.run(reader, key, with_=dg.AssetSpec("a", partitions_def=partitions_def)).success
        return seen[0]


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def store(tmp_path: Path, instance: dg.DagsterInstance) -> Store:
    return Store(tmp_path, instance)


def test_a_dict_of_one_partition_is_that_partition(store: Store) -> None:
    result = store.output({DAY: ONE}, DAY, partitions_def=DAYS)
    assert result.success
    assert files(store.directory) == [f"a/{DAY}.parquet"]
    assert store.read(DAYS, DAY).equals(ONE)
    (materialization,) = result.asset_materializations_for_node("a")
    assert materialization.metadata["dagster/partition_row_count"].value == 1


@pytest.mark.parametrize(
    ("output", "keys", "text"),
    [
        ({"2024-01-03": ONE}, [DAY], f"is of {DAY}: return a dict with a frame for each of these partitions and no"),
        ({DAY: ONE, "2024-01-03": ONE}, [DAY], f"the output is a dict with {DAY}, 2024-01-03"),
        ({}, [DAY], "the output is a dict with nothing"),
        (ONE, [DAY, "2024-01-03"], "the output is a DataFrame"),
        ({DAY: ONE, "2024-01-03": None}, [DAY, "2024-01-03"], "2024-01-03 is None: annotate the asset"),
        ({DAY: pd.DataFrame({"id": [1]})}, [DAY], f"{DAY} is a DataFrame of pandas, no frame of Polars: convert"),
        (pd.DataFrame({"id": [1]}), [DAY], "a DataFrame of pandas, no frame of Polars: convert it by polars.from_pan"),
        (None, [DAY], "the output is None: annotate the asset with `-> None` if it stores its rows"),
        ([1], [DAY], "the output is a list of builtins, no frame of Polars: return a LazyFrame or DataFrame"),
    ],
)  # fmt: skip
def test_other_outputs_are_refused_with_the_way_out(store: Store, output: object, keys: list[str], text: str) -> None:
    assert text in error_of(store.output(output, *keys, partitions_def=DAYS))
    assert files(store.directory) == []


def test_other_outputs_of_an_asset_without_partitions_are_refused(store: Store) -> None:
    assert "the output is a dict of builtins, no frame of Polars" in error_of(store.output({DAY: ONE}))
    assert "the output is None" in error_of(store.output(None))


def test_an_optional_output_that_is_none_stores_nothing_and_says_so(
    store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    output: pl.DataFrame | None = ONE

    @dg.asset(name="a")
    def asset() -> Optional[pl.DataFrame]:  # noqa: UP045  as dagster-polars knows it
        return output

    assert store.run_unpartitioned(asset).success
    output = None
    assert store.run_unpartitioned(asset).success
    assert pl.read_parquet(store.directory / "a.parquet").equals(ONE)
    assert "The output is None: nothing is stored, and what was stored before stays" in capfd.readouterr().err


@pytest.mark.parametrize("several", [False, True])
def test_a_partition_key_may_be_as_long_as_a_file_s_name(store: Store, several: bool) -> None:
    # The system allows 255 bytes, of which the extension takes eight.
    keys = ["k" * 230, "l" * 247]
    static = dg.StaticPartitionsDefinition(keys)
    for chosen in [keys] if several else [keys[:1], keys[1:]]:
        assert store.output(dict.fromkeys(chosen, ONE), *chosen, partitions_def=static).success
    assert files(store.directory) == [f"a/{key}.parquet" for key in keys]


def test_a_key_of_several_dimensions_has_one_file_however_it_is_stored(store: Store) -> None:
    keys = ["x|1", "x|2"]
    assert store.output(ONE, "x|1", partitions_def=PAIRS).success
    assert store.output(dict.fromkeys(keys, OTHER), *keys, partitions_def=PAIRS).success
    assert files(store.directory) == ["a/x/1.parquet", "a/x/2.parquet"]
    assert store.read(PAIRS, "x|1").equals(OTHER)
    key = dg.MultiPartitionKey({"letter": "x", "number": "1"})
    with store.io_manager.process_config_and_initialize_cm() as ready:
        found = ready.stored_partition(dg.AssetKey("a"), key)
        assert found.rows == 2
        ready.store_partition(dg.AssetKey("a"), key, ONE.lazy())
    assert store.read(PAIRS, "x|1").equals(ONE)
    assert files(store.directory) == ["a/x/1.parquet", "a/x/2.parquet"]


@pytest.mark.parametrize("key", ["/x", "x/", "x//y", "x/./y", ".", ".."])
@pytest.mark.parametrize("several", [False, True])
def test_a_partition_key_that_cannot_be_a_path_is_refused(store: Store, key: str, several: bool) -> None:
    keys = [key, "z"] if several else [key]
    result = store.output(dict.fromkeys(keys, ONE), *keys, partitions_def=dg.StaticPartitionsDefinition([key, "z"]))
    assert f"the partition key {key!r} of 'a' cannot be a path" in error_of(result)
    assert files(store.directory) == []


def test_a_dimension_s_key_with_a_slash_is_refused(store: Store) -> None:
    pairs = dg.MultiPartitionsDefinition(
        {"a": dg.StaticPartitionsDefinition(["x", "x/y"]), "b": dg.StaticPartitionsDefinition(["y/z", "z"])}
    )
    assert "slash in one of its dimensions" in error_of(store.output(ONE, "x/y|z", partitions_def=pairs))
    assert files(store.directory) == []


def test_an_asset_named_like_another_one_s_file_does_not_remove_it(store: Store) -> None:
    @dg.asset(key=["a.parquet"], partitions_def=DAYS)
    def like_a_file() -> pl.DataFrame:
        return OTHER

    assert store.output(ONE).success
    assert not store.run(like_a_file, DAY).success
    assert pl.read_parquet(store.directory / "a.parquet").equals(ONE)


@pytest.mark.parametrize("keys", [[], [DAY], [DAY, "2024-01-03"]], ids=["none", "one", "several"])
@pytest.mark.parametrize("lazy", [False, True])
def test_the_options_of_dagster_polars_take_effect(store: Store, keys: list[str], lazy: bool) -> None:
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    frame = pl.DataFrame({"id": range(1000)})
    output: Any = frame.lazy() if lazy else frame
    options = {"compression": "gzip", "compression_level": 2, "row_group_size": 100, "statistics": False}
    many = dict.fromkeys(keys, output) if keys else output
    assert store.output(many, *keys, partitions_def=DAYS if keys else None, metadata=options).success
    for name in files(store.directory):
        written = pq.ParquetFile(store.directory / name).metadata
        assert written.num_row_groups > 1
        assert written.row_group(0).column(0).compression == "GZIP"
        assert written.row_group(0).column(0).statistics is None
    assert len(files(store.directory)) == max(1, len(keys))


@pytest.mark.parametrize("keys", [[DAY], [DAY, "2024-01-03"]], ids=["one", "several"])
def test_options_that_cannot_be_followed_are_refused(store: Store, keys: list[str]) -> None:
    options = {"pyarrow_options": {"version": "1.0"}}
    result = store.output(dict.fromkeys(keys, ONE), *keys, partitions_def=DAYS, metadata=options)
    assert "pyarrow_options, but FoundryParquetIOManager writes by Polars: use compression" in error_of(result)
    assert files(store.directory) == []


def test_options_of_an_input_take_effect(store: Store) -> None:
    seen: list[pl.DataFrame] = []
    asked = {"n_rows": 2, "row_index_name": "row", "row_index_offset": 5}

    @dg.asset(name="a")
    def asset() -> pl.DataFrame:
        return pl.DataFrame({"id": range(10)})

    @dg.asset(ins={"rows": dg.AssetIn("a", metadata=asked)})
    def reader(rows: pl.DataFrame) -> None:
        seen.append(rows)

    assert dg.materialize([asset, reader], resources={"io_manager": store.io_manager}).success
    assert seen[0].rows() == [(5, 0), (6, 1)]


@pytest.mark.parametrize("keys", [[DAY], [DAY, "2024-01-03"]], ids=["one", "several"])
def test_the_columns_are_in_the_metadata(store: Store, keys: list[str]) -> None:
    result = store.output(dict.fromkeys(keys, ONE), *keys, partitions_def=DAYS)
    materializations = result.asset_materializations_for_node("a")
    assert len(materializations) == len(keys)
    for materialization in materializations:
        schema = materialization.metadata["dagster/column_schema"].value
        assert schema == dg.TableSchema([dg.TableColumn("id", "Int64")])


def test_the_columns_that_an_asset_describes_itself_stay(store: Store) -> None:
    described = dg.TableSchema([dg.TableColumn("id", "integer", description="what it is")])

    @dg.asset(name="a")
    def asset() -> dg.Output[pl.DataFrame]:
        return dg.Output(ONE, metadata={"dagster/column_schema": described})

    (materialization,) = store.run_unpartitioned(asset).asset_materializations_for_node("a")
    assert materialization.metadata["dagster/column_schema"].value == described


@pytest.mark.parametrize("keys", [["1"], ["1", "2"]], ids=["one", "several"])
def test_keys_that_are_no_text_are_named_with_their_type(store: Store, keys: list[str]) -> None:
    numbers = dg.StaticPartitionsDefinition(["1", "2"])
    result = store.output({int(key): ONE for key in keys}, *keys, partitions_def=numbers)
    assert "the output is a dict with 1 (of the type int: make it a str)" in error_of(result)
    assert files(store.directory) == []
