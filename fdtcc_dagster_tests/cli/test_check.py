from __future__ import annotations

import socket
import ssl
from datetime import datetime, timezone

import pytest
import trustme
from aiohttp import web

from fdtcc_dagster.cli import check
from fdtcc_dagster.cli.container import CONTAINER, TOKEN
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.cli.conftest import Run
from fdtcc_dagster_tests.security.serving import http_server


@pytest.fixture(autouse=True)
def container(sandbox_container: SandboxContainer) -> SandboxContainer:
    sandbox_container.add_version("orders", datetime(2026, 1, 5, 4, tzinfo=timezone.utc), "id\n1\n")
    return sandbox_container


def test_a_container_and_its_names(run: Run, container: SandboxContainer) -> None:
    done = run("check", f"{container.host}:{container.port}", "orders")
    assert (done.code, done.err) == (0, "")
    assert f"{container.host}:{container.port} is a container: The sandbox" in done.out
    assert "Its handshake took 0." in done.out
    assert "orders: known" in done.out


def test_an_unknown_name_ends_with_its_exit_code(run: Run) -> None:
    done = run("check", "orders", "oders", "--json")
    assert done.code == 5
    assert done.json["ok"] is False
    assert done.json["known"] == {"orders": True, "oders": False}
    assert done.json["handshake_seconds"] < 5


def test_a_host_without_a_port_is_a_name(
    run: Run, container: SandboxContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hint = check._HOST
    done = run("check", "localhost", "oders")
    assert done.code == 5
    assert done.out.count("unknown; compare") == 2
    assert done.out.endswith(hint + "\n")
    address = f"{container.host}:{container.port}"
    assert "host, write" not in run("check", address, "localhost").out + run("check", "orders", "oders").out
    # All arguments are names if the address is an option.
    assert run("check", "--container", address, "a:1", "--json").json["known"] == {"a:1": False}
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv(CONTAINER, f"127.0.0.1:{server.getsockname()[1]}")
    done = run("check", "localhost")
    assert done.code == 3
    assert hint in done.err
    assert "s3cret" not in run("check", "me:s3cret@localhost:8888").err


def test_a_slow_handshake_is_told(run: Run, container: SandboxContainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_SLOW_SECONDS", 0.05)
    container.inject(None, faults.SlowHandshake(0.1))
    assert "That is slow" in run("check").out


def test_a_handshake_that_is_too_slow_is_an_error(run: Run, container: SandboxContainer) -> None:
    container.inject(None, faults.SlowHandshake(5))
    done = run("check", "--timeout", 0.3)
    assert (done.code, done.out) == (3, "")
    assert "is up but answers slowly" in done.err


def test_nobody_is_there(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    done = run("check", f"127.0.0.1:{port}")
    assert (done.code, done.out) == (3, "")
    assert "cannot be reached" in done.err


async def _page(_: web.Request) -> web.StreamResponse:
    return web.Response(text="It works!")


def test_something_else_is_there(run: Run) -> None:
    with http_server(_page) as port:
        done = run("check", f"127.0.0.1:{port}", "--json")
    assert done.code == 3
    assert "something else listens" in done.json["error"]["message"]


def test_tls_that_is_not_wanted_and_tls_that_is_not_there(run: Run, container: SandboxContainer) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with http_server(_page, context) as port:
        done = run("check", f"127.0.0.1:{port}")
    assert done.code == 3
    assert "speaks TLS" in done.err
    assert "secure=True: --secure" in done.err
    done = run("check", f"https://127.0.0.1:{container.port}")
    assert done.code == 3
    assert "seems to speak plain HTTP" in done.err


def test_a_refused_token_is_told_and_not_shown(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "s3cret-token")

    async def refuse(request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == "Bearer s3cret-token"
        return web.Response(status=401)

    with http_server(refuse) as port:
        done = run("check", f"127.0.0.1:{port}")
    assert done.code == 3
    assert "refuses the credentials" in done.err
    assert f"the environment variable {TOKEN}" in done.err
    assert "s3cret" not in done.out + done.err
