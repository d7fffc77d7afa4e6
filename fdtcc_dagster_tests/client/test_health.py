"""What is wrong where no container answers."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable

import pytest
import trustme
from aiohttp import web

from fdtcc_dagster.client import FDTCC, health
from fdtcc_dagster.client.endpoint import Endpoint
from fdtcc_dagster.errors import ServiceUnavailableError
from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster_tests.security.serving import http_server

Answer = Callable[[], web.Response]


def handler(answer: Answer) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(_: web.Request) -> web.StreamResponse:
        return answer()

    return handle


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda: web.Response(text="<h1>It works!</h1>"), "something else listens where"),
        (lambda: web.json_response(["online"]), "something else listens where"),
        (lambda: web.Response(status=404), "HTTP 404: .* something else listens there"),
        (lambda: web.Response(status=401), "refuses the credentials; set bearer_token"),
        (lambda: web.Response(status=302, headers={"Location": "/x"}), "a redirect, which is not followed"),
        (lambda: web.json_response({"online": False, "message": "no\x1b"}), r"not online: 'no\\\\x1b'"),
    ],
)
async def test_something_else_that_speaks_http_is_told(answer: Answer, message: str) -> None:
    with http_server(handler(answer)) as port, pytest.raises(ServiceUnavailableError, match=message):
        await FDTCC("127.0.0.1", port).check()


async def test_a_server_that_never_answers_is_told() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(ServiceUnavailableError, match=r"did not answer GET /fdtc-api/ within 0\.2 s"),
    ):
        await FDTCC("127.0.0.1", silent.getsockname()[1], open_timeout=0.2).check()


async def test_tls_that_is_not_asked_for_is_told() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    ok = handler(lambda: web.json_response({"online": True}))
    with http_server(ok, context) as port:
        with pytest.raises(ServiceUnavailableError, match="speaks TLS: set secure=True"):
            await FDTCC("127.0.0.1", port).check()
        with pytest.raises(ServiceUnavailableError, match=r"certificate of .* is not trusted"):
            await FDTCC("127.0.0.1", port, secure=True).check()


async def test_tls_that_is_not_spoken_is_told(sandbox_container: SandboxContainer) -> None:
    client = FDTCC(sandbox_container.host, sandbox_container.port, secure=True)
    with pytest.raises(ServiceUnavailableError, match="seems to speak plain HTTP: set secure=False"):
        await client.check()


@pytest.mark.parametrize("is_there", [True, False])
async def test_the_other_port_is_named_and_asked_without_the_token(
    is_there: bool, sandbox_container: SandboxContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as silent:
        refusing, other = server.getsockname()[1], silent.getsockname()[1]
    other = sandbox_container.port if is_there else other
    monkeypatch.setattr(health, "PORTS", {refusing: "here", other: "where the container's own image listens"})
    seen = []
    ask = health.ask_health

    async def ask_health(endpoint: Endpoint, seconds: float) -> str:
        seen.append((endpoint.port, dict(endpoint.headers)))
        return await ask(endpoint, seconds)

    monkeypatch.setattr(health, "ask_health", ask_health)
    found = "A container answers" if is_there else "Nor does a container answer"
    with pytest.raises(ServiceUnavailableError, match=f"{found} at port {other}"):
        await FDTCC("127.0.0.1", refusing, bearer_token="secret").check()  # noqa: S106
    assert seen == [(other, {})]
