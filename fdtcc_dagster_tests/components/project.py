"""A project in which `dg` is really run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

PYPROJECT = """\
[project]
name = "example"
version = "0.1.0"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "example"
"""
DEFINITIONS = """\
from pathlib import Path

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""


@dataclass(frozen=True)
class Result:
    """How a command has ended, and what it has said, without colours."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        """All that it has said."""
        return self.stdout + self.stderr


class Project:
    """The layout of `create-dagster project`, made by hand, for that would install packages."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.defs = root / "src" / "example" / "defs"
        self.defs.mkdir(parents=True)
        self.home = root / "home"
        self.home.mkdir()
        (self.home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
        (root / "pyproject.toml").write_text(PYPROJECT)
        (self.defs.parent / "__init__.py").touch()
        (self.defs / "__init__.py").touch()
        (self.defs.parent / "definitions.py").write_text(DEFINITIONS)

    def load(self) -> dg.Definitions:
        """Load the definitions here, as `dg check defs` does in a process of its own."""
        sys.path.insert(0, str(self.root / "src"))
        try:
            return dg.load_from_defs_folder(path_within_project=self.defs)
        finally:
            sys.path.remove(str(self.root / "src"))
            # Another project has modules of the same names.
            for name in [name for name in sys.modules if name.partition(".")[0] == "example"]:
                del sys.modules[name]

    def dg(self, *arguments: str, **environment: str) -> Result:
        """Run `dg`."""
        return self.run(sys.executable, "-m", "dagster_dg_cli.cli", *arguments, **environment)

    def run(self, *command: str, **environment: str) -> Result:
        """Run a command where `dg` and `python` are those of this environment."""
        return run_in(self.root, self.home, *command, **environment)


def run_in(root: Path, home: Path, *command: str, **environment: str) -> Result:
    """Run a command in the directory of a project; `dg` and `python` are those of this environment."""
    path = os.pathsep.join([str(root / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.run(
        command,
        cwd=root,
        env={
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "VIRTUAL_ENV": sys.prefix,
            "PYTHONPATH": path,
            "HOME": str(home),
            "DAGSTER_HOME": str(home),
            "NO_COLOR": "1",
            "COLUMNS": "200",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    return Result(process.returncode, _plain(process.stdout), _plain(process.stderr))


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
