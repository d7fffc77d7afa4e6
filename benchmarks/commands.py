"""Jobs that are programs of their own; this module imports little, so that theirs is the memory that counts."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.job import Work


def curl(directory: str, url: str) -> Work:
    """Download a file by curl: the container's own limit."""
    command = ["curl", "--silent", "--fail", "--output", f"{directory}/curl.csv", url]
    return lambda: _run(command, dict(os.environ))


def materialize(directory: str, port: int, keys: Sequence[str]) -> Work:
    """Materialize a contiguous range of partitions of `parts` by Dagster's command line.

    That is the whole of a run: a process, the definitions, the instance, the run and its events.
    """
    home = Path(directory, "home")
    home.mkdir()
    environment = os.environ | {
        "DAGSTER_HOME": str(home),
        "FDTCC_BENCHMARK_PORT": str(port),
        "FDTCC_BENCHMARK_DIRECTORY": directory,
    }
    command = [
        sys.executable,
        "-m",
        "dagster",
        "asset",
        "materialize",
        "-m",
        "benchmarks.location",
        "--select",
        "parts",
    ]
    command += ["--partition", keys[0]] if len(keys) == 1 else ["--partition-range", f"{keys[0]}...{keys[-1]}"]
    paths = [str(Path(directory, "parts", f"{key}.parquet")) for key in keys]
    return lambda: _run(command, environment) | {"paths": paths}


def _run(command: Sequence[str], environment: dict[str, str]) -> dict[str, Any]:
    process = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if process.returncode:
        raise RuntimeError(f"{command[:3]} failed:\n{process.stdout.decode()[-3000:]}")
    return {"peak_mb": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6}
