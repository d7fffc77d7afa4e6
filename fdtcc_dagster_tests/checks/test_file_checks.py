"""Files of stored partitions that have changed since they were stored."""

# No postponed annotations here: Dagster reads those of an asset's function.

import io
import random
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    FoundryParquetIOManager,
    Schedule,
    build_foundry_assets,
    build_foundry_definitions,
    build_foundry_file_checks,
)
from fdtcc_dagster.storage.checksums import read_to_end
from fdtcc_dagster_tests.site import Site, materializations, partitions

NAME, KEY = "sales.orders", dg.AssetKey(["sales", "orders"])
DAYS = ["2026-01-05", "2026-01-06", "2026-01-07"]
SCHEMA = {"id": "Int64", "at": "Datetime(us, UTC)"}
# With a time before the first slice, which a snapshot that has outgrown it would not have.
CSV = "id,at\n9,2026-01-01 12:00:00+00:00\n" + "".join(
    f"{number},{day} 12:00:00+00:00\n" for day in DAYS for number in range(200)
)
DATASET = FoundryDataset(
    NAME, Schedule([{"cycle": "daily", "time": "00:00:00"}], buffer=timedelta(0)), date(2026, 1, 1), schema=SCHEMA
)
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


def run(
    site: Site, *keys: str, dataset: FoundryDataset = DATASET
) -> tuple[list[dg.AssetMaterialization], dg.AssetCheckEvaluation]:
    """Materialize a range, also one of a single partition, and have the files checked."""
    result = site.run(dataset, [keys[0], *keys], *build_foundry_file_checks([dataset]))
    assert result.success
    (evaluation,) = result.get_asset_check_evaluations()
    return list(materializations(result).values()), evaluation


def check(site: Site, *keys: str) -> dg.AssetCheckEvaluation:
    """Have files checked: those of the partitions, or all."""
    checks = build_foundry_file_checks([DATASET])
    result = dg.materialize(
        [*build_foundry_assets([DATASET], retry_policy=None), *checks],
        resources=site.resources(),
        instance=site.instance,
        selection=dg.AssetSelection.checks(*checks),
        **(partitions([keys[0], *keys]) if keys else {}),
    )
    (evaluation,) = result.get_asset_check_evaluations()
    return evaluation


@pytest.fixture
def site(site: Site) -> Site:
    for day in DAYS:
        site.container.add_version(NAME, datetime.fromisoformat(f"{day}T01:00:00+00:00"), CSV)
    return site


