"""A container behind a reverse proxy with TLS, and an authority whose certificates nobody else trusts."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from fdtcc_dagster.client import FoundryDevToolsContainerClient
from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster_tests.security.serving import ReverseProxy, http_server
from fdtcc_dagster_tests.security.witness import Witness

TOKEN = "t0ken-that-nobody-may-see"  # noqa: S105  not one
CSV = "id,name\n1,one\n2,two\n3,three\n"

ClientOf = Callable[..., FoundryDevToolsContainerClient]
Proxied = Callable[..., AbstractContextManager[tuple[int, ReverseProxy]]]


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture
def tls(authority: trustme.CA) -> Callable[..., ssl.SSLContext]:
    """Contexts of servers; by default with a certificate for 127.0.0.1."""

    def make(*names: str, expired: bool = False) -> ssl.SSLContext:
        then = dt.datetime.now(dt.timezone.utc) - dt.timedelta(days=1) if expired else None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*(names or ("127.0.0.1",)), not_after=then).configure_cert(context)
        return context

    return make


@pytest.fixture
def container(sandbox_container: SandboxContainer) -> SandboxContainer:
    """The sandbox with one dataset."""
    sandbox_container.set_live("orders", CSV)
    return sandbox_container


@pytest.fixture
def proxied(container: SandboxContainer, tls: Callable[..., ssl.SSLContext]) -> Proxied:
    """The container behind a proxy that wants the token."""

    @contextmanager
    def serve(context: ssl.SSLContext | None = None) -> Iterator[tuple[int, ReverseProxy]]:
        proxy = ReverseProxy(container.url, {"Authorization": f"Bearer {TOKEN}"})
        with http_server(proxy.handle, tls() if context is None else context) as port:
            yield port, proxy

    return serve


@pytest.fixture
def client_of(ca_file: str) -> ClientOf:
    """Clients with TLS and the token; keyword arguments override them."""

    def make(port: int, **overrides: Any) -> FoundryDevToolsContainerClient:
        arguments = {
            "secure": True,
            "ca_file": ca_file,
            "bearer_token": TOKEN,
            "open_timeout": 5.0,
            "idle_timeout": 5.0,
            "job_timeout": 20.0,
            "retry_delay": 0.01,
            **overrides,
        }
        return FoundryDevToolsContainerClient(arguments.pop("host", "127.0.0.1"), port, **arguments)

    return make


@pytest.fixture
def witness(tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[Witness]:
    kept = Witness(tmp_path, caplog, capfd)
    with kept.instance:
        yield kept
