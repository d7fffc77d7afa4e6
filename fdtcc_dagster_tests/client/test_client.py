"""The reference client's documented interface, as its users call it."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
import time
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from fdtcc_dagster import FDTCC, FoundryDevToolsContainerClient, IdleTimeoutError, Schedule
from fdtcc_dagster.client.callbacks import PullObserver
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster.window import Window
from fdtcc_dagster_tests.conftest import ClientMaker
from fdtcc_dagster_tests.serving import serving

CSV = "id,name\n1,007\n2,\n"
SHA256 = hashlib.sha256(CSV.encode()).hexdigest()


class OuterSocket:
    """The smallest outer socket that is accepted."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def send_json(self, data: Any) -> None:
        self.sent.append(data)


@pytest.fixture
def container(sandbox_container: SandboxContainer) -> SandboxContainer:
    sandbox_container.set_live("orders", CSV)
    sandbox_container.set_live("customers", "id\n1\n")
    return sandbox_container


def test_the_signatures_are_the_documented_ones() -> None:
    assert FDTCC is FoundryDevToolsContainerClient
    client = FDTCC()
    assert (client.host, client.port, client.log) == ("project-fdt-container", 8000, False)
    documented: dict[Any, list[str]] = {
        FDTCC.__init__: ["self", "host", "port", "log", "log_func"],
        FDTCC.get: ["self", "outer_ws", "names", "response_func"],
        FDTCC.get_single: [
            "self", "outer_ws", "name", "from_dt", "to_dt", "response_func", "schema_overwrite", "use_zip",
        ],
        FDTCC.download: ["self", "sha256", "schema_overwrite", "use_zip"],
    }  # fmt: skip
    for function, parameters in documented.items():
        assert list(inspect.signature(function).parameters)[: len(parameters)] == parameters


async def test_get_forwards_every_message_to_the_outer_socket(container: SandboxContainer, client: FDTCC) -> None:
    outer = OuterSocket()
    await client.get(outer, ["orders", "customers"])
    messages = [sent["message"] for sent in outer.sent]
    assert messages[0]["datasets"] == ["orders", "customers"]
    assert messages[-1] == {"type": "final", "success": True, "message": "DONE", "datasets": SHA256}
    assert all(list(sent) == ["message"] for sent in outer.sent)


async def test_get_of_no_name_is_a_message_and_no_exception(container: SandboxContainer, client: FDTCC) -> None:
    outer = OuterSocket()
    await client.get(outer, [])
    assert [(sent["message"]["type"], sent["message"]["success"]) for sent in outer.sent] == [("error", False)]
    assert "names is empty" in outer.sent[0]["message"]["message"]
    assert container.requests == []


async def test_get_single_takes_naive_times_as_utc(container: SandboxContainer, client: FDTCC) -> None:
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    bounds = (now - timedelta(days=1), (now + timedelta(days=1)).isoformat())
    _, ok = await client.get_single(None, "orders", *bounds)
    assert ok
    assert container.requests[0]["from_dt"] == f"{bounds[0].isoformat()}+00:00"


async def test_get_takes_a_single_name_as_a_string(container: SandboxContainer, client: FDTCC) -> None:
    await client.get(OuterSocket(), "orders")
    assert container.requests[0]["names"] == ["orders"]


async def test_get_returns_although_a_name_is_unknown(
    container: SandboxContainer, client: FDTCC, caplog: pytest.LogCaptureFixture
) -> None:
    outer = OuterSocket()
    await client.get(outer, ["unheard of"])
    assert outer.sent[-1]["message"]["type"] == "error"
    await client.get(outer, ["orders", "unheard of"])
    assert outer.sent[-1]["message"]["type"] == "final"
    assert "unheard of" in caplog.text


async def test_get_tells_the_outer_socket_and_the_log_why_it_failed(
    container: SandboxContainer, client: FDTCC, caplog: pytest.LogCaptureFixture
) -> None:
    container.inject("orders", faults.ConnectionReset(after=1))
    outer = OuterSocket()
    await client.get(outer, "orders")
    assert outer.sent[-1]["message"]["type"] == "error"
    lost = "the connection ended (without a close frame) before a result; the last message was: Connection established"
    assert lost in caplog.text
    assert lost in outer.sent[-1]["message"]["message"]


