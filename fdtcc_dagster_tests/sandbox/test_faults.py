from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.sandbox.wire import (
    CSV,
    NOON,
    body,
    dial,
    eventually,
    fetch,
    is_silent,
    messages,
    pointer,
    receive,
    receive_all,
    talk,
)

SHA = hashlib.sha256(CSV).hexdigest()


@pytest.fixture
def people(container: SandboxContainer) -> SandboxContainer:
    """A container with the dataset "people", which has a version."""
    container.add_version("people", NOON, CSV)
    return container


async def test_failing_job_gives_its_cause_and_then_a_successful_final_with_prose(people: SandboxContainer) -> None:
    """It fails once only: docs/protocol.md#a-failed-job."""
    people.inject("people", faults.JobFailure(cause="Out of memory."))
    *_, failed, final = await talk(people, "people")
    assert messages([failed]) == [("update", False, "Failed to download dataset 'people'. Out of memory.")]
    assert messages([final]) == [("final", True, "DONE")]
    assert final["datasets"] == f"Dataset {people.rid('people')} could not be downloaded or does not exist."
    assert await pointer(people, "people") == SHA


async def test_failing_job_may_keep_its_cause_to_itself_and_choose_its_text(people: SandboxContainer) -> None:
    people.inject("people", faults.JobFailure(cause=None, text="Unzipped file for 'x' not found."))
    frames = await talk(people, "people")
    assert frames[-1]["datasets"] == "Unzipped file for 'x' not found."
    assert all(frame["success"] for frame in frames)


async def test_slow_handshake_takes_its_time(people: SandboxContainer) -> None:
    """See docs/protocol.md#the-handshake."""
    people.inject(None, faults.SlowHandshake(0.3))
    start = time.monotonic()
    async with dial(people):
        assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize("status", [403, 500])
async def test_refused_handshake_has_its_http_status(people: SandboxContainer, status: int) -> None:
    """See docs/protocol.md#the-handshake."""
    people.inject(None, faults.RefusedHandshake(status))
    with pytest.raises(InvalidStatus) as refused:
        await talk(people, "people")
    assert refused.value.response.status_code == status
    assert await pointer(people, "people") == SHA


@pytest.mark.parametrize("after", [0, 1, 2])
async def test_reset_comes_after_its_frame_without_a_close_frame(people: SandboxContainer, after: int) -> None:
    """See docs/protocol.md#when-the-service-goes-away."""
    people.inject("people", faults.ConnectionReset(after))
    async with dial(people) as socket:
        await socket.send(body("people"))
        for _ in range(after):
            await receive(socket)
        with pytest.raises(ConnectionClosed) as closed:
            await receive(socket)
    assert closed.value.rcvd is None
    await eventually(lambda: people.open_sockets == 0)


@pytest.mark.parametrize("runs_on", [True, False])
async def test_job_runs_on_after_a_disconnect_or_ends(runs_on: bool) -> None:
    """See docs/protocol.md#when-a-client-goes-away."""
    with SandboxContainer(pull_seconds=0.3) as container:
        container.set_live("people", CSV)
        if runs_on:
            container.inject("people", faults.JobRunsOn())
        container.inject("people", faults.ConnectionReset(after=4))
        async with dial(container) as socket:
            await socket.send(body("people"))
            with pytest.raises(ConnectionClosed):
                await receive_all(socket)
        await eventually(lambda: container.open_sockets == 0)
        if runs_on:
            assert container.versions("people") == []
            await eventually(lambda: container.versions("people") != [])
            assert await pointer(container, "people", from_dt="2026-01-01", to_dt=None) == SHA
        else:
            await asyncio.sleep(0.6)
            assert container.versions("people") == []
        assert container.max_conversations == {"people": 1}


async def test_service_restart_closes_with_1012(people: SandboxContainer) -> None:
    """See docs/protocol.md#when-the-service-goes-away."""
    people.inject("people", faults.ServiceRestart(after=1))
    async with dial(people) as socket:
        await socket.send(body("people"))
        await receive(socket)
        with pytest.raises(ConnectionClosed) as closed:
            await receive(socket)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    await eventually(lambda: people.open_sockets == 0)


async def test_blocked_loop_answers_neither_pings_nor_http_until_it_is_free() -> None:
    """See docs/protocol.md#keepalives-and-silence."""
    with SandboxContainer(keepalive_interval=0.05) as container:
        container.add_version("people", NOON, CSV)
        container.inject("people", faults.BlockedLoop(0.6, after=1))
        async with dial(container) as socket:
            await socket.send(body("people"))
            await receive(socket)
            blocked = time.monotonic()
            pong = asyncio.ensure_future(await socket.ping())
            assert await is_silent(socket, 0.2)
            assert not pong.done()
            await fetch(container, SHA)
            assert time.monotonic() - blocked >= 0.5
            assert (await receive_all(socket))[-1]["datasets"] == SHA


