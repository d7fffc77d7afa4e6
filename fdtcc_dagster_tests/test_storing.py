"""Partitions that are stored already: what is left as it is, what is pulled again, and how IO managers take part."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from fdtcc_dagster import (
    FoundryDataset,
    Schedule,
)
from fdtcc_dagster.storing import STORED, StoredPartition
from fdtcc_dagster_tests.site import Site, materializations

NAME = "foundry.sales.orders"
DAYS = ["2026-01-05", "2026-01-06", "2026-01-07"]
SCHEMA = {"id": "Int64", "at": "Datetime(us, UTC)"}
CSV = "id,at\n" + "".join(f"{number},{day} 12:00:00+00:00\n" for number, day in enumerate(DAYS))


DAILY = Schedule([{"cycle": "daily", "time": "00:00:00"}], buffer=timedelta(0))


def run(
    site: Site, keys: list[str], config: Mapping[str, Any] | None = None, **declared: Any
) -> list[dg.AssetMaterialization]:
    dataset = FoundryDataset(NAME, DAILY, date(2026, 1, 1), **{"schema": SCHEMA, **declared})
    result = site.run(dataset, keys, config=config)
    assert result.success
    return list(materializations(result).values())


def unchanged(materializations: list[dg.AssetMaterialization]) -> list[str]:
    return sorted(str(each.partition) for each in materializations if "foundry/unchanged" in each.metadata)


@pytest.fixture
def site(site: Site) -> Site:
    for day in DAYS:
        site.container.add_version(NAME, datetime.fromisoformat(f"{day}T01:00:00+00:00"), CSV)
    site.container.set_live(NAME, CSV)
    return site


@pytest.mark.parametrize("keys", [DAYS[:1], DAYS], ids=["one", "several"])
@pytest.mark.parametrize("schema", [SCHEMA, None], ids=["declared", "inferred"])
def test_what_is_stored_already_is_neither_downloaded_nor_written(
    site: Site, keys: list[str], schema: Mapping[str, str] | None
) -> None:
    first = run(site, keys, schema=schema)
    assert unchanged(first) == []
    before = site.files(), site.downloads
    again = run(site, keys, schema=schema)
    assert (site.files(), site.downloads) == before
    assert len(site.container.requests) == 2 * len(keys)
    assert unchanged(again) == keys
    for one, other in zip(first, again, strict=True):
        for name in ("foundry/sha256", "foundry/window_from", "dagster/row_count", "dagster/column_schema"):
            assert other.metadata[name] == one.metadata[name]
        assert (other.tags or {})["dagster/data_version"] == (one.tags or {})["dagster/data_version"]


def test_refetch_as_documented_pulls_it_all_the_same(site: Site) -> None:
    page = (Path(__file__).parents[1] / "docs" / "performance.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(ops:.*?)```", page, re.DOTALL)
    run(site, DAYS[:1])
    before = site.files()
    assert unchanged(run(site, DAYS[:1], dg.config_from_yaml_strings([text]))) == []
    assert site.downloads == 2
    assert site.files() != before


def test_new_bytes_are_pulled_and_the_other_partitions_left(site: Site) -> None:
    run(site, DAYS)
    site.container.add_version(NAME, datetime.fromisoformat(f"{DAYS[1]}T02:00:00+00:00"), CSV.replace("\n0", "\n9"))
    assert unchanged(run(site, DAYS)) == [DAYS[0], DAYS[2]]
    assert pl.read_parquet(site.file(DAYS[1]))["id"].to_list() == [9, 1, 2]


@pytest.mark.parametrize("schema", [{**SCHEMA, "id": "Int32"}, {**SCHEMA, "id": "String"}, None], ids=str)
def test_another_schema_is_applied(site: Site, schema: Mapping[str, str] | None) -> None:
    run(site, DAYS[:1])
    assert unchanged(run(site, DAYS[:1], schema=schema)) == []
    assert site.downloads == 2


def test_a_file_that_is_gone_or_damaged_or_of_others_is_replaced(site: Site) -> None:
    run(site, DAYS)
    whole = pl.read_parquet(site.file(DAYS[0]))
    site.file(DAYS[0]).unlink()
    site.file(DAYS[1]).write_bytes(site.file(DAYS[1]).read_bytes()[:100])
    whole.write_parquet(site.file(DAYS[2]))
    assert unchanged(run(site, DAYS)) == []
    assert all(pl.read_parquet(site.file(key)).equals(whole) for key in DAYS)


def test_slices_of_the_same_version_are_left_and_others_cut(site: Site) -> None:
    earlier = f"{CSV}9,2026-01-01 12:00:00+00:00\n"
    site.container.add_version(NAME, datetime.fromisoformat("2026-01-20T00:00:00+00:00"), earlier)
    run(site, DAYS[:2], time_column="at")
    before, downloads = site.files(), site.downloads
    assert unchanged(run(site, DAYS[:2], time_column="at")) == DAYS[:2]
    assert (site.files(), site.downloads) == (before, downloads)
    assert unchanged(run(site, DAYS, time_column="at")) == DAYS[:2]
    assert {key: file for key, file in site.files().items() if key in before} == before
    assert [pl.read_parquet(site.file(key))["id"].to_list() for key in DAYS] == [[0], [1], [2]]


class Kept(dg.IOManager):
    """A user's IO manager, as documented."""

    def __init__(self) -> None:
        self.partitions: dict[str, StoredPartition] = {}
        self.handled: list[object] = []

    def store_partition(
        self,
        asset_key: dg.AssetKey,
        partition_key: str,
        frame: pl.LazyFrame,
        provenance: Mapping[str, str] | None = None,
    ) -> Mapping[str, Any]:
        rows = frame.collect()
        metadata = {"dagster/row_count": rows.height}
        self.partitions[partition_key] = StoredPartition(provenance or {}, rows.schema, rows.height, metadata)
        return metadata

    def stored_partition(self, asset_key: dg.AssetKey, partition_key: str) -> StoredPartition | None:
        return self.partitions.get(partition_key)

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        self.handled.append(obj)

    def load_input(self, context: dg.InputContext) -> object:
        raise NotImplementedError


@pytest.mark.parametrize("keys", [DAYS[:1], DAYS], ids=["one", "several"])
def test_an_io_manager_of_ones_own_takes_part(site: Site, keys: list[str]) -> None:
    site.io_manager = Kept()
    assert unchanged(run(site, keys)) == []
    assert sorted(site.io_manager.partitions) == keys
    assert unchanged(run(site, keys)) == keys
    assert site.downloads == len(keys)
    assert all(obj is STORED for obj in site.io_manager.handled)
