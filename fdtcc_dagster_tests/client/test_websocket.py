"""Connections that open late or not at all, fall silent, break, or carry frames that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from fdtcc_dagster.client import FoundryDevToolsContainerClient
from fdtcc_dagster.client.settings import ClientSettings
from fdtcc_dagster.client.websocket import connected
from fdtcc_dagster.errors import (
    IdleTimeoutError,
    ProtocolError,
    ServiceConnectionLostError,
    ServiceUnavailableError,
)
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster.window import Window
from fdtcc_dagster_tests.client.pulls import CSV, SHA256, closed, failure, pull
from fdtcc_dagster_tests.conftest import ClientMaker


async def test_a_blocked_container_is_waited_for_without_pings(
    container: SandboxContainer, make_client: ClientMaker, today: Window, tmp_path: Path
) -> None:
    container.inject("orders", faults.BlockedLoop(1.5, after=4))
    snapshot = await pull(make_client(idle_timeout=10.0), today, tmp_path)
    assert snapshot.sha256 == SHA256


async def test_silence_beyond_the_idle_limit_ends_the_pull(
    container: SandboxContainer, make_client: ClientMaker, today: Window, tmp_path: Path
) -> None:
    container.inject("orders", faults.Silence(after=2))
    assert isinstance(await failure(make_client(idle_timeout=0.3), today, tmp_path), IdleTimeoutError)
    assert len(container.requests) == 1
    assert await closed(container)


async def test_keepalives_keep_a_pull_alive_within_the_limit_of_the_job(
    make_client: ClientMaker, today: Window, tmp_path: Path
) -> None:
    with SandboxContainer(keepalive_interval=0.1, pull_seconds=1.0) as container:
        container.set_live("orders", CSV)
        limits = {"idle_timeout": 0.5, "attempts": 1}
        patient = FoundryDevToolsContainerClient(container.host, container.port, **limits)  # type: ignore[arg-type]
        assert (await pull(patient, today, tmp_path)).sha256 == SHA256
        (tmp_path / f"{SHA256}.csv").unlink()
        container.set_live("never ending", CSV)
        container.inject("never ending", faults.Silence(after=1, keepalives=True))
        busy = FoundryDevToolsContainerClient(container.host, container.port, job_timeout=1.0, **limits)  # type: ignore[arg-type]
        error = await failure(busy, today, tmp_path, "never ending")
        assert isinstance(error, IdleTimeoutError)
        assert "within 1 s" in str(error)


async def test_no_pings_are_sent_for_the_container_may_not_answer_them(
    container: SandboxContainer, client: FoundryDevToolsContainerClient
) -> None:
    async with connected(ClientSettings(client.host, client.port)) as connection:
        assert connection.ping_interval is None


async def test_neither_connection_goes_through_a_proxy_of_the_environment(
    container: SandboxContainer,
    client: FoundryDevToolsContainerClient,
    today: Window,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "ws_proxy", "all_proxy", "HTTP_PROXY", "WS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert (await pull(client, today, tmp_path)).sha256 == SHA256


@pytest.mark.parametrize("status", [403, 500])
async def test_a_refused_handshake_is_unavailability_with_bounded_retries(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path, status: int
) -> None:
    container.inject(None, faults.RefusedHandshake(status), times=2)
    assert (await pull(client, today, tmp_path)).sha256 == SHA256
    (tmp_path / f"{SHA256}.csv").unlink()
    container.inject(None, faults.RefusedHandshake(status), times=None)
    error = await failure(client, today, tmp_path)
    assert isinstance(error, ServiceUnavailableError)
    assert str(status) in str(error)


async def test_a_slow_handshake_is_waited_for_within_its_limit(
    container: SandboxContainer, make_client: ClientMaker, today: Window, tmp_path: Path
) -> None:
    container.inject(None, faults.SlowHandshake(0.6), times=2)
    assert isinstance(
        await failure(make_client(open_timeout=0.2, attempts=1), today, tmp_path), ServiceUnavailableError
    )
    assert (await pull(make_client(), today, tmp_path)).sha256 == SHA256


async def test_nobody_listening_is_unavailability(today: Window, tmp_path: Path) -> None:
    with SandboxContainer() as gone:
        port = gone.port
    client = FoundryDevToolsContainerClient("127.0.0.1", port, attempts=2, retry_delay=0.01)
    assert isinstance(await failure(client, today, tmp_path), ServiceUnavailableError)


@pytest.mark.parametrize("fault", [faults.ConnectionReset(after=2), faults.ServiceRestart(after=2)])
async def test_a_service_killed_in_the_middle_is_a_lost_connection(
    container: SandboxContainer, make_client: ClientMaker, today: Window, tmp_path: Path, fault: faults.Fault
) -> None:
    container.inject("orders", fault, times=None)
    error = await failure(make_client(attempts=2), today, tmp_path)
    assert isinstance(error, ServiceConnectionLostError)
    assert len(container.requests) == 2


@pytest.mark.parametrize(
    "fault",
    [faults.NOT_JSON, faults.NOT_AN_OBJECT, faults.BINARY, faults.HugeFrame()],
    ids=["text", "array", "binary", "huge"],
)
async def test_frames_that_are_none_end_the_pull(
    container: SandboxContainer,
    client: FoundryDevToolsContainerClient,
    today: Window,
    tmp_path: Path,
    fault: faults.Fault,
) -> None:
    container.inject("orders", fault)
    assert isinstance(await failure(client, today, tmp_path), ProtocolError)
