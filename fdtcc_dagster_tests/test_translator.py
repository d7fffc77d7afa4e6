from __future__ import annotations

import dagster as dg
import pytest

from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    FoundryDatasetTranslator,
    Schedule,
    build_foundry_assets,
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
    ],
)
def test_keys_are_made_of_names(name: str, key: list[str]) -> None:
    (asset,) = build_foundry_assets([FoundryDataset(name, WEEKLY, "2026-01-01")])
    assert asset.key == dg.AssetKey(key)


@pytest.mark.parametrize("name", ["数据", "a..b", "...", "Ünï.Größe"])
def test_a_name_that_gives_no_key_is_an_error_that_says_what_to_do(name: str) -> None:
    dataset = FoundryDataset(name, WEEKLY, "2026-01-01")
    with pytest.raises(ValueError, match="asset_key"):
        build_foundry_assets([dataset])
    (asset,) = build_foundry_assets([FoundryDataset(name, WEEKLY, "2026-01-01", asset_key="given/key")])
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
