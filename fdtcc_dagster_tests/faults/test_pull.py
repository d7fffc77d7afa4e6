"""The fault matrix on the client: what a pull ends with, how often it tried, and what it leaves behind."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fdtcc_dagster.client import FoundryDevToolsContainerClient
from fdtcc_dagster.errors import FdtccError
from fdtcc_dagster.pandas_csv.schema import to_schema
from fdtcc_dagster_tests.faults.cases import CASES
from fdtcc_dagster_tests.faults.scene import ATTEMPTS, FRAME, NAME, SCHEMA, Case, Scene


async def pull_and_read(client: FoundryDevToolsContainerClient, directory: Path, case: Case) -> pl.DataFrame:
    now = datetime.now(timezone.utc)
    snapshot = await client.pull(
        NAME, now - timedelta(days=1), now + timedelta(days=1), directory=directory, transport=case.transport
    )
    try:
        return await asyncio.to_thread(snapshot.source.read, to_schema(SCHEMA), lambda csv: csv.scan().collect())
    finally:
        snapshot.path.unlink()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_pull_ends_in_time_with_its_cause_and_leaves_nothing(
    case: Case, place: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limits: dict[str, Any] = {"open_timeout": 20.0, "idle_timeout": 20.0, "job_timeout": 40.0, **case.limits}
    client = FoundryDevToolsContainerClient(
        place.proxy.host,
        place.proxy.port,
        attempts=ATTEMPTS,
        retry_delay=0.01,
        **limits,
    )
    case.arrange(place)
    began = time.monotonic()
    if case.error is None:
        assert (await pull_and_read(client, tmp_path, case)).equals(FRAME)
    else:
        with pytest.raises(case.error) as caught:
            await pull_and_read(client, tmp_path, case)
        assert type(caught.value) is case.error
        assert isinstance(caught.value, FdtccError)
        assert caught.value.dataset == NAME
        assert repr(NAME) in str(caught.value)
    assert time.monotonic() - began < 30
    assert place.attempts() == (case.conversations, case.downloads)
    assert place.container.max_conversations.get(NAME, 0) <= 1
    assert list(tmp_path.iterdir()) == []
    assert sum("next one in" in record.message for record in caplog.records) == case.expected_waits
