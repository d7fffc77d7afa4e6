"""The sandbox in a process of its own, and the data that it serves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

HOST = "127.0.0.1"
REPOSITORY = Path(__file__).resolve().parent.parent


@contextmanager
def sandbox(root: Path, scratch: Path) -> Iterator[int]:
    """Serve a directory of versions.

    Args:
        root: The directory.
        scratch: Where the sandbox keeps its own files, such as ZIPs.

    Yields:
        The port.
    """
    arguments = [sys.executable, "-m", "fdtcc_dagster.sandbox", str(root), "--port", "0"]
    with serving(arguments, TMPDIR=str(scratch)) as line:
        yield port_in(line)


def port_in(line: str) -> int:
    """The port in what a server says when it is ready."""
    found = re.search(r":(\d+)\b", line)
    if found is None:
        raise RuntimeError(f"the server did not start: {line!r}")
    return int(found[1])


@contextmanager
def serving(arguments: list[str], **environment: str) -> Iterator[str]:
    """Run a server; yields the first line of its output, and ends it."""
    process = subprocess.Popen(  # noqa: S603
        arguments, stdout=subprocess.PIPE, text=True, env=environment_of_jobs() | environment
    )
    try:
        assert process.stdout is not None  # noqa: S101  a pipe
        yield process.stdout.readline()
    finally:
        process.terminate()
        process.wait()


def environment_of_jobs() -> dict[str, str]:
    """The environment of a job's process."""
    return os.environ | {"PYTHONPATH": str(REPOSITORY), "DAGSTER_DISABLE_TELEMETRY": "yes"}


def announced(port: int, dataset: str, from_dt: str, to_dt: str) -> str:
    """Ask the sandbox for a version; afterwards it knows its hash and answers at once.

    Returns:
        The pointer.
    """
    with connect(f"ws://{HOST}:{port}/fdtc-api/dataset/get", open_timeout=60, proxy=None) as socket:
        socket.send(json.dumps({"names": [dataset], "from_dt": from_dt, "to_dt": to_dt}))
        while True:
            frame: dict[str, Any] = json.loads(socket.recv())
            if frame["type"] == "final":
                return str(frame["datasets"])


def run_job(job: str, **arguments: Any) -> dict[str, Any]:
    """Run a job in a new process; see `benchmarks.job`.

    Returns:
        Its result.

    Raises:
        RuntimeError: It failed.
    """
    process = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "benchmarks.job", json.dumps({"job": job, **arguments})],
        capture_output=True,
        text=True,
        env=environment_of_jobs(),
        check=False,
    )
    if process.returncode:
        raise RuntimeError(f"{job} {arguments} failed:\n{process.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result
