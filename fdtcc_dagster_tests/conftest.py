"""What the tests share: a container of our own on loopback, and clients that do not wait long."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from fdtcc_dagster.client import FoundryDevToolsContainerClient
from fdtcc_dagster.client.directories import STATE_DIRECTORY
from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster.window import Window

# Here, so that pytest finds the profile; and before any test, as Hypothesis parses source when it is imported, in which
# CPython 3.11 miscounts its recursion where other threads do so too (a SystemError, in pytest's summary).
from fdtcc_dagster_tests import fuzz  # noqa: F401
from fdtcc_dagster_tests.scale.services import missing
from fdtcc_dagster_tests.site import Site

if TYPE_CHECKING:
    from fdtcc_dagster_tests.s3_server import S3Server
    from fdtcc_dagster_tests.store_server import StoreServer

STORES = {"s3": (), "gs": (pytest.mark.scale,), "az": (pytest.mark.scale,)}
"""The kinds of object stores, and the marks of a test of each: one of the servers is no Python package."""

pytest_plugins = ["fdtcc_dagster.sandbox.pytest_plugin", "fdtcc_dagster_tests.quick_storage"]

ClientMaker = Callable[..., FoundryDevToolsContainerClient]


def pytest_addoption(parser: pytest.Parser) -> None:
    """How the pages of messages are rewritten."""
    parser.addoption(
        "--update-messages", action="store_true", help="write what is said into fdtcc_dagster_tests/messages"
    )


def pytest_xdist_auto_num_workers() -> int:
    """Twice as many workers as processors, because many tests wait; at most eight, because each imports for seconds."""
    return min(2 * (os.cpu_count() or 1), 8)


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


@pytest.fixture
def site(sandbox_container: SandboxContainer, tmp_path: Path) -> Iterator[Site]:
    """Runs of assets on a container without datasets; a module's own fixture of this name adds its versions."""
    with dg.instance_for_test() as instance:
        yield Site(sandbox_container, tmp_path, instance)


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[S3Server]:
    # Only here, as it takes seconds to import.
    from fdtcc_dagster_tests.s3_server import s3_server

    with s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def _gs_server() -> Iterator[StoreServer]:
    if not (find_spec("gcp_storage_emulator") and find_spec("gcsfs")):
        missing("no gcp-storage-emulator or gcsfs: pip install gcp-storage-emulator gcsfs")
    from fdtcc_dagster_tests.gcs_server import gcs_server

    with gcs_server() as server:
        yield server


@pytest.fixture(scope="session")
def _az_server() -> Iterator[StoreServer]:
    if not find_spec("adlfs"):
        missing("no adlfs: pip install adlfs")
    from fdtcc_dagster_tests.azure_server import azure_server

    with azure_server() as server:
        yield server


@pytest.fixture
def s3(_s3_server: S3Server) -> S3Server:
    """A server of S3's API on loopback, with an empty bucket."""
    _s3_server.begin()
    return _s3_server


@pytest.fixture(params=[pytest.param(kind, marks=marks) for kind, marks in STORES.items()])
def store(request: pytest.FixtureRequest) -> StoreServer:
    """A server of an object store on loopback, with an empty bucket: of each kind."""
    server: StoreServer = request.getfixturevalue(f"_{request.param}_server")
    server.begin()
    return server


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt and is written to nothing, whatever was before.

    A shell starts background jobs with SIGINT ignored; an earlier test's signals may still be written to something.
    """
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    written_to = signal.set_wakeup_fd(-1)
    yield
    signal.signal(signal.SIGINT, handler)
    with contextlib.suppress(OSError, ValueError):  # it has been closed
        signal.set_wakeup_fd(written_to)
