"""The code location of the browser tests: two datasets with all that our pages in Dagster's UI can show."""

from __future__ import annotations

import os
from datetime import timedelta

import dagster as dg

from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    FoundryDatasetTranslator,
    FoundryParquetIOManager,
    Schedule,
    build_foundry_definitions,
)


class FromFoundry(FoundryDatasetTranslator):
    """Lineage begins in Foundry."""

    upstream = True


def dataset(name: str) -> FoundryDataset:
    return FoundryDataset(
        name,
        Schedule([{"cycle": "daily", "time": "00:00:00"}], buffer=timedelta(0), timezone=os.environ["TEST_ZONE"]),
        os.environ["TEST_START"],
        {"id": "Int64", "customer": "String", "amount": "Decimal(12, 2)"},
        column_descriptions={"amount": "Euros, with tax"},
        description="What was ordered in the shop.\n\nOne row for each *item*.",
        group_name="shop",
        owners=["team:sales"],
    )


defs = build_foundry_definitions(
    [dataset("orders"), dataset("returns")],
    resource=FoundryContainerResource(
        host="127.0.0.1",
        port=dg.EnvVar.int("TEST_CONTAINER_PORT"),
        bearer_token=dg.EnvVar("TEST_TOKEN"),
        attempts=1,
        spool_directory=dg.EnvVar("TEST_SPOOL"),
    ),
    io_manager=FoundryParquetIOManager(base_dir=dg.EnvVar("TEST_PARQUET"), preview_rows=3),
    translator=FromFoundry(),
    sensor=True,
    checks=True,
    retry_policy=None,
    executor=dg.in_process_executor,
)