async def test_blocked_loop_does_not_hold_up_the_end_of_the_container(people: SandboxContainer) -> None:
    people.inject("people", faults.BlockedLoop(60, after=1))
    async with dial(people) as socket:
        await socket.send(body("people"))
        await receive(socket)
        start = time.monotonic()
        await asyncio.to_thread(people.stop)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("keepalives", [True, False])
async def test_silence_leaves_nothing_or_nothing_but_keepalives(keepalives: bool) -> None:
    """See docs/protocol.md#an-unknown-name and docs/protocol.md#keepalives-and-silence."""
    with SandboxContainer(keepalive_interval=0.05) as container:
        container.set_live("people", CSV)
        container.inject("people", faults.Silence(after=2, keepalives=keepalives))
        async with dial(container) as socket:
            await socket.send(body("people"))
            assert [(await receive(socket))["type"] for _ in range(2)] == ["update", "neutral"]
            if keepalives:
                assert [(await receive(socket))["type"] for _ in range(3)] == ["keepalive"] * 3
            else:
                assert await is_silent(socket, 0.3)
        await eventually(lambda: container.open_sockets == 0)


def is_not_json(payload: str | bytes) -> bool:
    try:
        json.loads(payload)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize(
    ("fault", "is_it"),
    [
        (faults.NOT_JSON, is_not_json),
        (faults.NOT_AN_OBJECT, lambda payload: isinstance(json.loads(payload), list)),
        (faults.WITHOUT_TYPE, lambda payload: "type" not in json.loads(payload)),
        (faults.BINARY, lambda payload: isinstance(payload, bytes)),
        (
            faults.HugeFrame(),
            lambda payload: 2**23 < len(payload) < 2**23 + 100 and json.loads(payload)["type"] == "update",
        ),
        (faults.UNKNOWN_TYPE, lambda payload: json.loads(payload)["type"] == "telemetry"),
    ],
)
async def test_odd_frame_comes_between_the_others(
    people: SandboxContainer, fault: faults.ConversationFault, is_it: Callable[[str | bytes], bool]
) -> None:
    people.inject("people", fault)
    async with dial(people) as socket:
        await socket.send(body("people"))
        await receive(socket)
        assert is_it(await socket.recv())
        assert (await receive_all(socket))[-1]["datasets"] == SHA


async def test_announced_rows_differ_from_the_real_ones(container: SandboxContainer) -> None:
    """See docs/protocol.md#rows-can-be-lost."""
    container.set_live("people", CSV)
    container.inject("people", faults.AnnouncedRows(5000))
    frames = await talk(container, "people")
    assert frames[3]["message"] == "Downloading all 5000 rows for dataset 'people'..."
    assert await fetch(container, frames[-1]["datasets"]) == (200, CSV)


async def test_pointer_comes_as_a_list(people: SandboxContainer) -> None:
    """See docs/protocol.md#a-first-pull."""
    people.inject("people", faults.PointerAsList())
    frames = await talk(people, "people")
    assert frames[0]["datasets"] == ["people"]
    assert frames[-1]["datasets"] == [SHA]


async def test_wrong_pointer_serves_bytes_of_another_hash(people: SandboxContainer) -> None:
    """See docs/protocol.md#the-pointer."""
    people.inject("people", faults.WrongPointer())
    wrong = await pointer(people, "people")
    assert len(bytes.fromhex(wrong)) == 32
    assert wrong != SHA
    assert await fetch(people, wrong) == (200, CSV)


async def test_wrong_pointer_may_be_that_of_another_version(people: SandboxContainer) -> None:
    other = people.add_version("orders", NOON, b"id\n1\n")
    people.inject("people", faults.WrongPointer(other))
    assert await pointer(people, "people") == other
    assert await fetch(people, other) == (200, b"id\n1\n")


async def test_every_frame_is_delayed(people: SandboxContainer) -> None:
    people.inject("people", faults.FrameDelay(0.1))
    start = time.monotonic()
    frames = await talk(people, "people")
    assert time.monotonic() - start >= 0.1 * len(frames)


@pytest.mark.parametrize("kind", ["csv", "zip"])
async def test_announced_pointer_is_404_the_first_times(people: SandboxContainer, kind: str) -> None:
    """See docs/protocol.md#two-requests-at-once."""
    people.inject("people", faults.RefusedDownload(), times=2)
    assert [(await fetch(people, SHA, kind))[0] for _ in range(3)] == [404, 404, 200]
    assert people.downloads == {SHA: 1}


