"""`check`: is it a container, can it be used, and which names does it know."""

from __future__ import annotations

import asyncio
import socket
from datetime import datetime, timezone

import pytest

from fdtcc_dagster.errors import ServiceUnavailableError
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.conftest import ClientMaker

NOON = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
CSV = "id\n1\n"


async def test_a_container_is_found_and_says_which_names_it_knows(
    sandbox_container: SandboxContainer, make_client: ClientMaker
) -> None:
    sandbox_container.add_version("orders", NOON, CSV)
    sandbox_container.inject(None, faults.SlowHandshake(0.2))
    check = await make_client().check(["orders", "oders"])
    assert check.message == "The sandbox of fdtcc-dagster is online."
    assert check.known == {"orders": True, "oders": False}
    assert 0.2 <= check.handshake_seconds < 2
    assert check.health_seconds < 2


async def test_nothing_is_pulled_or_recorded_to_ask_for_names(make_client: ClientMaker) -> None:
    # A dataset of which there is no version is the first of the request: its job begins.
    with SandboxContainer(pull_seconds=0.3) as container:
        container.set_live("new", CSV)
        container.add_version("orders", NOON, CSV)
        client = type(make_client())(container.host, container.port)
        assert (await client.check(["new", "orders"])).known == {"new": True, "orders": True}
        assert (await client.check("new")).known == {"new": True}
        await asyncio.sleep(0.4)
        assert container.open_sockets == 0
        assert container.versions("new") == []
        assert container.downloads == {}
        assert len(container.versions("orders")) == 1


async def test_without_names_nothing_is_requested(
    sandbox_container: SandboxContainer, make_client: ClientMaker
) -> None:
    assert (await make_client().check()).known == {}
    assert sandbox_container.requests == []


@pytest.mark.parametrize(("names", "known"), [("oders", {"oders": False}), (["a", "b"], {"a": False, "b": False})])
async def test_names_may_all_be_unknown(make_client: ClientMaker, names: str, known: dict[str, bool]) -> None:
    assert (await make_client().check(names)).known == known


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (faults.RefusedHandshake(403), "HTTP 403; its Foundry credentials may be missing"),
        (faults.SlowHandshake(5), "is up but answers slowly"),
    ],
)
async def test_a_container_that_is_up_may_be_unusable(
    sandbox_container: SandboxContainer, make_client: ClientMaker, fault: faults.Fault, message: str
) -> None:
    sandbox_container.inject(None, fault)
    with pytest.raises(ServiceUnavailableError, match=message):
        await make_client(open_timeout=0.4).check()


async def test_nobody_is_there(make_client: ClientMaker, unused: int) -> None:
    client = type(make_client())("127.0.0.1", unused)
    with pytest.raises(ServiceUnavailableError, match=f"127.0.0.1:{unused} cannot be reached"):
        await client.check()


@pytest.fixture
def unused() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
