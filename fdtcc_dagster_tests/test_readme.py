"""The README's code, run against a container."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

import fdtcc_dagster as fd
from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster_tests.snippets import run_page

README = Path(__file__).parents[1] / "README.md"
NAME = "foundry.sales.orders"
CSV = "id,customer,amount,ordered_at\n1,ada,9.50,2026-01-05 10:00:00+00:00\n2,ada,0.50,2026-01-06 10:00:00+00:00\n"


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """All names that the README's code defines."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "readme"}
    run_page(README, names)
    return names


def test_the_dataset_and_the_downstream_asset_are_materialized(code: dict[str, Any], tmp_path: Path) -> None:
    orders, defs = code["orders"], code["defs"]
    dg.Definitions.validate_loadable(defs)
    key = orders.partitions_def.get_partition_keys()[-2]
    with SandboxContainer() as container, dg.instance_for_test() as instance:
        container.add_version(NAME, orders.window(key).from_dt, CSV)
        resource = fd.FoundryContainerResource(host=container.host, port=container.port)
        resources = {**defs.resources, "foundry_container": resource}
        job = dg.Definitions(defs.assets, resources=resources).resolve_implicit_global_asset_job_def()
        assert job.execute_in_process(instance=instance, partition_key=key).success
    revenue = pl.read_parquet(tmp_path / "data" / "revenue" / f"{key}.parquet")
    assert revenue.rows() == [("ada", 10)]


def test_the_client_alone_stores_a_file(
    code: dict[str, Any], sandbox_container: SandboxContainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled_at = datetime(2026, 1, 6, tzinfo=timezone.utc)
    sandbox_container.add_version(NAME, pulled_at, "id,amount\n1,9.5\n")
    client = fd.FDTCC(sandbox_container.host, sandbox_container.port)
    monkeypatch.setitem(code, "FDTCC", lambda *_: client)
    asyncio.run(code["pull_orders"]())
    assert pl.read_parquet(tmp_path / "orders.parquet").rows() == [(1, 9.5)]
