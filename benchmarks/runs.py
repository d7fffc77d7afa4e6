"""Whole runs by Dagster's command line: the process, the definitions, the instance and the run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.job import Work


def materialize(directory: str, port: int, keys: Sequence[str]) -> Work:
    """Materialize a contiguous range of partitions of `parts` in one run."""
    home = Path(directory, "home")
    home.mkdir()
    environment = os.environ | {
        "DAGSTER_HOME": str(home),
        "FDTCC_BENCHMARK_PORT": str(port),
        "FDTCC_BENCHMARK_DIRECTORY": directory,
    }
    partitions = ["--partition", keys[0]] if len(keys) == 1 else ["--partition-range", f"{keys[0]}...{keys[-1]}"]
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-m", "benchmarks.location"]

    def work() -> dict[str, Any]:
        subprocess.run(  # noqa: S603
            [*command, "--select", "parts", *partitions], check=True, env=environment, capture_output=True
        )
        return {"paths": [str(Path(directory, "parts", f"{key}.parquet")) for key in keys]}

    return work
