from __future__ import annotations

import pytest

from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster_tests.client.pulls import CSV


@pytest.fixture
def container(sandbox_container: SandboxContainer) -> SandboxContainer:
    sandbox_container.set_live("orders", CSV)
    return sandbox_container
