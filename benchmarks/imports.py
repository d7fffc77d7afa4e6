"""Jobs that import, each in a process of its own; this module imports nothing of what is measured."""

from __future__ import annotations

import importlib
from typing import Any

from benchmarks.job import Work


def bare(directory: str) -> Work:
    """Import what every code location with Dagster and Polars imports."""
    return lambda: _import("dagster", "polars")


def ours(directory: str) -> Work:
    """Import the package besides."""
    return lambda: _import("dagster", "polars", "fdtcc_dagster")


def _import(*names: str) -> dict[str, Any]:
    for name in names:
        importlib.import_module(name)
    return {}
