"""Jobs: pulls from Foundry, in batches or at once, one after the other or at the same time."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from websockets.exceptions import ConnectionClosed

from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.sandbox.test_conversation import SHA
from fdtcc_dagster_tests.sandbox.wire import (
    CSV,
    body,
    dial,
    eventually,
    fetch,
    pointer,
    receive,
    receive_all,
    talk,
)


async def test_disconnect_ends_the_job_and_throws_its_result_away() -> None:
    """See docs/protocol.md#when-a-client-goes-away."""
    with SandboxContainer(pull_seconds=0.3) as container:
        container.set_live("people", CSV)
        async with dial(container) as socket:
            await socket.send(body("people"))
            for _ in range(4):
                await receive(socket)
        await eventually(lambda: container.open_sockets == 0)
        await asyncio.sleep(0.4)
        assert container.versions("people") == []


async def test_overlapping_pulls_of_one_dataset_record_a_corrupt_version_with_its_own_hash() -> None:
    """See docs/protocol.md#two-requests-at-once."""
    with SandboxContainer(pull_seconds=0.3) as container:
        container.set_live("people", CSV)
        answers = await asyncio.gather(pointer(container, "people"), pointer(container, "people"))
        assert container.max_conversations == {"people": 2}
        _, served = await fetch(container, answers[0])
        assert hashlib.sha256(served).hexdigest() == answers[0]
        assert served == CSV[: len(CSV) // 2] + CSV
        assert answers[0] in [sha256 for _, sha256 in container.versions("people")]


async def test_pulls_one_after_the_other_or_of_two_datasets_are_sound() -> None:
    """The opposite: the next conversation may start as soon as the final frame has come."""
    with SandboxContainer(pull_seconds=0.1) as container:
        container.set_live("people", CSV)
        container.set_live("others", CSV)
        past = {"from_dt": "2020-01-01", "to_dt": "2020-01-02"}
        answers = await asyncio.gather(pointer(container, "people"), pointer(container, "others"))
        assert set(answers) == {SHA}
        async with dial(container) as socket:
            await socket.send(body("people", **past))
            await receive_all(socket)
            assert await pointer(container, "people", **past) == SHA
        assert container.max_conversations == {"people": 1, "others": 1}


@pytest.mark.parametrize(
    ("first_id", "rows", "batches", "left"),
    [(1, 5, 3, 5), (1, 4, 3, 4), (4, 5, 3, 3), (1000, 5, 3, 0)],
)
async def test_batches_lose_ids_that_are_not_dense(first_id: int, rows: int, batches: int, left: int) -> None:
    """See docs/protocol.md#rows-can-be-lost."""
    with SandboxContainer(batch_size=2) as container:
        data = "name,id\n" + "".join(f"n{i},{i}\n" for i in range(first_id, first_id + rows))
        container.set_live("people", data)
        frames = await talk(container, "people")
        start = f"Found {rows} rows in dataset 'people', starting download in {batches} batch(es)."
        each = [f"Downloading batch {batch} of {batches}…" for batch in range(1, batches + 1)]
        assert [frame["message"] for frame in frames[3 : 4 + batches]] == [start, *each]
        assert frames[-1]["success"]
        _, served = await fetch(container, frames[-1]["datasets"])
        assert served.decode() == "".join(data.splitlines(keepends=True)[: left + 1])


async def test_batches_keep_quoted_fields_and_lose_rows_without_id() -> None:
    """See docs/protocol.md#rows-can-be-lost."""
    with SandboxContainer(batch_size=2) as container:
        container.set_live("notes", 'id,text\n1,"a, ""b""\nc"\n,lost\n2.0,x\n')
        _, served = await fetch(container, await pointer(container, "notes"))
        assert served == b'id,text\n1,"a, ""b""\nc"\n2.0,x\n'


@pytest.mark.parametrize(("data", "rows"), [("key\n1\n2\n3\n", 3), ("id\n7\n8\n", 2)])
async def test_datasets_without_id_or_of_one_batch_are_pulled_at_once(data: str, rows: int) -> None:
    with SandboxContainer(batch_size=2) as container:
        container.set_live("people", data)
        frames = await talk(container, "people")
        assert frames[3]["message"] == f"Downloading all {rows} rows for dataset 'people'..."
        assert (await fetch(container, frames[-1]["datasets"]))[1] == data.encode()


async def test_stopping_the_container_resets_the_connection_mid_job() -> None:
    """See docs/protocol.md#when-the-service-goes-away."""
    with SandboxContainer(pull_seconds=30) as container:
        container.set_live("people", CSV)
        async with dial(container) as socket:
            await socket.send(body("people"))
            await receive(socket)
            await asyncio.to_thread(container.stop)
            with pytest.raises(ConnectionClosed) as closed:
                await receive_all(socket)
        assert closed.value.rcvd is None
        assert container.open_sockets == 0


async def test_a_mistake_inside_the_sandbox_resets_the_connection_and_is_logged(
    container: SandboxContainer, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(faults.ConversationFault):
        def announce_rows(self, rows: int) -> int:
            raise ZeroDivisionError

    container.set_live("people", CSV)
    container.inject("people", Broken())
    with pytest.raises(ConnectionClosed):
        await talk(container, "people")
    assert "ZeroDivisionError" in caplog.text