async def test_response_func_gets_client_socket_and_message_sync_or_async(
    container: SandboxContainer, client: FDTCC, today: Window
) -> None:
    outer, seen = OuterSocket(), []

    def respond(self: FDTCC, outer_ws: Any, message: dict[str, Any]) -> None:
        seen.append((self, outer_ws, message["type"]))

    async def respond_async(self: FDTCC, outer_ws: Any, message: dict[str, Any]) -> None:
        respond(self, outer_ws, message)

    await client.get(outer, "orders", respond)
    await client.get_single(outer, "orders", today.from_dt, today.to_dt, respond_async)
    assert {(self, outer_ws) for self, outer_ws, _ in seen} == {(client, outer)}
    # Like the reference client, `get_single` does not pass on the last message.
    assert [kind for *_, kind in seen].count("final") == 1
    assert outer.sent == []


async def test_get_single_gives_a_frame_and_true(container: SandboxContainer, client: FDTCC, today: Window) -> None:
    outer = OuterSocket()
    frame, ok = await client.get_single(outer, "orders", today.from_dt, today.to_dt)
    assert ok is True
    # "007" is no number, and an empty field is null.
    assert frame.equals(pl.DataFrame({"id": [1, 2], "name": ["007", None]}))
    assert {sent["message"]["type"] for sent in outer.sent} == {"update", "neutral"}


async def test_get_single_takes_iso_strings_and_schema_overrides_and_the_zip(
    container: SandboxContainer, client: FDTCC, today: Window
) -> None:
    frame, ok = await client.get_single(
        OuterSocket(),
        name="orders",
        from_dt=today.from_dt.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        to_dt=today.to_dt.isoformat(),
        schema_overwrite={"id": pl.Int8},
        use_zip=True,
    )
    assert ok
    assert frame.schema == {"id": pl.Int8, "name": pl.String}


async def test_get_single_gives_an_empty_frame_and_false_and_logs_the_cause(
    container: SandboxContainer, client: FDTCC, today: Window, caplog: pytest.LogCaptureFixture
) -> None:
    container.inject("orders", faults.JobFailure(cause="Token expired."))
    frame, ok = await client.get_single(OuterSocket(), "orders", today.from_dt, today.to_dt)
    assert ok is False
    assert frame.equals(pl.DataFrame())
    assert "Token expired." in caplog.text
    frame, ok = await client.get_single(
        OuterSocket(), "orders", today.from_dt, today.to_dt, schema_overwrite={"name": pl.Int64}
    )
    assert ok is False
    assert "'007' is not an Int64" in caplog.text


async def test_get_single_accepts_today_s_data_with_a_warning_unless_told_otherwise(
    container: SandboxContainer, make_client: ClientMaker, last_year: Window, caplog: pytest.LogCaptureFixture
) -> None:
    frame, ok = await make_client().get_single(None, "orders", last_year.from_dt, last_year.to_dt)
    assert ok
    assert frame.height == 2
    assert "today's data" in caplog.text
    strict = make_client(missing_version="raise")
    assert (await strict.get_single(None, "orders", last_year.from_dt, last_year.to_dt))[1] is False


async def test_an_outer_socket_that_is_gone_does_not_end_the_pull(
    container: SandboxContainer, client: FDTCC, today: Window
) -> None:
    class Gone:
        async def send_json(self, data: Any) -> None:
            raise RuntimeError("the browser has left")

    frame, ok = await client.get_single(Gone(), "orders", today.from_dt, today.to_dt)
    assert ok
    assert frame.height == 2


async def test_functions_that_fail_do_not_change_what_is_documented(
    container: SandboxContainer, make_client: ClientMaker, today: Window, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: Any) -> None:
        raise LookupError("a function of the user")

    client = make_client(log_func=fail)
    frame, ok = await client.get_single(None, "orders", today.from_dt, today.to_dt)
    assert ok
    assert frame.height == 2
    assert await client.download("0" * 64) == ("Failed", False)
    await make_client().get(OuterSocket(), "orders", fail)
    assert (await make_client().get_single(OuterSocket(), "orders", today.from_dt, today.to_dt, fail))[1] is False
    assert caplog.text.count("failed: a function of the user") == 2


async def test_functions_that_never_return_are_not_waited_for_without_a_limit(
    container: SandboxContainer, make_client: ClientMaker, today: Window, caplog: pytest.LogCaptureFixture
) -> None:
    async def hang(*_: Any) -> None:
        await asyncio.Event().wait()

    began = time.monotonic()
    client = make_client(idle_timeout=0.1)
    with pytest.raises(IdleTimeoutError, match=r"'orders', window .* a function that was passed to the client did"):
        await client.request("orders", today.from_dt, today.to_dt, observer=PullObserver(hang))
    await client.get(OuterSocket(), "orders", hang)
    assert "get('orders') failed: a function that was passed" in caplog.text
    # A logger that hangs does not end a pull, and makes it wait once.
    client.log_func = hang
    assert (await client.get_single(None, "orders", today.from_dt, today.to_dt))[1]
    assert caplog.text.count("log_func does not return") == 1
    assert time.monotonic() - began < 10


