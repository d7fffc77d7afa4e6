"""One key, one place in the store: keys whose files would lie where those of another key do are refused."""

# No postponed annotations here: Dagster reads those of an asset's function.

from pathlib import Path
from types import ModuleType

import dagster as dg
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdtcc_dagster import (
    FoundryDataset,
    FoundryDatasetTranslator,
    FoundryParquetIOManager,
    Schedule,
    build_foundry_assets,
    build_foundry_checks,
    build_foundry_schedules,
    build_foundry_sensor,
)
from fdtcc_dagster.names import check_asset_key, pool_name
from fdtcc_dagster_tests.fuzz import examples

WEEKLY = Schedule([{"cycle": "weekly", "day": "Monday", "time": "02:00:00"}])
DAILY = Schedule([{"cycle": "daily", "time": "02:00:00"}])
DAYS = dg.DailyPartitionsDefinition("2026-01-01")
# All of them share the file of a/b.
SHARED = [
    ["a", "", "b"],
    ["a", ".", "b"],
    ["a/b"],
    ["a", "x", "..", "b"],
    ["a", "b/"],
    ["", "a", "b"],
    ["/a", "b"],
    ["a", "b", ""],
    ["a", "b", "."],
    ["a", "b\\"],
    ["a\\b"],
    ["..", "a", "b"],
    ["a", "b\0"],
]
keys = pytest.mark.parametrize("key", SHARED, ids=repr)
parts = st.text("ab./\\\0-* ", max_size=4)


@keys
def test_a_dataset_is_refused_such_a_key(key: list[str]) -> None:
    for given_key in (key, dg.AssetKey(key)):
        with pytest.raises(ValueError, match="give it another key"):
            FoundryDataset("orders", WEEKLY, "2026-01-01", asset_key=given_key)


@pytest.mark.parametrize("key", ["a//b", "a/./b", "a/x/../b", "a/b/", "/a/b"])
def test_text_with_such_parts_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="give it another key"):
        FoundryDataset("orders", WEEKLY, "2026-01-01", asset_key=key)


@keys
def test_such_a_key_of_a_translator_is_refused_when_anything_is_built(key: list[str]) -> None:
    class Translator(FoundryDatasetTranslator):
        def get_asset_spec(self, dataset: FoundryDataset) -> dg.AssetSpec:
            return super().get_asset_spec(dataset).replace_attributes(key=dg.AssetKey(key))

    datasets, translator = [FoundryDataset("orders", WEEKLY, "2026-01-01")], Translator()
    for build in (build_foundry_assets, build_foundry_checks, build_foundry_schedules, build_foundry_sensor):
        with pytest.raises(ValueError, match="give it another key"):
            build(datasets, translator=translator)


def test_such_a_prefix_is_refused_where_the_assets_are_given() -> None:
    module = ModuleType("prefixed")
    vars(module)["assets"] = build_foundry_assets([FoundryDataset("orders", WEEKLY, "2026-01-01")])
    assets = dg.load_assets_from_modules([module], key_prefix=["raw", ".."])
    with pytest.raises(ValueError, match="give it another key"):
        build_foundry_checks(assets)


@pytest.mark.parametrize("key", [*SHARED[:5], ["/a", "b"], ["a\\b"]], ids=repr)
@pytest.mark.parametrize("days", [None, DAYS], ids=["whole", "partitioned"])
def test_an_asset_of_one_s_own_with_such_a_key_is_neither_stored_nor_read(
    key: list[str], days: dg.DailyPartitionsDefinition | None, tmp_path: Path
) -> None:
    @dg.asset(key=dg.AssetKey(["a", "b"]), partitions_def=days)
    def good() -> pl.DataFrame:
        return pl.DataFrame({"id": [1]})

    # Dagster makes the name of an asset's op of its key, and allows no slash there; a name may be given.
    @dg.multi_asset(name="bad", outs={"result": dg.AssetOut(key=dg.AssetKey(key))}, partitions_def=days)
    def bad() -> pl.DataFrame:
        return pl.DataFrame({"id": [2]})

    @dg.asset(ins={"upstream": dg.AssetIn(dg.AssetKey(key))}, partitions_def=days)
    def reader(upstream: pl.DataFrame) -> None: ...

    resources = {"io_manager": FoundryParquetIOManager(base_dir=str(tmp_path))}
    day = None if days is None else "2026-01-01"
    assert dg.materialize([good], resources=resources, partition_key=day).success
    (file,) = (path for path in tmp_path.rglob("*.parquet"))
    for assets, selection in (([bad], None), ([bad, reader], [reader])):
        with pytest.raises(Exception, match="give it another key"):
            dg.materialize(assets, selection=selection, resources=resources, partition_key=day)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [file]
    assert pl.read_parquet(file)["id"].to_list() == [1]


@given(one=st.lists(parts, min_size=1, max_size=4), other=st.lists(parts, min_size=1, max_size=4))
@settings(max_examples=examples(200), deadline=None)
def test_keys_that_are_allowed_have_places_of_their_own(one: list[str], other: list[str]) -> None:
    places = []
    for key in (one, other):
        try:
            check_asset_key(dg.AssetKey(key))
        except ValueError:
            return
        places.append(Path("/store").joinpath(*key).resolve())
    assert (places[0] == places[1]) == (one == other)
    assert all(place.is_relative_to("/store") for place in places)


def test_each_dataset_has_a_pool_of_its_own() -> None:
    names = ["orders", "sales.orders", "my orders", "my_orders", "Größe"]
    datasets = [FoundryDataset(name, DAILY, "2026-01-01", asset_key=f"asset{n}") for n, name in enumerate(names)]
    pools = [asset.op.pool for asset in build_foundry_assets(datasets, pool="per_dataset")]
    assert pools[:4] == ["foundry_orders", pool_name("sales.orders"), pool_name("my orders"), "foundry_my_orders"]
    assert len(set(pools)) == len(names)
    twice = [FoundryDataset("orders", DAILY, "2026-01-01", asset_key=key) for key in ("a", "b")]
    assert {asset.op.pool for asset in build_foundry_assets(twice, pool="per_dataset")} == {"foundry_orders"}
    assert {asset.op.pool for asset in build_foundry_assets(twice, pool="foundry")} == {"foundry"}
