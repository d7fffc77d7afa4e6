"""RIDs and uuids in every place where a server can put text: whole runs are searched for them."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import zipfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from aiohttp import web

from fdtcc_dagster import FoundryContainerResource, FoundryDataset
from fdtcc_dagster.datasets_toml import datasets_from_toml
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.security.serving import http_server, tcp_server
from fdtcc_dagster_tests.security.witness import DAYS, TODAY, Witness

UUID = "deadbeef-0bad-4cde-8bad-c0ffee123456"
RID = f"ri.foundry.main.dataset.{UUID}"
BOTH = f"{RID} and {UUID.upper()}"
SECRET = ("deadbeef", "DEADBEEF", "ri.foundry")

Frame = Mapping[str, Any] | str | bytes
Serving = AbstractContextManager[tuple[int, dict[str, Any]]]


def assert_unseen(text: str, where: str) -> None:
    for secret in SECRET:
        position = text.find(secret)
        assert position < 0, f"{where}: …{text[max(position - 300, 0) : position + 100]}…"


def resource(port: int, **overrides: Any) -> FoundryContainerResource:
    return FoundryContainerResource(host="127.0.0.1", port=port, idle_timeout=2.0, attempts=1, **overrides)


LONG = "x" * 190 + " "
ACK: Frame = {"type": "update", "success": True, "message": f"Begins for {BOTH}", "datasets": ["orders"]}


def update(message: object, *, success: bool = True, **extra: Any) -> Frame:
    return {"type": "update", "success": success, "message": message, **extra}


def final(message: str, *, success: bool = True, **extra: Any) -> Frame:
    return {"type": "final", "success": success, "message": message, **extra}


CONVERSATIONS: dict[str, list[Frame]] = {
    "an update": [update(f"Downloading dataset '{RID}' from Foundry…"), final("DONE", datasets=BOTH)],
    "a warning and a prose instead of a pointer": [update(f"Failed: {BOTH}", success=False), final("x", datasets=BOTH)],
    "a list instead of a pointer": [final("DONE", datasets=[{RID: [UUID, {"deep": RID}]}])],
    "a final failure": [final(f"No: {BOTH}", success=False)],
    "an empty dataset": [final(f"No rows found for dataset '{RID}'.", success=False)],
    "a parser's error": [final(f"ERROR | {BOTH}", success=False)],
    "an error": [{"type": "error", "success": False, "message": f"ERROR | {BOTH}"}],
    "an unknown name": [{"type": "error", "success": False, "message": f"ERROR | Datasets {RID} are unknown, {UUID}"}],
    "an acknowledgement of others": [update("Connection established", datasets=[RID, UUID])],
    "a message that is no text": [update({RID: [BOTH]}), final(BOTH, success=False)],
    "other types and keys": [{"type": RID, UUID: RID, "message": RID}, {"message": RID}, final("x", success=False)],
    "text that is not JSON": [f"{{{BOTH}"],
    "JSON that is no object": [json.dumps([RID, UUID])],
    "a binary frame": [BOTH.encode()],
    "a RID behind much else": [
        update(LONG + BOTH, success=False),
        final(LONG + BOTH, datasets=LONG + RID),
    ],
    "a RID on a line of its own": [
        update(f"At:\n{RID}\n\t{UUID}\n", success=False),
        final("DONE", datasets=f"\n{RID}"),
    ],
    "a keepalive, and the end": [{"type": "keepalive", "success": True, "message": BOTH}],
}


@contextmanager
def talking(frames: list[Frame], reason: bytes = b"") -> Iterator[int]:
    """A container that says these things, and then closes the connection."""

    async def handle(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        for frame in [ACK, *frames]:
            if isinstance(frame, bytes):
                await socket.send_bytes(frame)
            else:
                await socket.send_str(frame if isinstance(frame, str) else json.dumps(frame))
        await socket.close(code=1011, message=reason)
        return socket

    with http_server(handle) as port:
        yield port


def test_what_the_container_says(witness: Witness) -> None:
    for where, frames in CONVERSATIONS.items():
        with talking(frames) as port:
            result = witness.run(resource(port))
        assert not result.success, where
        assert_unseen(witness.failure(result), where)
    written = witness.written()
    assert_unseen(written, "what the container says")
    assert "<rid> and <uuid>" in written


def test_the_reason_of_a_close(witness: Witness) -> None:
    with talking([], BOTH.encode()) as port:
        result = witness.run(resource(port))
    assert "close code 1011, '<rid> and <uuid>'" in witness.failure(result)
    assert_unseen(witness.written(), "the reason of a close")


HANDSHAKES = {
    "a body": f"HTTP/1.1 500 Internal Server Error\r\nContent-Length: {len(BOTH)}\r\n\r\n{BOTH}",
    "a phrase": f"HTTP/1.1 500 {BOTH}\r\nContent-Length: 0\r\n\r\n",
    "a header": f"HTTP/1.1 403 Forbidden\r\nX-Dataset: {BOTH}\r\nContent-Length: 0\r\n\r\n",
    "a redirect": f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/{RID}\r\nContent-Length: 0\r\n\r\n",
    "no HTTP": f"{BOTH}\r\n\r\n",
    "no header": f"HTTP/1.1 200 OK\r\n{RID}\r\n\r\n",
    "a broken header": f"HTTP/1.1 200 OK\r\nX {RID}\x00: {UUID}\r\n\r\n",
    "another protocol": f"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {RID}\r\n\r\n",
    "a broken length": f"HTTP/1.1 200 OK\r\nContent-Length: {UUID}\r\n\r\n",
    "broken chunks": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{BOTH}\r\n",
}


@pytest.mark.parametrize("of", ["the handshake", "the download"])
def test_what_an_answer_has_besides(witness: Witness, of: str) -> None:
    for where, answer in HANDSHAKES.items():
        with _answering(answer) as raw, _handing_over(raw) as port:
            result = witness.run(resource(raw if of == "the handshake" else port))
        assert not result.success, where
        assert_unseen(witness.failure(result), f"{where} of {of}")
    assert_unseen(witness.written(), of)


@contextmanager
def _answering(answer: str) -> Iterator[int]:
    async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer.encode("latin-1"))
        await writer.drain()

    with tcp_server(write) as port:
        yield port


@contextmanager
def _handing_over(raw: int) -> Iterator[int]:
    """A container that has a conversation of its own, and leaves the download to another server."""

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        target = talks if b"/dataset/get" in head else raw
        there, back = await asyncio.open_connection("127.0.0.1", target)
        back.write(head)
        await asyncio.wait(
            [asyncio.ensure_future(_copy(reader, back)), asyncio.ensure_future(_copy(there, writer))],
            return_when=asyncio.FIRST_COMPLETED,
        )
        back.close()

    with talking([update("Downloading dataset"), final("DONE", datasets="0" * 64)]) as talks, tcp_server(pipe) as port:
        yield port


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


TABLES: dict[str, tuple[str, dict[str, Any]]] = {
    "columns that are not declared": (f"id,{RID},{UUID}\n1,2,3\n", {"schema": {"id": "Int64"}}),
    "a column twice": (f"{RID},{RID}\n1,2\n", {}),
    "a value of another type": (f"id\n{RID}\n", {"schema": {"id": "Int64"}}),
    "a uuid of another type": (f"id\n{UUID}\n", {"schema": {"id": "Int64"}}),
    "a short row": (f"id,name\n{RID}\n1,2\n", {"schema": {"id": "String", "name": "String"}}),
    "a long row": (f"id\n{RID},{UUID}\n", {"schema": {"id": "String"}}),
    "a row that does not end": (f'id,name\n"{RID},{UUID}\n', {"schema": {"id": "String", "name": "String"}}),
    "a time that is none": (f"id,at\n1,{RID}\n", {"time_column": "at", "schema": {"id": "Int64", "at": "String"}}),
    "no time column": (f"id,{RID}\n1,{UUID}\n", {"time_column": "at"}),
}


def test_what_a_table_has(witness: Witness) -> None:
    for where, (csv, settings) in TABLES.items():
        # A slice is of a day that is over.
        days = dg.DailyPartitionsDefinition("2026-01-01") if "time_column" in settings else DAYS
        key = "2026-01-02" if "time_column" in settings else TODAY
        with SandboxContainer() as container:
            container.set_live("orders", csv)
            result = witness.run(resource(container.port), (key,), partitions_def=days, **settings)
        assert not result.success, where
        assert_unseen(witness.failure(result), where)
    assert_unseen(witness.written(), "what a table has")


def test_columns_that_are_stored(sandbox_container: SandboxContainer, witness: Witness) -> None:
    sandbox_container.set_live("orders", f"id,{RID},{UUID}\n1,{RID},{UUID}\n")
    assert witness.run(resource(sandbox_container.port)).success
    assert_unseen(witness.written(), "the columns' names")


def test_the_names_inside_a_zip(witness: Witness) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{RID}.csv", "id\n1\n")
    body = packed.getvalue()
    answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    with _answering(answer.decode("latin-1")) as raw, _handing_over(raw) as port:
        result = witness.run(resource(port, transport="zip"))
    assert "its member is not named '0000" in witness.failure(result)
    assert_unseen(witness.written(), "a member's name")


def test_what_the_sandbox_says_in_every_kind_of_run(sandbox_container: SandboxContainer, witness: Witness) -> None:
    sandbox_container.set_live("orders", "id\n1\n")
    sandbox_container.inject("orders", faults.JobFailure(cause=f"No rights on {RID}, asked as {UUID}"))
    assert not witness.run(resource(sandbox_container.port)).success
    assert witness.run(resource(sandbox_container.port)).success
    assert witness.run(resource(sandbox_container.port), keys=("2026-01-01", "2026-01-02")).success
    written = witness.written()
    assert "<rid>" in written
    own = sandbox_container.rid("orders")
    assert own not in written
    assert own.rpartition(".")[2] not in written
    assert_unseen(written, "the cause of a failure")


@pytest.mark.parametrize("name", [RID, UUID, f"orders {UUID}"])
def test_a_name_that_is_a_rid_is_refused_without_showing_it(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    toml = tmp_path / "foundry_datasets.toml"
    toml.write_text(f'[datasets]\n"{name}" = "orders"\n')
    number = tmp_path / "numbers.toml"
    number.write_text(f'[datasets]\n"{name}" = 1\n')
    days = dg.DailyPartitionsDefinition("2026-01-01")
    uses: list[Callable[[], object]] = [
        lambda: FoundryDataset(name, partitions_def=days),
        lambda: datasets_from_toml(toml, select=["orders"], partitions_def=days),
        lambda: datasets_from_toml(toml, overrides={"orders": {}}, partitions_def=days),
    ]
    for use in uses:
        with pytest.raises(Exception, match=r"name|orders") as caught:
            use()
        assert_unseen(f"{caught.value} {caught.value!r}", "a name")
    for path in (toml, number):
        assert datasets_from_toml(path, partitions_def=days) == []
    assert "which is left out" in caplog.text
    assert_unseen(caplog.text, "a name")


async def test_a_name_that_is_a_rid_is_not_sent_either(sandbox_container: SandboxContainer, make_client: Any) -> None:
    client = make_client()
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: client.get(None, RID),
        lambda: client.get_single(None, RID, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        lambda: client.download(RID),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"name|pointer") as caught:
            await call()
        assert_unseen(str(caught.value), "a name")
    assert sandbox_container.requests == []
    assert hashlib.sha256(b"").hexdigest() not in sandbox_container.downloads
