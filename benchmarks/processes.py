"""The processes of a benchmark: servers, and jobs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
BUCKET = "benchmarks"
_REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        port: Its port.
        pid: Its process.
    """

    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """The user and system seconds that it has used so far."""
        # The second field, a name in parentheses, may have spaces in it.
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(module: str, *arguments: str, scratch: Path) -> Iterator[Server]:
    """Run a server of this machine, and end it.

    Args:
        module: Its module, which writes its address to the standard output when it is ready.
        arguments: Its command line.
        scratch: Where it may put temporary files.

    Yields:
        The server.

    Raises:
        RuntimeError: It did not start.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=_environment() | {"TMPDIR": str(scratch)},
    )
    try:
        assert process.stdout is not None
        ready = process.stdout.readline()
        found = re.search(r":(\d+)\b", ready)
        if found is None:
            raise RuntimeError(f"{module} did not start: {ready!r}")
        yield Server(int(found[1]), process.pid)
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            # Such as one that somebody has stopped.
            process.kill()
            process.wait()


def run_job(job: str, **arguments: Any) -> dict[str, Any]:
    """Run a job in a new process.

    Args:
        job: The job, see `benchmarks.job`.
        arguments: Its arguments.

    Returns:
        Its result.

    Raises:
        RuntimeError: It failed.
    """
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.job", json.dumps({"job": job, **arguments})],
        capture_output=True,
        text=True,
        env=_environment(),
        check=False,
    )
    if process.returncode:
        raise RuntimeError(f"the job {job} with {arguments} failed:\n{process.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(_REPOSITORY), "DAGSTER_DISABLE_TELEMETRY": "yes"}
