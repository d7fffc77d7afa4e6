from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from fdtcc_dagster.cli.container import CONTAINER
from fdtcc_dagster.cli.main import main
from fdtcc_dagster_tests.cli.conftest import Run
from fdtcc_dagster_tests.test_public_surface import imported_by

COMMANDS = sorted(main.commands)
HELP = """
from fdtcc_dagster.cli.main import main
for arguments in ([], *([name] for name in main.commands)):
    try:
        main([*arguments, "--help"])
    except SystemExit as ended:
        assert ended.code == 0
"""


def test_help_loads_neither_dagster_nor_polars_nor_the_network() -> None:
    assert not imported_by(HELP) & {"dagster", "polars", "aiohttp", "websockets", "rich", "yaml", "pyarrow"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_json(run: Run, command: str) -> None:
    done = run(command, "--help")
    assert done.code == 0
    assert f"\n    fdtcc {command} " in done.out.partition("Examples:")[2]
    assert "--json" in done.out


def test_the_commands_are_these(run: Run) -> None:
    assert COMMANDS == ["calendar", "check", "pull", "sandbox"]
    done = run("--help")
    assert all(f"\n    fdtcc {command} " in done.out for command in COMMANDS)
    assert "..." not in done.out.partition("\nCommands:\n")[2]


def test_the_entry_point_is_the_command() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    found = re.search(r'\[project\.scripts\]\nfdtcc = "([\w.]+):(\w+)"', project)
    assert found
    assert getattr(import_module(found[1]), found[2]) is main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "--timeout", "0"], "'--timeout': 0.0 is not in the range x>0"),
        (["check", "http://localhost/path"], "address must be HOST:PORT"),
        (["pull", "orders", "--from", "2026-01-05"], "Missing option '--out'"),
        (["calendar"], "give rules"),
        (["pull", "localhost:8888", "orders", "--from", "2026-01-05"], "by --container localhost:8888"),
        (["pull", "http://me:s3cret@host", "orders"], "by --container localhost:8888"),
        (["pull", "orders", "customers", "--from", "2026-01-05", "--out", "x.csv"], "extra argument (customers)"),
        (["check", "--container", "localhost:abc"], "address must be HOST:PORT"),
    ],
)
def test_a_mistake_of_usage_is_json_too(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.delenv(CONTAINER)
    done = run(*arguments, "--json")
    assert (done.code, done.err) == (2, "")
    assert message in done.json["error"]["message"]
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert f"Usage: fdtcc {arguments[0]} " in done.err


def test_a_command_that_does_not_exist_is_a_mistake_of_usage() -> None:
    command = [sys.executable, "-m", "fdtcc_dagster.cli", "chekc"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such command 'chekc'" in done.stderr
    assert done.stderr.startswith("Usage: fdtcc ")
