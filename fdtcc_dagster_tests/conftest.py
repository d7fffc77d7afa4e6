"""What the tests share: a container of our own on loopback, and clients that do not wait long."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from fdtcc_dagster.client import FoundryDevToolsContainerClient, Window
from fdtcc_dagster.client.state import STATE_DIRECTORY
from fdtcc_dagster.sandbox import SandboxContainer

# Here, so that pytest finds the profile; and before any test, as Hypothesis parses source when it is imported, in which
# CPython 3.11 miscounts its recursion where other threads do so too (a SystemError, in pytest's summary).
from fdtcc_dagster_tests import fuzz  # noqa: F401

pytest_plugins = ["fdtcc_dagster.sandbox.pytest_plugin"]

ClientMaker = Callable[..., FoundryDevToolsContainerClient]


@pytest.fixture
def make_client(sandbox_container: SandboxContainer) -> ClientMaker:
    """Clients of the sandbox with short limits; keyword arguments override them."""

    def make(**overrides: Any) -> FoundryDevToolsContainerClient:
        arguments = {"open_timeout": 5.0, "idle_timeout": 5.0, "job_timeout": 20.0, "retry_delay": 0.01, **overrides}
        return FoundryDevToolsContainerClient(sandbox_container.host, sandbox_container.port, **arguments)

    return make


@pytest.fixture
def client(make_client: ClientMaker) -> FoundryDevToolsContainerClient:
    return make_client()


@pytest.fixture
def today() -> Window:
    """A window that contains now."""
    now = datetime.now(timezone.utc)
    return Window(now - timedelta(days=1), now + timedelta(days=1))


@pytest.fixture
def last_year() -> Window:
    """A week that is over for long."""
    start = datetime.now(timezone.utc) - timedelta(days=365)
    return Window(start, start + timedelta(days=7))


@pytest.fixture(autouse=True)
def state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory for each test: what one finds out about a snapshot must not reach the next one."""
    directory = tmp_path_factory.mktemp("state")
    monkeypatch.setenv(STATE_DIRECTORY, str(directory))
    return directory
