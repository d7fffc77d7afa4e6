"""One job in a process of its own: `python -m benchmarks.job '{"job": "baselines.curl", …}'`.

A job is a function that prepares and returns what is to be measured, as a function without arguments. Imports and
preparations are not counted. The result is one line of JSON: seconds, peak memory in MB, and what the job returned.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Work = Callable[[], dict[str, Any]]


def main(specification: str) -> None:
    """Run a job and write its result.

    Args:
        specification: The job `module.function` of this package and its arguments, as a JSON object.
    """
    arguments: dict[str, Any] = json.loads(specification)
    module, function = arguments.pop("job").split(".")
    work: Work = getattr(importlib.import_module(f"benchmarks.{module}"), function)(**arguments)
    started = time.perf_counter()
    found = work()
    seconds = time.perf_counter() - started
    sys.stdout.write(json.dumps({"seconds": seconds, "peak_mb": peak_mb(), **found}) + "\n")


def peak_mb() -> float:
    """The most memory that this process has had at once, in MB of 10^6 bytes.

    VmHWM is of this process alone; `ru_maxrss` begins with that of the parent, which this one was forked from.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    main(sys.argv[1])
