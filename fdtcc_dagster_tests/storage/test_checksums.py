"""Checksums inside of Parquet files."""

from __future__ import annotations

import io
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from fdtcc_dagster import (
    FoundryParquetIOManager,
)
from fdtcc_dagster.storage.checksums import PLACES, complete, read_to_end
from fdtcc_dagster_tests.checks.test_file_checks import DAYS


def test_a_checksum_is_that_of_the_file_with_zeros_in_its_place(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pl.DataFrame({"a": [1]}).lazy().sink_parquet(file, metadata=dict(PLACES))
    before = pl.read_parquet(file)
    checksum = complete(file, 1)
    assert pl.read_parquet(file).equals(before)
    said = pl.read_parquet_metadata(file)
    assert (said["fdtcc/checksum"], int(said["fdtcc/rows"])) == (checksum, 1)
    with file.open("rb") as opened:
        assert read_to_end(opened) == (checksum, checksum)
    assert file.read_bytes().count(checksum.encode()) == 1


KEY = dg.AssetKey(["sales", "orders"])
LOOKS_LIKE_IT = [f"{name}\x18{chr(len(zeros))}{zeros}" for name, zeros in PLACES.items()]


@pytest.mark.parametrize("where", ["a statistic", "a column's name", "provenance"])
@pytest.mark.parametrize("text", LOOKS_LIKE_IT, ids=PLACES)
def test_what_only_looks_like_the_place_of_a_checksum_stays_as_it_is(tmp_path: Path, text: str, where: str) -> None:
    rows = pl.DataFrame({text if where == "a column's name" else "a": [text if where == "a statistic" else "b"]})
    # Names of which one comes before ours in the alphabet, and one after them.
    said = dict.fromkeys(("a", "z"), text) if where == "provenance" else {}
    io_manager = FoundryParquetIOManager(base_dir=str(tmp_path))
    io_manager.setup_for_execution(dg.build_init_resource_context())
    io_manager.store_partition(KEY, DAYS[0], rows.lazy(), said)
    file = tmp_path / "sales" / "orders" / f"{DAYS[0]}.parquet"
    assert pl.read_parquet(file).equals(rows)
    assert rows.filter(pl.first() == pl.first().min()).equals(pl.scan_parquet(file).filter(pl.first() >= "").collect())
    assert said.items() <= pl.read_parquet_metadata(file).items()
    stored = io_manager.stored_partition(KEY, DAYS[0])
    assert stored is not None
    assert io_manager.verify_partition(KEY, DAYS[0]) == stored.metadata["foundry/file_checksum"]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"x" * 100, b"PAR1" + b"\xff" * 8], ids=repr)
def test_what_is_no_parquet_has_no_checksum(content: bytes) -> None:
    said, found = read_to_end(io.BytesIO(content))
    assert said is None
    assert len(found) == 64
