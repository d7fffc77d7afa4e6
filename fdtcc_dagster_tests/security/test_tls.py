"""A container behind a reverse proxy that speaks TLS and wants a token; and those that only look like it."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from fdtcc_dagster.client import FoundryDevToolsContainerClient, Snapshot
from fdtcc_dagster.client.download import Transport
from fdtcc_dagster.errors import ServiceUnavailableError
from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster.window import Window
from fdtcc_dagster_tests.security.conftest import CSV, TOKEN, ClientOf, Proxied
from fdtcc_dagster_tests.security.serving import http_server

Tls = Callable[..., ssl.SSLContext]


async def pull(
    client: FoundryDevToolsContainerClient, window: Window, directory: Path, transport: Transport = "csv"
) -> Snapshot:
    return await client.pull("orders", window.from_dt, window.to_dt, directory=directory, transport=transport)


@pytest.fixture
def attempts(caplog: pytest.LogCaptureFixture) -> Callable[[], int]:
    """How many attempts a pull that failed has made."""
    caplog.set_level(logging.WARNING)
    return lambda: 1 + sum("failed, next one in" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("transport", ["csv", "zip"])
async def test_a_pull_through_a_proxy_with_tls_that_wants_a_token(
    proxied: Proxied, client_of: ClientOf, today: Window, tmp_path: Path, transport: Transport
) -> None:
    with proxied() as (port, proxy):
        snapshot = await pull(client_of(port), today, tmp_path, transport)
    assert snapshot.path.read_text() == CSV
    asked = [(path, headers["Authorization"]) for path, headers in proxy.seen]
    assert asked == [
        ("/fdtc-api/dataset/get", f"Bearer {TOKEN}"),
        (f"/fdtc-api/dataset/download/{transport}/{snapshot.sha256}", f"Bearer {TOKEN}"),
    ]


async def test_the_documented_face_uses_tls_and_the_token_too(
    proxied: Proxied, client_of: ClientOf, today: Window
) -> None:
    with proxied() as (port, _):
        client = client_of(port)
        rows, complete = await client.get_single(None, "orders", today.from_dt, today.to_dt)
        said: list[object] = []
        await client.get(None, "orders", lambda _, __, message: said.append(message["type"]))
    assert (complete, rows.height) == (True, 3)
    assert said[-1] == "final"


async def test_other_headers_of_a_proxy(proxied: Proxied, client_of: ClientOf, today: Window, tmp_path: Path) -> None:
    headers = {"authorization": f"Bearer {TOKEN}", "X-Tenant": "sales"}
    with proxied() as (port, proxy):
        await pull(client_of(port, bearer_token=None, headers=headers), today, tmp_path)
    assert [sent["X-Tenant"] for _, sent in proxy.seen] == ["sales", "sales"]


async def test_a_certificate_of_an_unknown_authority_is_refused_at_once(
    proxied: Proxied,
    client_of: ClientOf,
    today: Window,
    tmp_path: Path,
    attempts: Callable[[], int],
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    for ca_file in (None, str(other)):
        with proxied() as (port, proxy):
            with pytest.raises(ServiceUnavailableError, match=r"not trusted .*as ca_file") as caught:
                await pull(client_of(port, ca_file=ca_file), today, tmp_path)
            assert proxy.seen == []
        assert caught.value.permanent
        assert caught.value.dataset == "orders"
    assert attempts() == 1


async def test_an_expired_certificate_is_refused(
    proxied: Proxied, client_of: ClientOf, tls: Tls, today: Window, tmp_path: Path, attempts: Callable[[], int]
) -> None:
    with (
        proxied(tls(expired=True)) as (port, proxy),
        pytest.raises(ServiceUnavailableError, match=r"certificate has expired\): it must be renewed"),
    ):
        await pull(client_of(port), today, tmp_path)
    assert (proxy.seen, attempts()) == ([], 1)


@pytest.mark.parametrize(("host", "name"), [("127.0.0.1", "foundry.example"), ("localhost", "127.0.0.1")])
async def test_a_certificate_for_another_host_is_refused(
    proxied: Proxied,
    client_of: ClientOf,
    tls: Tls,
    today: Window,
    tmp_path: Path,
    attempts: Callable[[], int],
    host: str,
    name: str,
) -> None:
    with (
        proxied(tls(name)) as (port, proxy),
        pytest.raises(ServiceUnavailableError, match=r"is not valid for .*: give the host by a name"),
    ):
        await pull(client_of(port, host=host), today, tmp_path)
    assert (proxy.seen, attempts()) == ([], 1)


async def test_the_download_verifies_the_certificate_as_the_handshake_does(
    proxied: Proxied, client_of: ClientOf, tls: Tls, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for context, reason in [(tls(), "as ca_file"), (tls("foundry.example"), "give the host by a name")]:
        caplog.clear()
        ca_file = None if reason == "as ca_file" else str(tmp_path / "authority.pem")
        with proxied(context) as (port, proxy):
            assert await client_of(port, ca_file=ca_file).download("0" * 64) == ("Failed", False)
        assert proxy.seen == []
        assert reason in caplog.text
        assert "next one in" not in caplog.text


@pytest.mark.parametrize("token", [None, "wr0ng-t0ken"])
async def test_a_missing_or_wrong_token_is_refused_and_not_shown(
    proxied: Proxied,
    client_of: ClientOf,
    today: Window,
    tmp_path: Path,
    attempts: Callable[[], int],
    caplog: pytest.LogCaptureFixture,
    token: str | None,
) -> None:
    advice = "set bearer_token or headers" if token is None else "check bearer_token and headers"
    with proxied() as (port, proxy):
        client = client_of(port, bearer_token=token)
        with pytest.raises(ServiceUnavailableError, match=f"HTTP 401: a proxy .*refuses the credentials; {advice}"):
            await pull(client, today, tmp_path)
        assert attempts() == 1

        # 403 is also what the container says when it has no credentials of its own, which may pass.
        proxy.refusal = 403
        with pytest.raises(ServiceUnavailableError, match="HTTP 403; its Foundry credentials may be missing"):
            await pull(client, today, tmp_path)
        assert attempts() == 3

        caplog.clear()
        proxy.let_through = "/get"
        for proxy.refusal in (401, 403):
            with pytest.raises(ServiceUnavailableError, match=f"HTTP {proxy.refusal}: a proxy .*; {advice}"):
                await pull(client, today, tmp_path)
        assert attempts() == 1
    assert "t0ken" not in caplog.text


async def test_plain_http_where_tls_is_expected(
    container: SandboxContainer, client_of: ClientOf, today: Window, tmp_path: Path, attempts: Callable[[], int]
) -> None:
    client = client_of(container.port)
    with pytest.raises(ServiceUnavailableError, match="seems to speak plain HTTP: set secure=False"):
        await pull(client, today, tmp_path)
    assert await client.download("0" * 64) == ("Failed", False)
    assert attempts() == 1


async def test_tls_where_plain_http_is_expected(
    proxied: Proxied, client_of: ClientOf, today: Window, tmp_path: Path
) -> None:
    with proxied() as (port, proxy):
        client = client_of(port, secure=False, ca_file=None, attempts=1)
        with pytest.raises(ServiceUnavailableError, match="speaks TLS, set secure=True"):
            await pull(client, today, tmp_path)
        assert proxy.seen == []


async def test_a_redirect_is_followed_neither_by_the_handshake_nor_by_a_download(
    proxied: Proxied, client_of: ClientOf, tls: Tls, today: Window, tmp_path: Path, attempts: Callable[[], int]
) -> None:
    elsewhere: list[str] = []

    async def lure(request: web.Request) -> web.StreamResponse:
        elsewhere.append(request.path)
        return web.Response()

    for status in (301, 302, 303, 307, 308):
        with http_server(lure, tls()) as target:

            async def redirect(request: web.Request, status: int = status, target: int = target) -> web.StreamResponse:
                return web.Response(status=status, headers={"Location": f"https://127.0.0.1:{target}{request.path}"})

            with http_server(redirect, tls()) as port:
                client = client_of(port)
                with pytest.raises(ServiceUnavailableError, match=f"HTTP {status}, a redirect, which is not followed"):
                    await pull(client, today, tmp_path)
                assert await client.download("0" * 64) == ("Failed", False)
    assert elsewhere == []
    assert attempts() == 1


async def test_a_token_that_is_sent_unencrypted_is_warned_about(
    container: SandboxContainer, client_of: ClientOf, caplog: pytest.LogCaptureFixture
) -> None:
    client_of(container.port)
    assert "unencrypted" not in caplog.text
    client_of(container.port, secure=False, ca_file=None)
    assert "sent unencrypted" in caplog.text
    assert TOKEN not in caplog.text
