from __future__ import annotations

from pathlib import Path

import pytest

from fdtcc_dagster_tests.components.project import Project


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One project for all tests: `dg` takes seconds for each command."""
    return Project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def scaffolded(project: Project) -> Path:
    """The `defs.yaml` that `dg scaffold defs` has written."""
    result = project.dg("scaffold", "defs", "fdtcc_dagster.FoundryDatasetsComponent", "foundry", "--port", "8888")
    assert result.returncode == 0, result.output
    return project.defs / "foundry" / "defs.yaml"
