"""The Makefile: what its targets install and run, without doing so."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def commands(target: str, environment: Path) -> str:
    """What `make` would run for a target in an environment that is not there yet."""
    # A `make` that runs these tests hands its options on, by MAKEFLAGS and MAKELEVEL.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", "--dry-run", target, f"VENV={environment}", "CONSTRAINTS="],  # noqa: S607
        cwd=ROOT, env=outside, capture_output=True, encoding="utf-8", check=True,
    ).stdout  # fmt: skip


def test_the_demo_installs_nothing_for_tests_and_shows_that_it_installs(tmp_path: Path) -> None:
    said = commands("demo", tmp_path / "venv")
    (install,) = re.findall(r"^.* pip install .*$", said, re.MULTILINE)
    assert install.endswith("-e '.[demo]'")
    assert "--quiet" not in said
    assert re.search(r'^echo "Installing .*\n.* -m venv ', said, re.MULTILINE)


def test_tests_install_their_extra_into_an_environment_that_has_the_demo(tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    environment.mkdir()
    (environment / ".installed-demo").touch()
    assert "pip install" not in commands("demo", environment)
    assert commands("quick", environment).count("-e '.[demo,test]'") == 1
    (environment / ".installed-test").touch()
    assert "pip install" not in commands("quick", environment)


def test_the_documentation_is_built_strictly_and_installs_its_own_extra(tmp_path: Path) -> None:
    said = commands("docs", tmp_path / "venv")
    assert said.count("-e '.[docs]'") == 1
    assert said.rstrip().endswith("mkdocs build --strict")


@pytest.mark.parametrize(("target", "least"), [("quick", 5), ("fuzz", 4), ("dist", 1)])
def test_what_a_target_tests_is_there(target: str, least: int, tmp_path: Path) -> None:
    (run,) = re.findall(r"^.* -m pytest .*$", commands(target, tmp_path), re.MULTILINE)
    paths = re.findall(r"fdtcc_dagster_tests/\S+", run)
    assert len(paths) >= least
    assert [path for path in paths if not (ROOT / path).exists()] == []
