from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fdtcc_dagster_tests.cli.conftest import Run

CSV = "id\n1\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "orders.csv").write_text(CSV)
    (tmp_path / "notes.txt").touch()
    return tmp_path


def test_it_serves_says_what_it_ignores_and_ends_cleanly(run: Run, root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fdtcc_dagster.cli", "sandbox", str(root), "--port", "0", "--json"]
    with subprocess.Popen(
        command,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert (told["datasets"], told["ignored"]) == (["orders"], [str(root / "notes.txt")])
        file = tmp_path / "pulled.csv"
        assert run("pull", "orders", "--from", "2026-01-01", "--out", file, "--container", told["url"]).code == 0
        assert file.read_text() == CSV
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize("name", ["live.csv", "2026-01-05T04-00-00Z.csv"])
def test_a_root_that_is_a_dataset_s_folder_is_told(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(CSV)
    done = run("sandbox", tmp_path, "--port", 0)
    assert (done.code, done.out) == (2, "")
    assert "give the directory above as the root" in done.err


def test_a_root_that_does_not_exist_and_a_port_that_is_taken_are_errors(run: Run, root: Path) -> None:
    assert run("sandbox", root / "nowhere").code == 9
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("sandbox", root, "--port", taken.getsockname()[1], "--json")
    assert done.code == 9
    assert "Address already in use" in done.json["error"]["message"]
