"""The code location that brings `orders` from Foundry, every night.

It reads `FDTCC_HOST` and `FDTCC_PORT`, where the container is, and `STORE`, the directory of both locations'
partitions.
"""

from datetime import timedelta

import dagster as dg

from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    FoundryParquetIOManager,
    Schedule,
    build_foundry_definitions,
)

orders = FoundryDataset(
    "orders",
    Schedule([{"cycle": "daily", "time": "00:00:00"}], buffer=timedelta(0)),
    start="2024-01-01",
    schema={"id": "Int64", "customer": "String", "amount": "Float64", "ordered_at": "Datetime(us, UTC)"},
)

defs = build_foundry_definitions(
    [orders],
    resource=FoundryContainerResource(host=dg.EnvVar("FDTCC_HOST"), port=dg.EnvVar.int("FDTCC_PORT")),
    io_manager=FoundryParquetIOManager(base_dir=dg.EnvVar("STORE")),
)
