from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial

import dagster as dg
import pytest

from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    FoundryDatasetTranslator,
    Schedule,
    build_foundry_assets,
    build_foundry_checks,
    build_foundry_definitions,
    build_foundry_file_checks,
    build_foundry_schedules,
)

WEEKLY = Schedule([{"cycle": "weekly", "day": "Monday", "time": "02:00:00"}])


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("orders", ["orders"]),
        ("Customer Demographics", ["customer_demographics"]),
        ("foundry.hr.monthly_closings", ["foundry", "hr", "monthly_closings"]),
        ("Sales/EMEA (raw)", ["sales", "emea_raw"]),
        ("2024 figures", ["2024_figures"]),
        ("Ünï.Größe", ["ueni", "groesse"]),
        ("Gro\u0308ße", ["groesse"]),
        ("Crème Brûlée", ["creme_brulee"]),
        ("数据", ["dataset_5440f742"]),
        ("Größen 数据", ["groessen_640945f8"]),
        ("a..b", ["a", "b_f62b4241"]),
    ],
)
def test_keys_are_made_of_names(name: str, key: list[str]) -> None:
    (asset,) = build_foundry_assets([FoundryDataset(name, WEEKLY, "2026-01-01")])
    assert asset.key == dg.AssetKey(key)


# A name of any letters, a word that Dagster or Python reserves, and one that is longer than a file's name may be.
_ANY = [
    "数据",
    "a..b",
    "...",
    "Größen 数据",
    "config",
    "import",
    "c\nd",
    "π/я",
    "x" * 300,
    "a.b",
    "a-b",
    "größe",
]


def test_of_any_name_all_derived_names_are_valid_and_different() -> None:
    datasets = [FoundryDataset(name, WEEKLY, "2026-01-01", time_column="t") for name in _ANY]
    definitions = build_foundry_definitions(
        datasets, resource=FoundryContainerResource(), checks=True, sensor=True, pool="foundry"
    )
    dg.Definitions.validate_loadable(definitions)
    keys = [spec.key for spec in definitions.resolve_all_asset_specs()]
    assert len(set(keys)) == len(_ANY)
    assert all(re.fullmatch("[a-z0-9_]{1,110}", part) for key in keys for part in key.path)
    schedules = build_foundry_schedules(datasets, shared=False)
    assert len({schedule.name for schedule in schedules}) == len(_ANY)


def test_a_key_may_be_given_instead() -> None:
    (asset,) = build_foundry_assets([FoundryDataset("数据", WEEKLY, "2026-01-01", asset_key="given/key")])
    assert asset.key == dg.AssetKey(["given", "key"])


def test_a_translator_of_one_s_own_decides() -> None:
    class Translator(FoundryDatasetTranslator):
        def get_asset_spec(self, dataset: FoundryDataset) -> dg.AssetSpec:
            spec = super().get_asset_spec(dataset)
            return spec.replace_attributes(
                key=spec.key.with_prefix("raw"), group_name="foundry", deps=[dg.AssetKey("source")]
            )

    (asset,) = build_foundry_assets([FoundryDataset("orders", WEEKLY, "2026-01-01")], translator=Translator())
    assert asset.key == dg.AssetKey(["raw", "orders"])
    assert asset.group_names_by_key[asset.key] == "foundry"
    assert asset.dependency_keys == {dg.AssetKey("source")}


def test_keys_that_look_alike_have_steps_of_their_own() -> None:
    keys = ["a/b", "a__b", "a/_b", "a-b", "a.b"]
    assets = build_foundry_assets([FoundryDataset(key, WEEKLY, "2026-01-01", asset_key=key) for key in keys])
    assert assets[0].op.name == "a__b"
    assert len({asset.op.name for asset in assets}) == len(keys)
    dg.Definitions.validate_loadable(
        dg.Definitions(assets, resources={"foundry_container": FoundryContainerResource()})
    )


@pytest.mark.parametrize(("time_column", "what"), [(None, "snapshot"), ("at", "slice")])
def test_the_description_says_what_a_partition_is(time_column: str | None, what: str) -> None:
    dataset = FoundryDataset("orders", WEEKLY, "2026-01-01", time_column=time_column)
    spec = FoundryDatasetTranslator().get_asset_spec(dataset)
    assert spec.description == f"The Foundry dataset 'orders', one {what} in each partition."


@pytest.mark.parametrize(
    "build",
    [
        build_foundry_assets,
        build_foundry_checks,
        build_foundry_file_checks,
        partial(build_foundry_definitions, resource=FoundryContainerResource()),
    ],
)
def test_two_datasets_with_one_asset_key_are_refused(build: Callable[[Sequence[FoundryDataset]], object]) -> None:
    datasets = [FoundryDataset(name, WEEKLY, "2026-01-01") for name in ("sales.orders", "Sales/Orders")]
    said = "the datasets 'sales.orders' and 'Sales/Orders' have the same asset key 'sales/orders': give one of them"
    with pytest.raises(ValueError, match=said):
        build(datasets)


class WithUpstream(FoundryDatasetTranslator):
    upstream = True


def test_an_asset_is_not_its_own_upstream() -> None:
    dataset = FoundryDataset("orders", WEEKLY, "2026-01-05", asset_key="foundry/orders")
    said = "dataset 'orders': its asset has the key 'foundry/orders' of the dataset in Foundry, its upstream"
    with pytest.raises(ValueError, match=said):
        build_foundry_assets([dataset], translator=WithUpstream())


def test_lineage_begins_in_foundry_if_the_translator_says_so() -> None:
    dataset = FoundryDataset("sales.orders", WEEKLY, "2026-01-05")
    for translator, upstream in ((None, []), (WithUpstream(), [dg.AssetKey(["foundry", "sales.orders"])])):
        (asset,) = build_foundry_assets([dataset], translator=translator)
        (spec,) = asset.specs
        assert [dep.asset_key for dep in spec.deps] == upstream


def test_columns_have_their_descriptions() -> None:
    described = FoundryDataset(
        "orders",
        WEEKLY,
        "2026-01-05",
        {"id": "Int64", "at": "Date"},
        column_descriptions={"at": "When it was ordered."},
    )
    (asset,) = build_foundry_assets([described])
    (spec,) = asset.specs
    columns = spec.metadata["dagster/column_schema"].columns
    assert [column.description for column in columns] == [None, "When it was ordered."]
