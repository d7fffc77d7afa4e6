"""docs/command-line.md: its examples are run, and its table is compared."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from fdtcc_dagster.cli.failing import EXIT_CODES
from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster.sandbox.__main__ import describe
from fdtcc_dagster_tests.cli.conftest import Run

PAGE = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")
CSV = "id,amount\n1,9.5\n2,3.0\n"


def test_the_examples_of_the_page_are_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for kind, block in re.findall(r"^```(console|python)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        with make_container(tmp_path) as container:
            served = block.replace("8888", str(container.port))
            if kind == "python":
                exec(compile(served, "docs/command-line.md", "exec"), {})  # noqa: S102
                continue
            for command, expected in re.findall(r"^\$ fdtcc (.*)\n((?:(?!\$ ).*\n)*)", served, re.MULTILINE):
                if command.startswith("sandbox"):
                    said = "".join(f"{line}\n" for line in describe(container))
                else:
                    done = run(*shlex.split(command))
                    said = done.err + done.out
                assert without_sizes(said) == without_sizes(expected), command


def make_container(directory: Path) -> SandboxContainer:
    (directory / "data" / "orders").mkdir(parents=True, exist_ok=True)
    (directory / "data" / "orders" / "2026-01-05T06-00-00Z.csv").write_text(CSV)
    (directory / "data" / "customers.csv").write_text(CSV)
    (directory / "data" / "README.txt").touch()
    return SandboxContainer("data")


def without_sizes(text: str) -> str:
    """What does not depend on Polars' version and on how busy the machine is."""
    return re.sub(r"took [\d.]+ s", "took some s", re.sub(r"[\d,]+ bytes", "some bytes", text))


def test_the_exit_codes_are_those_of_the_table() -> None:
    rows = re.findall(r"^\| (\d+) \| (`.*`) \|", PAGE, re.MULTILINE)
    documented = {int(code): re.findall(r"`(\w+)`", cell) for code, cell in rows}
    assert documented == {code: [kind.__name__ for kind in kinds] for code, kinds in sorted(EXIT_CODES.items())}
