"""`python -m benchmarks`: measure, and print a table."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import dagster
import polars as pl

from benchmarks.bench import Bench
from benchmarks.suite import GROUPS
from benchmarks.table import Row, render, size_text

_MEMORY_FILES = Path("/dev/shm")  # noqa: S108  not a file, and nobody else's directory is used in it
_NEEDED = 19
"""What the reference client needs in memory with four times the size, and all files, in sizes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table.

    Args:
        arguments: The command line; by default the process's own.

    Returns:
        The exit code, 0; a bound that is not met is said in the table.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure against the named baselines.")
    parser.add_argument("--size", type=_bytes, default="200MB", help="of the snapshot (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often (default: %(default)s)")
    parser.add_argument(
        "--only", nargs="+", choices=GROUPS, default=list(GROUPS), metavar="GROUP", help=" ".join(GROUPS)
    )
    parser.add_argument("--directory", type=Path, help="for data and results (default: in memory, where there is room)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    parent = options.directory or _default_directory(options.size)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="fdtcc-benchmarks-", dir=parent) as directory:
        versions = f"Dagster {dagster.__version__}, Polars {pl.__version__}"
        _say(f"{size_text(options.size)} in {parent}; {os.cpu_count()} CPUs, {versions}")
        bench = Bench(Path(directory), options.size, options.rounds)
        for name in options.only:
            started = time.monotonic()
            rows += GROUPS[name](bench)
            _say(f"{name}: {time.monotonic() - started:.0f} s")
    sys.stdout.write(render(rows) + "\n")
    if options.json is not None:
        options.json.write_text(json.dumps([row.json() for row in rows], indent=1), encoding="utf-8")
    return 0


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(MB|GB)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 100MB or 1GB")
    return int(float(found[1]) * {"MB": 1e6, "GB": 1e9}[found[2]])


def _available_memory() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def _default_directory(size: int) -> Path:
    """Memory, if there is enough: disks are slower than what is measured, and write in the background."""
    if _MEMORY_FILES.is_dir() and min(_available_memory(), shutil.disk_usage(_MEMORY_FILES).free) > _NEEDED * size:
        return _MEMORY_FILES
    return Path(tempfile.gettempdir())


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
