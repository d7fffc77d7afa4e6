from __future__ import annotations

from collections.abc import Iterator

import pytest

from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster_tests.sandbox.wire import NOON


@pytest.fixture
def container() -> Iterator[SandboxContainer]:
    """A container whose clock stands still at noon."""
    with SandboxContainer(clock=lambda: NOON) as container:
        yield container
