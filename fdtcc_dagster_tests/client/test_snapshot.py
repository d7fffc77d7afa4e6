"""What is known of a snapshot, and its rows."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest

from fdtcc_dagster.client.local_evidence import LocalEvidence
from fdtcc_dagster.client.protocol import Origin
from fdtcc_dagster.client.snapshot import Announcement, Snapshot
from fdtcc_dagster.errors import RowCountMismatchError, SchemaMismatchError
from fdtcc_dagster.window import Window

NOON = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
DAY = timedelta(days=1)
WINDOW = Window(NOON, NOON + DAY)
EVIDENCE = LocalEvidence("127.0.0.1:1", "orders")


@pytest.mark.parametrize(
    ("origin", "asked", "came", "outside"),
    [
        ("fetched", NOON, NOON, False),
        ("fetched", NOON, NOON + DAY, True),
        ("fetched", NOON + DAY, NOON + DAY, True),
        ("cached", NOON + DAY, NOON + DAY, False),
    ],
)
def test_today_s_data_are_outside_of_a_window_that_is_over(
    origin: Origin, asked: datetime, came: datetime, outside: bool
) -> None:
    announcement = Announcement("orders", WINDOW, "0" * 64, None, origin, asked, came, 0.0, EVIDENCE, True)
    assert announcement.is_outside is outside


def test_its_rows_are_typed_and_counted(tmp_path: Path) -> None:
    (path := tmp_path / "orders.csv").write_text("id\n1\n2\n")

    def snapshot(rows: int | None) -> Snapshot:
        said = ("orders", WINDOW, "0" * 64, rows, "cached", NOON, NOON, 0.0, EVIDENCE, True)
        return Snapshot(*said, path, path.stat().st_size)  # type: ignore[arg-type]

    for schema, dtype in (({"id": "Int32"}, pl.Int32), (None, pl.Int64)):
        rows = snapshot(2).scan(schema).collect()
        assert rows.equals(pl.DataFrame({"id": [1, 2]}, schema={"id": dtype}))
    with pytest.raises(SchemaMismatchError, match="dataset 'orders'"):
        snapshot(2).scan({"number": "Int64"})
    with pytest.raises(RowCountMismatchError, match="announced 3 rows, but the CSV has 2"):
        snapshot(3).source.read(pl.Schema({"id": pl.Int64()}), lambda csv: csv.scan().collect())