def flip(file: Path, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def test_files_are_intact_after_a_run_and_when_nothing_was_stored_again(site: Site) -> None:
    stored, evaluation = run(site, *DAYS)
    assert (evaluation.passed, evaluation.description) == (True, "All 3 files are as they were stored.")
    unchanged, evaluation = run(site, *DAYS)
    assert [each.metadata["foundry/unchanged"].value for each in unchanged] == [True] * 3
    assert evaluation.passed
    recorded = [
        {str(each.partition): each.metadata["foundry/file_checksum"] for each in run} for run in (stored, unchanged)
    ]
    assert recorded[0] == recorded[1]
    assert check(site).passed
    evaluation = check(site, DAYS[0])
    assert str(evaluation.description).startswith(f"{DAYS[0]}: its checksum is ")


def test_every_bit_that_flips_is_found(site: Site) -> None:
    """A run's check tests a few bits; the function that it calls tests 300, of which 172 change a value."""
    run(site, DAYS[0])
    file, whole = site.file(DAYS[0]), site.file(DAYS[0]).read_bytes()
    bits = random.Random(11).sample(range(8 * len(whole)), 300)  # noqa: S311 (the same bits each time)
    last = 8 * len(whole) - 1
    for bit in [
        bits[0],
        last,
        last - 8 * 5,
        8 * whole.index(b"fdtcc/checksum"),
        8 * whole.index(b"fdtcc/checksum") + 200,
    ]:
        flip(file, bit)
        evaluation = check(site)
        assert (evaluation.passed, evaluation.severity) == (False, ERROR), bit
        assert evaluation.metadata["foundry/failed_partitions"].value == [DAYS[0]]
        flip(file, bit)
    said, _ = read_to_end(io.BytesIO(whole))
    missed = []
    for bit in bits:
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        # If the bit destroys the checksum in the file, the recorded one finds it.
        now_said, found = read_to_end(io.BytesIO(content))
        if said == now_said == found:
            missed.append(bit)
    assert missed == []
    assert check(site).passed


def test_the_message_names_the_partition_and_what_to_do(site: Site) -> None:
    run(site, *DAYS)
    flip(site.file(DAYS[1]), 8 * 100)
    evaluation = check(site)
    assert str(evaluation.description).startswith(f"{DAYS[1]}: {site.file(DAYS[1])} is damaged: its checksum is ")
    assert str(evaluation.description).endswith("materialize it again")
    assert check(site, DAYS[0]).passed


def test_a_file_that_is_gone_or_another_one_of_ours_is_found(site: Site) -> None:
    run(site, *DAYS)
    site.file(DAYS[0]).unlink()
    assert f"{DAYS[0]}: its file is gone" in str(check(site).description)
    site.file(DAYS[2]).write_bytes(site.file(DAYS[1]).read_bytes())
    other = [line for line in str(check(site).description).split("; ") if line.startswith(DAYS[2])]
    # The same rows at another time are the same bytes.
    assert other == []
    pl.read_parquet(site.file(DAYS[1])).head(7).write_parquet(site.file(DAYS[1]))
    evaluation = check(site, DAYS[1])
    assert "the file is not the one that was recorded: its checksum is None" in str(evaluation.description)
    assert evaluation.severity == ERROR


def test_a_partition_that_is_stored_while_it_is_checked_is_intact(site: Site) -> None:
    """It is stored at once, but recorded only after the check has read the earlier record."""
    run(site, DAYS[0])

    class Meanwhile(FoundryParquetIOManager):
        def verify_partition(self, asset_key: dg.AssetKey, partition_key: str) -> str | None:
            if metadata:
                recorded = dg.AssetMaterialization(asset_key, partition=partition_key, metadata=metadata)
                site.instance.report_runless_asset_event(recorded)
            else:
                metadata.update(self.store_partition(asset_key, partition_key, pl.LazyFrame({"id": [1]})))
            return super().verify_partition(asset_key, partition_key)

    metadata: dict[str, Any] = {}
    site.io_manager = Meanwhile(base_dir=str(site.parquet))
    assert check(site, DAYS[0]).passed
    assert metadata


def test_a_file_without_a_checksum_is_read_to_its_end(site: Site) -> None:
    """An earlier version of this package stored and recorded it."""
    file = site.parquet / "sales" / "orders" / f"{DAYS[0]}.parquet"
    file.parent.mkdir(parents=True)
    numbers = pl.DataFrame({"id": range(100_000)}).with_columns(text=pl.col("id").hash().cast(pl.String))
    numbers.write_parquet(file)
    site.instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition=DAYS[0]))
    evaluation = check(site)
    assert evaluation.description == f"{DAYS[0]}: it was read to its end, and has no checksum"
    assert evaluation.passed
    content = bytearray(file.read_bytes())
    content[4:-3000] = bytes(len(content) - 3004)
    file.write_bytes(content)
    evaluation = check(site)
    assert f"{file} is damaged: it cannot be read to its end" in str(evaluation.description)
    assert (evaluation.passed, evaluation.severity) == (False, ERROR)


def test_nothing_stored_and_an_io_manager_that_cannot_tell_are_warnings(site: Site) -> None:
    assert check(site).severity == WARN
    site.instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition=DAYS[0]))
    site.io_manager = dg.FilesystemIOManager(base_dir=str(site.parquet))
    evaluation = check(site)
    assert "cannot verify what it has stored" in str(evaluation.description)
    assert (evaluation.passed, evaluation.severity) == (False, WARN)


def test_it_is_merged_with_definitions_as_documented(tmp_path: Path) -> None:
    defs = dg.Definitions.merge(
        build_foundry_definitions([DATASET], resource=FoundryContainerResource(), checks=True),
        dg.Definitions(asset_checks=build_foundry_file_checks([DATASET], io_manager_key="foundry_io_manager")),
    )
    dg.Definitions.validate_loadable(defs)


@pytest.mark.parametrize("time_column", [None, "at"], ids=["snapshots", "slices"])
def test_a_file_with_other_rows_than_were_stored_is_not_taken_for_unchanged(
    site: Site, time_column: str | None
) -> None:
    """It is cut to 7 rows and written as valid Parquet again, with all its metadata."""
    arguments: Mapping[str, Any] = {} if time_column is None else {"time_column": time_column}
    dataset = FoundryDataset(NAME, DATASET.schedule, date(2026, 1, 1), schema=SCHEMA, **arguments)
    run(site, DAYS[0], dataset=dataset)
    whole, said = pl.read_parquet(site.file(DAYS[0])), pl.read_parquet_metadata(site.file(DAYS[0]))
    said.pop("ARROW:schema")
    whole.head(7).write_parquet(site.file(DAYS[0]), metadata=said)
    (materialization,), evaluation = run(site, DAYS[0], dataset=dataset)
    assert "foundry/unchanged" not in materialization.metadata
    assert pl.read_parquet(site.file(DAYS[0])).equals(whole)
    assert evaluation.passed
