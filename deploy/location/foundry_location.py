"""One code location for a laptop, Compose, Celery and Kubernetes: the environment says where it runs.

With nothing set: a container at 127.0.0.1:8888, Parquet in `data/`, and Dagster's own processes on this machine. An
empty variable counts as not set. docs/deployments.md#the-variables has them all.
"""

from __future__ import annotations

import os

import dagster as dg

import fdtcc_dagster as fd

DATASETS = [
    fd.FoundryDataset(
        "orders",
        fd.Schedule([{"cycle": "daily", "time": "04:00:00"}]),
        "2026-01-01",
        schema={"id": "Int64", "customer": "String", "amount": "Decimal(12, 2)"},
    ),
    fd.FoundryDataset(
        "customers",
        fd.Schedule([{"cycle": "weekly", "day": "Monday", "time": "06:00:00"}]),
        "2026-01-01",
        schema={"id": "Int64", "name": "String"},
    ),
]


def setting(name: str) -> str | None:
    """Read a variable while the code location is loaded."""
    return os.environ.get(name) or None


def secret(name: str) -> dg.EnvVar | None:
    """Leave a variable to the step that uses it, so that its value is stored and shown nowhere."""
    return dg.EnvVar(name) if setting(name) else None


def executor() -> dg.ExecutorDefinition:
    """Give steps to Celery's workers if there is a broker, and otherwise to processes of the run's machine."""
    if not setting("CELERY_BROKER"):
        # Dagster's default follows the processors of the machine, and not the limit of a container.
        return dg.multiprocess_executor.configured({"max_concurrent": int(setting("FOUNDRY_PROCESSES") or 0)})
    from dagster_celery import celery_executor

    return celery_executor.configured({"broker": {"env": "CELERY_BROKER"}, "backend": {"env": "CELERY_RESULTS"}})


defs = fd.build_foundry_definitions(
    DATASETS,
    resource=fd.FoundryContainerResource(
        host=setting("FOUNDRY_HOST") or "127.0.0.1",
        port=int(setting("FOUNDRY_PORT") or 8888),
        # Whatever is not clearly "no" is TLS.
        secure=(setting("FOUNDRY_TLS") or "0") != "0",
        ca_file=setting("FOUNDRY_CA_FILE"),
        bearer_token=secret("FOUNDRY_TOKEN"),
        spool_directory=setting("FOUNDRY_SPOOL"),
        lock_database=secret("FOUNDRY_LOCK_DATABASE"),
    ),
    # An object store takes its credentials from its own variables, such as AWS_ACCESS_KEY_ID.
    io_manager=fd.FoundryParquetIOManager(base_dir=setting("FOUNDRY_STORE") or "data"),
    executor=executor(),
    pool="foundry",
)
