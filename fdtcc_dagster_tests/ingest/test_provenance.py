"""Partitions that are stored already, as the container has them: nothing is downloaded, and the file stays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import dagster as dg
import polars as pl
import pytest

from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    Schedule,
)
from fdtcc_dagster.client.local_evidence import LocalEvidence
from fdtcc_dagster.client.snapshot import Announcement
from fdtcc_dagster.declaration import declaration_of
from fdtcc_dagster.ingest.provenance import is_same, provenance_of
from fdtcc_dagster.metadata import SNAPSHOT_ROWS, values_of
from fdtcc_dagster.sandbox import faults
from fdtcc_dagster.storing import StoredPartition
from fdtcc_dagster_tests.site import Site, failure_of, materializations

NAME = "events"
KEY = dg.AssetKey(NAME)
SCHEMA = {"id": "Int64", "at": "Date"}
TODAY = datetime.now(timezone.utc).date()
DAYS = [TODAY - timedelta(days=back) for back in (6, 5, 4)]
KEYS = [day.isoformat() for day in DAYS]
CSV = "id,at\n" + "".join(f"{number},{day}\n" for number, day in enumerate([*DAYS, TODAY]))
SHA256 = hashlib.sha256(CSV.encode()).hexdigest()
DAILY = Schedule([{"cycle": "daily", "time": "00:00:00"}], buffer=timedelta(0))


def snapshots(schema: Mapping[str, Any] | None = SCHEMA) -> FoundryDataset:
    return FoundryDataset(NAME, DAILY, TODAY - timedelta(days=30), schema)


def slices(**arguments: Any) -> FoundryDataset:
    return FoundryDataset(NAME, DAILY, TODAY - timedelta(days=30), SCHEMA, time_column="at", **arguments)


def run(site: Site, dataset: FoundryDataset, keys: Sequence[str] = KEYS) -> dict[str, dg.AssetMaterialization]:
    """The materializations of a run, by partition."""
    result = site.run(dataset, keys)
    assert result.success
    found = materializations(result)
    assert sorted(found) == sorted(keys)
    return found


@pytest.fixture
def site(site: Site) -> Site:
    for day in (*DAYS, TODAY):
        site.container.add_version(NAME, datetime(day.year, day.month, day.day, tzinfo=timezone.utc), CSV)
    return site


def stable_metadata(materialization: dg.AssetMaterialization) -> dict[str, object]:
    """The metadata that another run of the same snapshot does not change."""
    seconds = {f"foundry/{what}_seconds" for what in ("conversation", "download", "store")}
    differing = {*seconds, "foundry/unchanged", "foundry/snapshot"}
    return {name: value for name, value in values_of(materialization).items() if name not in differing}


def is_unchanged(materialization: dg.AssetMaterialization) -> bool:
    return "foundry/unchanged" in materialization.metadata


@pytest.mark.parametrize("dataset", [snapshots(), snapshots(None), slices()], ids=["declared", "inferred", "slices"])
def test_nothing_is_downloaded_or_stored_and_the_same_is_recorded(site: Site, dataset: FoundryDataset) -> None:
    first, downloads, files = run(site, dataset), site.downloads, site.files()
    second = run(site, dataset)
    assert site.downloads == downloads
    assert site.files() == files
    for key in KEYS:
        assert not is_unchanged(first[key])
        assert is_unchanged(second[key])
        assert values_of(second[key])["foundry/size_bytes"] == len(CSV)  # without a gap in its plot
        assert stable_metadata(second[key]) == stable_metadata(first[key])
        assert (second[key].tags or {})["dagster/data_version"] == SHA256
    # The same for a run of one partition.
    single = run(site, dataset, KEYS[:1])[KEYS[0]]
    assert is_unchanged(single)
    assert (single.tags or {})["dagster/data_version"] == SHA256
    assert (site.downloads, site.files()) == (downloads, files)


def test_a_file_says_of_which_snapshot_it_is(site: Site) -> None:
    run(site, snapshots(), KEYS[:1])
    said = pl.read_parquet_metadata(site.file(KEYS[0]))
    assert {name: value for name, value in said.items() if name.startswith("foundry/")} == {
        "foundry/sha256": SHA256,
        "foundry/types": "declared",
        "foundry/declaration": declaration_of(snapshots()).digest,
        "foundry/dataset": declaration_of(snapshots()).parts["dataset"],
    }
    run(site, slices(), KEYS[:1])
    said = pl.read_parquet_metadata(site.file(KEYS[0]))
    assert said["foundry/snapshot_rows"] == "4"
    assert said["foundry/slice"] == f"at in {slices().window(KEYS[0])}, dates in UTC"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (snapshots(), snapshots({"id": "String", "at": "Date"})),
        (snapshots(), snapshots(None)),
        (snapshots(None), snapshots()),
        (snapshots(), slices()),
        (slices(), snapshots()),
        (slices(allow_null_times=True), slices()),
        (
            slices(),
            FoundryDataset(
                NAME,
                schema=SCHEMA,
                time_column="at",
                # The same windows, but dates begin at other instants.
                partitions_def=dg.TimeWindowPartitionsDefinition(
                    start=f"{TODAY - timedelta(days=30)}-01:00",
                    fmt="%Y-%m-%d-%H:%M",
                    cron_schedule="0 1 * * *",
                    timezone="Africa/Lagos",
                ),
            ),
        ),
    ],
    ids=["type", "inferred", "declared", "slices", "snapshots", "null times", "zone"],
)
def test_what_would_be_stored_otherwise_is_stored_again(
    site: Site, before: FoundryDataset, after: FoundryDataset
) -> None:
    run(site, before, KEYS[:1])
    (key,) = KEYS[:1]
    if after.schedule is None:
        key = f"{key}-01:00"
        assert str(after.window(key)) == str(before.window(KEYS[0]))
        # As if the partition had kept its key.
        site.file(KEYS[0]).rename(site.file(key))
    assert not is_unchanged(run(site, after, [key])[key])


def test_rows_that_are_announced_otherwise_are_not_what_is_stored(site: Site) -> None:
    # Of a window without a version, today's data are pulled each time, and their rows counted.
    dataset = FoundryDataset(NAME, DAILY, TODAY - timedelta(days=30), SCHEMA, missing_version="accept")
    key = (TODAY - timedelta(days=10)).isoformat()
    assert not is_unchanged(run(site, dataset, [key])[key])
    again = run(site, dataset, [key])[key]
    assert is_unchanged(again)
    assert again.metadata["foundry/outside_window"].value is True
    site.container.inject(NAME, faults.AnnouncedRows(5))
    assert "announced 5 rows, but the CSV has 4" in failure_of(site.run(dataset, [key]))


@pytest.mark.parametrize(("announced", "same"), [(None, True), (4, True), (5, False)])
def test_a_slice_is_of_a_snapshot_with_as_many_rows_as_announced(announced: int | None, same: bool) -> None:
    dataset, key = slices(), KEYS[0]
    now = datetime.now(timezone.utc)
    evidence = LocalEvidence("127.0.0.1:1", NAME)
    announcement = Announcement(NAME, dataset.window(key), SHA256, announced, "fetched", now, now, 0.0, evidence, True)
    provenance = {**provenance_of(dataset, key, announcement), SNAPSHOT_ROWS: "4"}
    stored = StoredPartition(provenance, pl.Schema({"id": pl.Int64(), "at": pl.Date()}), 1, {})
    assert is_same(dataset, key, stored, announcement) is same


def test_what_is_stored_counts_when_the_container_has_answered(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    run(site, snapshots())
    request = FoundryContainerResource.get_client

    def get_client(resource: FoundryContainerResource) -> Any:
        # Somebody removes a file while the container is asked.
        site.file(KEYS[1]).unlink(missing_ok=True)
        return request(resource)

    monkeypatch.setattr(FoundryContainerResource, "get_client", get_client)
    again = run(site, snapshots())
    assert [is_unchanged(again[key]) for key in KEYS] == [True, False, True]
    assert site.file(KEYS[1]).exists()
