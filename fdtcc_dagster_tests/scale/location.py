"""The code location of the deployment: a module that code server and workers import, configured by the environment."""

from __future__ import annotations

import os
from datetime import timedelta

import dagster as dg
from dagster_celery import celery_executor

from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    FoundryParquetIOManager,
    Schedule,
    build_foundry_definitions,
)

NAMES = tuple(f"dataset{number}" for number in range(8))
POOL = "container"
SCHEMA = {"id": "Int64", "day": "Date", "amount": "Float64", "note": "String"}
SCHEDULE = Schedule([{"cycle": "daily", "time": "00:00:00"}], buffer=timedelta(0))
START = "2026-01-01"

defs = build_foundry_definitions(
    [FoundryDataset(name, SCHEDULE, START, SCHEMA) for name in NAMES],
    resource=FoundryContainerResource(
        host="127.0.0.1",
        port=dg.EnvVar.int("TEST_CONTAINER_PORT"),
        spool_directory=dg.EnvVar("TEST_SPOOL"),
        # One code location for one machine and for several.
        lock_database=dg.EnvVar("TEST_LOCKS") if "TEST_LOCKS" in os.environ else None,
    ),
    io_manager=FoundryParquetIOManager(
        base_dir=dg.EnvVar("TEST_PARQUET"),
        storage_options={
            "key": dg.EnvVar("TEST_S3_KEY"),
            "secret": dg.EnvVar("TEST_S3_SECRET"),
            "endpoint_url": dg.EnvVar("TEST_S3_ENDPOINT"),
        },
    ),
    executor=celery_executor.configured({"broker": {"env": "TEST_BROKER"}, "backend": {"env": "TEST_RESULTS"}}),
    pool=POOL,
    automation=None,
)
