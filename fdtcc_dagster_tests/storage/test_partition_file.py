from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from upath import UPath

from fdtcc_dagster.storage import partition_file

FRAME = pl.DataFrame({"id": [1, 2, 3]})


def test_what_is_stored_is_described_alike_by_who_stores_it_and_by_who_asks(tmp_path: Path) -> None:
    path = UPath(tmp_path / "a b.parquet")
    said = partition_file.store(path, FRAME.lazy(), {"foundry/origin": "cached"}, preview_rows=0)
    found = partition_file.stored(path)
    assert found is not None
    assert (found.rows, found.schema, found.provenance["foundry/origin"]) == (3, FRAME.schema, "cached")
    assert said.pop("foundry/store_seconds") >= 0
    assert found.metadata == said
    assert said["dagster/uri"] == f"{tmp_path.as_uri()}/a%20b.parquet"
    assert partition_file.verify(path) == said["foundry/file_checksum"]
    assert partition_file.scan(path).collect().equals(FRAME)


def test_a_file_that_is_cut_is_neither_stored_nor_whole(tmp_path: Path) -> None:
    path = UPath(tmp_path / "a.parquet")
    assert partition_file.stored(path) is None
    partition_file.store(path, FRAME.lazy(), None, preview_rows=0)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert partition_file.stored(path) is None
    path.write_bytes(whole[:8] + bytes((whole[8] ^ 1,)) + whole[9:])
    with pytest.raises(ValueError, match="is damaged: its checksum is"):
        partition_file.verify(path)


def test_a_place_below_a_file_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    partition_file.check_writable(UPath(tmp_path / "new" / "a.parquet"))
    with pytest.raises(NotADirectoryError, match="set base_dir to a directory"):
        partition_file.check_writable(UPath(tmp_path / "file" / "a.parquet"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
