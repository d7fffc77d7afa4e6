"""A condition that is derived from a schedule, evaluated by a running daemon."""

from __future__ import annotations

import hashlib
import time
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster_tests.midday import TODAY, ZONE
from fdtcc_dagster_tests.real_instance import dagster_dev, wait_until

pytestmark = [pytest.mark.real_instance, pytest.mark.timeout(400)]

CSV = "id\n1\n2\n"
LOCATION = """
from datetime import timedelta

from dagster import EnvVar

from fdtcc_dagster import (
    FoundryContainerResource, FoundryDataset, FoundryParquetIOManager, Schedule, build_foundry_definitions
)

refreshes = Schedule([{{"cycle": "daily", "time": "{time}"}}], buffer=timedelta(0), timezone="{zone}")
defs = build_foundry_definitions(
    [FoundryDataset("orders", refreshes, "{start}", {{"id": "Int64"}})],
    resource=FoundryContainerResource(
        host="127.0.0.1", port=EnvVar.int("TEST_CONTAINER_PORT"), spool_directory=EnvVar("TEST_SPOOL")
    ),
    io_manager=FoundryParquetIOManager(base_dir=EnvVar("TEST_PARQUET")),
    automation="condition",
)
"""
START = """mutation($selector: SensorSelector!) { startSensor(sensorSelector: $selector) {
    __typename ... on PythonError { message } } }"""
RUNS = """query { runsOrError { ... on Runs { results { status
    assetSelection { path } tags { key value } } } } }"""


def test_the_daemon_requests_a_partition_when_its_refresh_becomes_available(tmp_path: Path) -> None:
    # Late enough for the daemon, which does so every 30 seconds, to have evaluated the condition before.
    available = datetime.now(ZoneInfo(ZONE)).replace(microsecond=0) + timedelta(seconds=75)
    code = LOCATION.format(time=available.time(), zone=ZONE, start=TODAY - timedelta(days=3))
    with SandboxContainer() as container:
        for back in range(1, 4):
            container.add_version("orders", available - timedelta(days=back) + timedelta(hours=1), "id\n0\n")
        container.set_live("orders", CSV)
        with dagster_dev(tmp_path, {"foundry": code}, container.port) as instance:
            started = instance.query(
                START,
                selector={
                    "repositoryLocationName": "foundry",
                    "repositoryName": "__repository__",
                    "sensorName": "foundry_automation",
                },
            )
            assert started["__typename"] == "Sensor", started
            assert instance.partitions("orders")["MATERIALIZED"] == set()
            wait_until(lambda: instance.partitions("orders")["MATERIALIZED"], 240, what="a materialization")
            assert datetime.now(ZoneInfo(ZONE)) >= available
            # Two evaluations later, it is still the only one.
            time.sleep(65)
            (run,) = instance.query(RUNS)["results"]
            assert instance.partitions("orders")["MATERIALIZED"] == {str(TODAY)}
            (stored,) = instance.materializations("orders")
        (request,) = container.requests
    assert run["status"] == "SUCCESS"
    assert run["assetSelection"] == [{"path": ["orders"]}]
    assert {"key": "dagster/partition", "value": str(TODAY)} in run["tags"]
    assert datetime.fromisoformat(request["from_dt"]) == available
    assert stored["partition"] == str(TODAY)
    assert (
        stored["foundry/sha256"] == stored["tags"]["dagster/data_version"] == hashlib.sha256(CSV.encode()).hexdigest()
    )
    assert pl.read_parquet(tmp_path / "parquet" / "orders" / f"{TODAY}.parquet")["id"].to_list() == [1, 2]