async def test_download_gives_a_frame_or_failed(
    container: SandboxContainer, client: FDTCC, today: Window, caplog: pytest.LogCaptureFixture
) -> None:
    await client.get_single(None, "orders", today.from_dt, today.to_dt)
    for use_zip in (False, True):
        frame, ok = await client.download(SHA256, use_zip=use_zip)
        assert ok is True
        assert isinstance(frame, pl.DataFrame)
        assert frame.height == 2
    frame, ok = await client.download(SHA256, {"name": pl.Categorical})
    assert isinstance(frame, pl.DataFrame)
    assert frame.schema["name"] == pl.Categorical
    assert await client.download("0" * 64) == ("Failed", False)
    assert "404" in caplog.text


@pytest.mark.parametrize("pointer", ["", "../../etc/passwd", SHA256[:-1], SHA256 + "0", "g" * 64, None, 7])
async def test_download_refuses_what_is_no_pointer_before_any_work(
    container: SandboxContainer, client: FDTCC, pointer: Any
) -> None:
    with pytest.raises(ValueError, match="64 hex digits"):
        await client.download(pointer)


NAIVE_WINDOWS = [
    (datetime(2024, 1, 1), datetime(2024, 1, 2, tzinfo=timezone.utc)),
    ("2024-01-01", "2024-01-02T00:00:00+00:00"),
]
BAD_WINDOWS = [
    ("2024-01-02T00:00:00+00:00", "2024-01-01T00:00:00+00:00"),
    ("2024-01-01T00:00:00+00:00", "2024-01-01T00:00:00+00:00"),
    ("yesterday", "2024-01-01T00:00:00+00:00"),
]


@pytest.mark.parametrize(("from_dt", "to_dt"), [*NAIVE_WINDOWS, *BAD_WINDOWS])
async def test_naive_and_inverted_windows_are_refused_before_any_work(
    container: SandboxContainer, client: FDTCC, tmp_path: Any, from_dt: Any, to_dt: Any
) -> None:
    if (from_dt, to_dt) in BAD_WINDOWS:
        with pytest.raises(ValueError, match=r"inverted|ISO 8601"):
            await client.get_single(None, "orders", from_dt, to_dt)
    with pytest.raises(ValueError, match=r"time zone|inverted|ISO 8601"):
        await client.pull("orders", from_dt, to_dt, directory=tmp_path)
    assert container.requests == []


async def test_other_bad_arguments_are_refused_before_any_work(
    container: SandboxContainer, client: FDTCC, today: Window, tmp_path: Any
) -> None:
    bounds = (today.from_dt, today.to_dt)
    with pytest.raises(ValueError, match="data type"):
        await client.get_single(None, "orders", *bounds, schema_overwrite={"id": "Integer"})
    with pytest.raises(ValueError, match="name"):
        await client.get_single(None, " ", *bounds)
    for names in (None, 5):
        with pytest.raises(ValueError, match="names="):
            await client.get(None, names)  # type: ignore[arg-type]  # on purpose
    rid = "ri.foundry.main.dataset.0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
    with pytest.raises(ValueError, match="not a RID") as caught:
        await client.get_single(None, rid, *bounds)
    assert rid not in str(caught.value)
    for arguments in (
        {"now": datetime(2026, 1, 1)},
        {"now": "x"},
        {"on_message": 5},
        {"on_progress": 5},
        {"on_notice": 5},
        {"directory": None},
    ):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            await client.pull("orders", *bounds, **{"directory": tmp_path, **arguments})
    with pytest.raises(ValueError, match="response_func"):
        await client.get_single(None, "orders", *bounds, 5)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match="transport"):
        await client.pull("orders", *bounds, directory=tmp_path, transport="rar")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match="directory"):
        await client.pull("orders", *bounds, directory=tmp_path / "absent")
    bad: list[dict[str, Any]] = [
        {"host": "http://x"},
        {"port": 0},
        {"port": True},
        {"idle_timeout": 0},
        {"attempts": 0},
        {"missing_version": "Accept"},
    ]
    for arguments in bad:
        with pytest.raises(ValueError, match=str(next(iter(arguments)))):
            FDTCC(**arguments)
    assert container.requests == []


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_log_func_is_called_sync_or_async_with_host_port_and_log(
    container: SandboxContainer, make_client: ClientMaker, today: Window, kind: str
) -> None:
    seen: list[str] = []

    def log(self: FDTCC, message: str) -> None:
        if self.log:
            seen.append(f"{self.host}:{self.port} {message}")

    async def log_async(self: FDTCC, message: str) -> None:
        log(self, message)

    client = make_client(log=True, log_func=log if kind == "sync" else log_async)
    await client.get_single(None, "orders", today.from_dt, today.to_dt)
    assert any("Received: {" in line for line in seen)
    assert all(line.startswith(f"{container.host}:{container.port} ") for line in seen)
    # As the documented examples do, even with a sync function.
    await client.log_func(client, "awaited")
    assert seen[-1].endswith("awaited")


