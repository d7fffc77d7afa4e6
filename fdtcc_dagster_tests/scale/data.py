"""What the container of these tests holds, and what must be stored of it."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import polars as pl

from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster_tests.s3_server import S3Server
from fdtcc_dagster_tests.scale.location import NAMES, START
from fdtcc_dagster_tests.store_server import KEY, SECRET

DAYS = tuple(date.fromisoformat(START) + timedelta(days) for days in range(5))
KEYS = [day.isoformat() for day in DAYS]


def snapshot(name: str, day: date, rows: int = 2_000) -> pl.DataFrame:
    """The rows of a version, as they are stored."""
    seed = NAMES.index(name) * 1_000 + day.day
    ids = pl.int_range(rows, eager=True)
    return pl.DataFrame(
        {
            "id": ids,
            "day": pl.repeat(day, rows, dtype=pl.Date, eager=True),
            "amount": (ids * seed % 1_009) / 8,
            "note": f"{name} " + (ids + seed).cast(pl.String) + ', "quoted"',
        }
    )


def add_version(container: SandboxContainer, name: str, day: date, rows: int = 2_000) -> None:
    """Add the version of a day, pulled at noon."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=timezone.utc)
    container.add_version(name, noon, snapshot(name, day, rows))


def variables(container: SandboxContainer, s3: S3Server) -> dict[str, str]:
    """The environment of the code location."""
    return {
        "TEST_CONTAINER_PORT": str(container.port),
        "TEST_PARQUET": s3.base_dir,
        "TEST_S3_KEY": KEY,
        "TEST_S3_SECRET": SECRET,
        "TEST_S3_ENDPOINT": s3.endpoint,
    }