async def test_body_cut_off_while_chunked_is_a_transport_error(people: SandboxContainer) -> None:
    people.inject("people", faults.TruncatedBody(0.5))
    with pytest.raises(aiohttp.ClientPayloadError):
        await fetch(people, SHA)
    assert await fetch(people, SHA) == (200, CSV)


async def test_body_cut_off_while_close_delimited_looks_like_success(people: SandboxContainer) -> None:
    people.inject("people", faults.TruncatedBody(0.5, close_delimited=True))
    assert await raw_get(people) == CSV[: len(CSV) // 2]


async def test_close_delimited_body_may_be_complete(people: SandboxContainer) -> None:
    people.inject("people", faults.TruncatedBody(1, close_delimited=True), times=2)
    assert await raw_get(people) == CSV
    assert await fetch(people, SHA) == (200, CSV)


async def raw_get(container: SandboxContainer) -> bytes:
    """The body of a response that has neither a length nor chunks, up to the end of the connection."""
    reader, writer = await asyncio.open_connection(container.host, container.port)
    writer.write(f"GET /fdtc-api/dataset/download/csv/{SHA} HTTP/1.1\r\nHost: sandbox\r\n\r\n".encode())
    head, _, content = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 200")
    assert b"transfer-encoding" not in head.lower()
    assert b"content-length" not in head.lower()
    return content


@pytest.mark.parametrize("offset", [None, 0, 3_000_000])
async def test_one_bit_is_flipped(container: SandboxContainer, offset: int | None) -> None:
    data = b"id\n" + b"12345\n" * 600_000
    sha256 = container.add_version("numbers", NOON, data)
    container.inject("numbers", faults.FlippedBit(offset))
    _, served = await fetch(container, sha256)
    assert len(served) == len(data)
    (position,) = [i for i in range(len(data)) if data[i] != served[i]]
    assert position == (len(data) // 2 if offset is None else offset)
    assert (data[position] ^ served[position]).bit_count() == 1


async def test_throttled_body_takes_its_time(container: SandboxContainer) -> None:
    sha256 = container.add_version("numbers", NOON, b"id\n" + b"12345\n" * 1000)
    container.inject("numbers", faults.ThrottledBody(20_000))
    start = time.monotonic()
    status, served = await fetch(container, sha256)
    assert time.monotonic() - start >= 0.25
    assert (status, len(served)) == (200, 6003)


async def test_faults_befall_their_own_dataset_only(people: SandboxContainer) -> None:
    people.add_version("orders", NOON, b"id\n1\n")
    people.inject("orders", faults.JobFailure())
    people.inject("orders", faults.RefusedDownload())
    assert await pointer(people, "people") == SHA
    assert (await fetch(people, SHA))[0] == 200


async def test_fault_without_a_name_befalls_whichever_comes_next(people: SandboxContainer) -> None:
    people.inject(None, faults.JobFailure())
    assert "could not be downloaded" in await pointer(people, "people")


async def test_faults_happen_as_often_and_as_late_as_asked(people: SandboxContainer) -> None:
    people.inject("people", faults.JobFailure(text="first"))
    people.inject("people", faults.JobFailure(text="then"), times=2, skip=1)
    assert [await pointer(people, "people") for _ in range(4)] == ["first", "then", "then", SHA]


async def test_repeated_fault_lasts_until_it_is_cleared(people: SandboxContainer) -> None:
    people.inject("people", faults.JobFailure(text="always"), times=None)
    assert [await pointer(people, "people") for _ in range(3)] == ["always"] * 3
    people.clear_faults()
    assert await pointer(people, "people") == SHA


async def test_faults_combine(people: SandboxContainer) -> None:
    people.inject("people", faults.PointerAsList())
    people.inject("people", faults.WrongPointer("f" * 64))
    people.inject("people", faults.UNKNOWN_TYPE)
    frames = await talk(people, "people")
    assert [frame["type"] for frame in frames] == ["update", "telemetry", "update", "final"]
    assert frames[-1]["datasets"] == ["f" * 64]


@pytest.mark.parametrize(
    ("arguments", "way_out"),
    [
        (("people", faults.SlowHandshake(1)), "name None"),
        (("nope", faults.JobFailure()), "add it first"),
        (("people", faults.JobFailure(), 0), "at least 1"),
    ],
)
def test_injection_that_could_never_happen_is_refused(
    people: SandboxContainer, arguments: tuple[Any, ...], way_out: str
) -> None:
    with pytest.raises(ValueError, match=way_out):
        people.inject(*arguments)
