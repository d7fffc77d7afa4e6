"""A fixture for users' tests; opt in by `pytest_plugins = ["fdtcc_dagster.sandbox.pytest_plugin"]` in conftest.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fdtcc_dagster.sandbox.container import SandboxContainer


@pytest.fixture
def sandbox_container() -> Iterator[SandboxContainer]:
    """A container without datasets on a free port, for one test."""
    with SandboxContainer() as container:
        yield container
