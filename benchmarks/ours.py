"""What is measured: the product, as its users run it."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg

from benchmarks.data import FIRST_DAY, SCHEMA, VERSION_DAY, WEEKS, make_csv
from benchmarks.job import Work
from benchmarks.processes import BUCKET, HOST
from fdtcc_dagster import (
    FDTCC,
    FoundryContainerResource,
    FoundryDataset,
    FoundryParquetIOManager,
    build_foundry_assets,
)
from fdtcc_dagster.sandbox import SandboxContainer

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def store_partitions(
    dataset: FoundryDataset,
    keys: Sequence[str],
    resource: FoundryContainerResource,
    base_dir: str,
    s3: int | None = None,
) -> Work:
    """Materialize partitions of a dataset through its asset and IO manager, in one run in this process.

    This is the one place that says what "pull and store" is.

    Args:
        dataset: The dataset.
        keys: Its partitions: one, or a contiguous range.
        resource: The container.
        base_dir: The IO manager's directory.
        s3: The port of `benchmarks.s3`, if it is stored there; the directory is that of temporary files then.

    Returns:
        What is to be measured; it may be called again, in the same Dagster instance.
    """
    assets = build_foundry_assets([dataset], retry_policy=None)
    io_manager, places = FoundryParquetIOManager(base_dir=base_dir), base_dir
    if s3 is not None:
        tempfile.tempdir = base_dir
        io_manager, places = _in_s3(s3)
    resources = {"foundry_container": resource, "io_manager": io_manager}
    one = len(keys) == 1
    tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
    instance = dg.DagsterInstance.ephemeral(tempfile.mkdtemp(dir=base_dir))

    def work() -> dict[str, Any]:
        dg.materialize(
            assets,
            resources=resources,
            instance=instance,
            partition_key=keys[0] if one else None,
            tags=None if one else tags,
            run_config=_QUIET,
        )
        return {"paths": [f"{places}/{dataset.name}/{key}.parquet" for key in keys]}

    return work


def store(
    directory: str,
    port: int,
    dataset: str = "big",
    *,
    typed: bool = True,
    transport: str = "csv",
    s3: int | None = None,
) -> Work:
    """Pull and store one snapshot."""
    declared = _snapshots(dataset, typed=typed)
    return store_partitions(declared, [VERSION_DAY], _resource(port, directory, transport=transport), directory, s3)


def store_at_once(directory: str, port: int, datasets: Sequence[str]) -> Work:
    """Pull and store one snapshot of each of several datasets, at the same time."""
    works = [store(directory, port, dataset) for dataset in datasets]

    def work() -> dict[str, Any]:
        with ThreadPoolExecutor(len(works)) as threads:
            results = [thread.result() for thread in [threads.submit(each) for each in works]]
        return {"paths": [path for result in results for path in result["paths"]]}

    return work


def transfer(directory: str, port: int) -> Work:
    """Download, hash and spool, without parsing."""
    client = FDTCC(HOST, port)

    def work() -> dict[str, Any]:
        start = datetime.fromisoformat(VERSION_DAY).replace(tzinfo=timezone.utc)
        asyncio.run(client.pull("big", start, start + timedelta(days=1), directory=directory))
        return {}

    return work


def slices(directory: str, port: int, time_column: str) -> Work:
    """Store every week's rows of one snapshot."""
    partitions = dg.WeeklyPartitionsDefinition(FIRST_DAY, day_offset=1)
    dataset = FoundryDataset(
        "big", partitions_def=partitions, schema=SCHEMA, time_column=time_column, complete_history=True
    )
    keys = partitions.get_partition_keys()[:WEEKS]
    return store_partitions(dataset, keys, _resource(port, directory), directory)


def backfill_spool(directory: str, port: int, dataset: str, keys: Sequence[str], limit: int) -> Work:
    """Store many partitions in one run, and count the files that are in the spool at a time."""
    spool = Path(directory, "spool")
    spool.mkdir()
    run = store_partitions(_snapshots(dataset), keys, _resource(port, str(spool), max_concurrency=limit), directory)

    def work() -> dict[str, Any]:
        ended, most = threading.Event(), 0

        def watch() -> None:
            nonlocal most
            while not ended.wait(0.002):
                most = max(most, sum(len(names) for _, _, names in os.walk(spool)))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            return run() | {"spool_files": most}
        finally:
            ended.set()
            watcher.join()

    return work


def store_again(directory: str, size: int) -> Work:
    """Store a snapshot twice, and tell what the second time transferred and wrote of it, in bytes."""
    csv = make_csv(Path(directory, "root", "again", f"{VERSION_DAY}T04-00-00Z.csv"), size)

    def work() -> dict[str, Any]:
        with SandboxContainer(csv.parent.parent) as container:
            run = store_partitions(_snapshots("again"), [VERSION_DAY], _resource(container.port, directory), directory)
            result = run()
            parquet, downloads = Path(result["paths"][0]), sum(container.downloads.values())
            before = parquet.stat()
            run()
            after, again = parquet.stat(), sum(container.downloads.values()) - downloads
        replaced = (before.st_ino, before.st_mtime_ns) != (after.st_ino, after.st_mtime_ns)
        return result | {"again": again * csv.stat().st_size + replaced * after.st_size}

    return work


def _in_s3(port: int) -> tuple[FoundryParquetIOManager, str]:
    """An IO manager of a bucket, and its place."""
    os.environ["FDTCC_BENCHMARK_SECRET"] = "secret"  # noqa: S105
    secret = dg.EnvVar("FDTCC_BENCHMARK_SECRET")
    options = {"key": "key", "secret": secret, "endpoint_url": f"http://{HOST}:{port}"}
    place = f"s3://{BUCKET}"
    return FoundryParquetIOManager(base_dir=place, storage_options=options), place


def _snapshots(dataset: str, *, typed: bool = True) -> FoundryDataset:
    partitions = dg.DailyPartitionsDefinition("2025-01-01")
    return FoundryDataset(dataset, partitions_def=partitions, schema=SCHEMA if typed else None)


def _resource(port: int, spool: str, **settings: Any) -> FoundryContainerResource:
    return FoundryContainerResource(host=HOST, port=port, spool_directory=spool, **settings)