async def test_a_failure_is_logged_once(
    container: SandboxContainer, make_client: ClientMaker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await make_client(log=True, attempts=1).download("0" * 64)
    assert caplog.text.count("failed:") == 1


async def test_default_logger_logs_only_if_told_to(
    container: SandboxContainer, make_client: ClientMaker, today: Window, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await make_client().get_single(None, "orders", today.from_dt, today.to_dt)
    assert caplog.text == ""
    await make_client(log=True).get_single(None, "orders", today.from_dt, today.to_dt)
    assert "Received: {" in caplog.text


def received(socket: ClientConnection) -> list[str]:
    """All messages until the route returns, which it does without closing the socket properly."""
    messages: list[str] = []
    with suppress(ConnectionClosed):
        while True:
            messages.append(str(socket.recv(timeout=20)))
    return messages


def test_fastapi_routes_written_as_documented_run_unchanged(container: SandboxContainer) -> None:
    """The two usage examples of the reference's documentation; only host and port are the sandbox's."""
    logged: list[str] = []
    router = APIRouter()

    def custom_log(self: FDTCC, message: str) -> None:
        if self.log:
            logged.append(f"Custom Log - {self.host}:{self.port} - {message}")

    async def custom_response(self: FDTCC, outer_ws: WebSocket, message: str) -> None:
        await outer_ws.send_json(message)
        await self.log_func(self, f"Sent message: {message}")

    fdtcc_client = FDTCC(host=container.host, port=container.port, log=True, log_func=custom_log)

    @router.websocket("/insert_dataset")
    async def insert_dataset(outer_ws: WebSocket) -> None:
        await outer_ws.accept()
        payload = await outer_ws.receive_json()
        names = payload.get("names", [])
        await fdtcc_client.get(outer_ws, names, custom_response)  # type: ignore[arg-type]  # annotated as documented

    schedule = Schedule([{"cycle": "weekly", "day": "Monday", "time": "02:00:00"}])

    @router.websocket("/pull_dataset")
    async def pull_dataset(ws: WebSocket) -> None:
        await ws.accept()
        end = schedule.get_next_refresh()
        start = schedule.get_latest_refresh()
        df, ok = await fdtcc_client.get_single(ws, name="orders", from_dt=start, to_dt=end)
        if ok:
            await ws.send_json({"message": f"Received {df.height} rows"})
        else:
            await ws.send_json({"error": "Download failed"})

    app = FastAPI()
    app.include_router(router)
    with serving(app) as port:
        with connect(f"ws://127.0.0.1:{port}/insert_dataset") as socket:
            socket.send('{"names": ["orders"]}')
            inserted = received(socket)
        with connect(f"ws://127.0.0.1:{port}/pull_dataset") as socket:
            pulled = received(socket)
    assert '"type":"final"' in inserted[-1]
    assert SHA256 in inserted[-1]
    assert any(line.endswith("'message': 'DONE', 'datasets': '" + SHA256 + "'}") for line in logged)
    assert pulled[-1] == '{"message":"Received 2 rows"}'
    assert len(pulled) == 3


async def test_clocks_are_read_when_called(container: SandboxContainer, client: FDTCC) -> None:
    """The reference client froze the time of its import in default arguments."""
    before = datetime.now(timezone.utc)
    await client.get(None, "orders")
    await asyncio.sleep(0.01)
    await client.get(None, "orders")
    first, second = (datetime.fromisoformat(request["from_dt"]) for request in container.requests)
    assert before <= first < second <= before + timedelta(minutes=1)
