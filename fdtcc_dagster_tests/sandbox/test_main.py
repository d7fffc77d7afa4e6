from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster.sandbox.__main__ import describe
from fdtcc_dagster_tests.sandbox.wire import CSV, fetch

COMMAND = (sys.executable, "-m", "fdtcc_dagster.sandbox")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "2026-01-05T04-00-00Z.csv").write_bytes(CSV)
    return tmp_path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_says_when_it_is_ready_serves_and_ends_cleanly(root: Path, number: signal.Signals) -> None:
    # Older versions of dagster-polars warn when they are imported.
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(
        [*COMMAND, str(root), "--port", "0"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        ready = re.fullmatch(
            r"sandbox container ready at http://127\.0\.0\.1:(\d+) \(1 datasets\)\n", process.stdout.readline()
        )
        assert ready
        there = SandboxContainer(port=int(ready[1]))
        assert asyncio.run(fetch(there, hashlib.sha256(CSV).hexdigest())) == (200, CSV)
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")


def test_command_listens_where_the_service_s_own_image_does() -> None:
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
    assert "(default: 8888)" in done.stdout


def test_an_empty_directory_is_told_what_to_put_there(tmp_path: Path) -> None:
    with SandboxContainer(tmp_path) as container:
        assert describe(container)[0].startswith("no dataset is there: put <dataset>.csv or ")


def test_command_that_cannot_start_says_why(root: Path) -> None:
    (root / "people" / "latest.csv").touch()
    done = subprocess.run([*COMMAND, str(root)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "latest.csv is not named after the instant" in done.stderr
    assert "Traceback" not in done.stderr


def test_command_names_the_port_that_is_taken(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run([*COMMAND, str(root), "--port", port], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr
