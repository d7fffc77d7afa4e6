"""One job in a process of its own: `python -m benchmarks.job '{"job": "baselines.curl", …}'`.

A job is a function that prepares and returns what is to be measured, as a function without arguments. Imports and
preparations are not counted. The result is one line of JSON: seconds, seconds of the processor, peak memory in MB, the
bytes that went through `read` and `write`, and what the job returned.
"""

from __future__ import annotations

import importlib
import json
import resource
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
    before, cpu, started = _transferred(), _cpu_seconds(), time.perf_counter()
    found = work()
    seconds, cpu, after = time.perf_counter() - started, _cpu_seconds() - cpu, _transferred()
    read, written = after[0] - before[0], after[1] - before[1]
    result = {"seconds": seconds, "cpu": cpu, "peak_mb": peak_mb(), "read": read, "written": written}
    sys.stdout.write(json.dumps(result | found) + "\n")


def peak_mb() -> float:
    """The most memory that this process has had at once, in MB of 10^6 bytes.

    VmHWM is of this process alone; `ru_maxrss` begins with that of the parent, which this one was forked from.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


def _cpu_seconds() -> float:
    """The user and system seconds of this process and of its children that have ended, finer than `os.times`."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _transferred() -> tuple[int, int]:
    """The bytes that this process has read and written so far, from and to files; what came by sockets is not in it."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    counts = dict(line.split(": ") for line in lines)
    return int(counts["rchar"]), int(counts["wchar"])


if __name__ == "__main__":
    main(sys.argv[1])
