"""Pulls against the container's observed behaviour, case by case: see docs/protocol.md."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest

from fdtcc_dagster.client import FoundryDevToolsContainerClient
from fdtcc_dagster.client.endpoint import identity_of
from fdtcc_dagster.client.locks import exclusive
from fdtcc_dagster.client.protocol import Message
from fdtcc_dagster.errors import (
    ChecksumMismatchError,
    DatasetNotFoundError,
    DatasetRetrievalError,
    EmptyDatasetError,
    NotYetAvailableError,
    NoVersionInWindowError,
    ProtocolError,
    RowCountMismatchError,
    ServiceConnectionLostError,
    ServiceUnavailableError,
)
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster.window import Window
from fdtcc_dagster_tests.client.pulls import CSV, SHA256, closed, failure, pull
from fdtcc_dagster_tests.conftest import ClientMaker

LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)


async def test_unknown_name_is_terminal_although_the_socket_stays_open(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path
) -> None:
    started = time.monotonic()
    error = await failure(client, today, tmp_path, "unheard of")
    assert isinstance(error, DatasetNotFoundError)
    assert time.monotonic() - started < 4
    assert await closed(container)


async def test_returns_at_the_final_although_the_socket_stays_open(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path
) -> None:
    started = time.monotonic()
    await pull(client, today, tmp_path)
    assert time.monotonic() - started < 4
    assert await closed(container)


async def test_first_pull_gives_today_s_data_although_neutral_says_no_success(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path
) -> None:
    messages: list[Message] = []
    snapshot = await pull(client, today, tmp_path, on_message=messages.append)
    assert (snapshot.origin, snapshot.sha256, snapshot.announced_rows) == ("fetched", SHA256, 3)
    assert snapshot.path.read_text() == CSV
    assert [(m["type"], m["success"]) for m in messages][:3] == [("update", True), ("neutral", False), ("update", True)]
    assert messages[-1]["type"] == "final"


@pytest.mark.parametrize("fault", [None, faults.PointerAsList()])
async def test_the_pointer_is_a_string_or_a_list(
    container: SandboxContainer,
    client: FoundryDevToolsContainerClient,
    today: Window,
    tmp_path: Path,
    fault: faults.Fault | None,
) -> None:
    if fault is not None:
        container.inject("orders", fault)
    assert (await pull(client, today, tmp_path)).sha256 == SHA256


async def test_empty_dataset_fails_by_its_first_final(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path
) -> None:
    container.set_live("nothing", "id,name\n")
    assert isinstance(await failure(client, today, tmp_path, "nothing"), EmptyDatasetError)


@pytest.mark.parametrize("text", [None, "Invalid isoformat string: 'x'", "Unzipped file for x not found", "None", ""])
async def test_only_64_hex_digits_are_a_pointer(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path, text: str | None
) -> None:
    container.inject("orders", faults.JobFailure(cause=None, text=text))
    assert isinstance(await failure(client, today, tmp_path), DatasetRetrievalError)
    assert container.downloads == {}


async def test_a_failed_job_is_told_with_its_cause(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path
) -> None:
    container.inject("orders", faults.JobFailure(cause="Token expired."))
    error = await failure(client, today, tmp_path)
    assert isinstance(error, DatasetRetrievalError)
    assert "Token expired." in str(error)


async def test_rids_and_uuids_are_redacted_wherever_messages_go(
    container: SandboxContainer,
    make_client: ClientMaker,
    today: Window,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rid = container.rid("orders")
    uuid = rid.rsplit(".", 1)[-1]
    seen: list[str] = []
    client = make_client(log_func=lambda client, message: seen.append(message))
    container.inject("orders", faults.JobFailure(cause=f"Query on {rid} failed."))
    error = await failure(client, today, tmp_path, on_message=lambda message: seen.append(str(message)))
    container.add_version("orders", datetime.now(timezone.utc), CSV)
    await pull(client, today, tmp_path, on_message=lambda message: seen.append(str(message)))
    everything = "\n".join([*seen, str(error), caplog.text])
    assert "Found 1 versions" in everything
    assert "<uuid>" in everything
    assert "<rid>" in everything
    assert uuid not in everything


async def test_each_dataset_is_requested_on_a_connection_of_its_own(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path
) -> None:
    other = "id\n7\n"
    container.set_live("others", other)
    first, second = await asyncio.gather(pull(client, today, tmp_path), pull(client, today, tmp_path, "others"))
    assert [first.sha256, second.sha256] == [SHA256, hashlib.sha256(other.encode()).hexdigest()]
    assert sorted(request["names"] for request in container.requests) == [["orders"], ["others"]]


async def test_a_name_left_out_of_the_acknowledgement_is_not_found(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path
) -> None:
    acknowledgement = {"type": "update", "success": True, "message": "Connection established", "datasets": ["others"]}
    container.inject("orders", faults.ExtraFrame(acknowledgement, after=0))
    assert isinstance(await failure(client, today, tmp_path), DatasetNotFoundError)


async def test_today_s_data_are_refused_for_a_past_window_and_the_client_hangs_up(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, last_year: Window, tmp_path: Path
) -> None:
    # Neither without any version, nor with versions of other times.
    messages: list[Message] = []
    error = await failure(client, last_year, tmp_path, on_message=messages.append)
    assert isinstance(error, NoVersionInWindowError)
    assert "accept" in str(error)
    container.add_version("orders", datetime.now(timezone.utc) - timedelta(days=2), CSV)
    assert isinstance(await failure(client, last_year, tmp_path), NoVersionInWindowError)
    assert container.downloads == {}
    assert not any(message["type"] == "final" for message in messages)
    assert await closed(container)


async def test_today_s_data_are_accepted_knowingly(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, last_year: Window, tmp_path: Path
) -> None:
    snapshot = await pull(client, last_year, tmp_path, missing_version="accept")
    assert (snapshot.origin, snapshot.sha256) == ("fetched", SHA256)


async def test_a_window_that_has_not_begun_is_not_requested_at_all(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path
) -> None:
    tomorrow = Window(today.to_dt, today.to_dt + timedelta(days=1))
    error = await failure(client, tomorrow, tmp_path)
    assert isinstance(error, NotYetAvailableError)
    assert error.available_at == tomorrow.from_dt
    assert container.requests == []


async def test_a_version_of_the_window_is_cached(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, last_year: Window, tmp_path: Path
) -> None:
    old = "id,name\n9,nine\n"
    container.add_version("orders", last_year.from_dt + timedelta(hours=1), old)
    snapshot = await pull(client, last_year, tmp_path)
    assert (snapshot.origin, snapshot.announced_rows) == ("cached", None)
    assert snapshot.path.read_text() == old


async def test_the_guard_looks_at_the_clock_when_the_container_is_asked(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, tmp_path: Path
) -> None:
    now = datetime.now(timezone.utc)
    soon_over = Window(now - timedelta(days=1), now + timedelta(seconds=1))
    # Another pull of the dataset holds the lock until the window is over.
    async with exclusive(identity_of(client.host, client.port), "orders", lambda: asyncio.sleep(0), timeout=60):
        waiting = asyncio.create_task(pull(client, soon_over, tmp_path))
        await asyncio.sleep(1.2)
    with pytest.raises(NoVersionInWindowError):
        await waiting


async def test_the_guard_looks_at_the_clock_again_in_another_attempt(
    container: SandboxContainer, make_client: ClientMaker, tmp_path: Path
) -> None:
    now = datetime.now(timezone.utc)
    soon_over = Window(now - timedelta(days=1), now + timedelta(seconds=1))
    container.inject("orders", faults.ConnectionReset(after=2))
    assert isinstance(await failure(make_client(retry_delay=2.4), soon_over, tmp_path), NoVersionInWindowError)
    assert len(container.requests) == 2


async def test_a_disconnect_is_followed_by_a_new_attempt_never_by_two_at_once(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path
) -> None:
    container.inject("orders", faults.ConnectionReset(after=3), times=2)
    assert (await pull(client, today, tmp_path)).sha256 == SHA256
    assert len(container.requests) == 3
    assert container.max_conversations == {"orders": 1}


async def test_the_newest_version_of_the_window_is_answered(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, last_year: Window, tmp_path: Path
) -> None:
    for hours in (1, 3, 2):
        container.add_version("orders", last_year.from_dt + timedelta(hours=hours), f"id\n{hours}\n")
    assert (await pull(client, last_year, tmp_path)).path.read_text() == "id\n3\n"


async def test_a_past_window_does_not_become_cached_by_a_pull_of_today(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, last_year: Window, tmp_path: Path
) -> None:
    (await pull(client, last_year, tmp_path, missing_version="accept")).path.unlink()
    assert isinstance(await failure(client, last_year, tmp_path), NoVersionInWindowError)


async def test_both_dates_are_always_sent(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path
) -> None:
    await pull(client, today, tmp_path)
    await client.get(None, ["orders"])
    for request in container.requests:
        assert datetime.fromisoformat(request["from_dt"]).utcoffset() == timedelta(0)
        assert datetime.fromisoformat(request["to_dt"]).utcoffset() == timedelta(0)


async def test_offsets_are_converted_and_the_end_is_left_out(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, tmp_path: Path
) -> None:
    zone = timezone(timedelta(hours=2))
    window = Window(datetime(2025, 3, 1, 1, tzinfo=zone), datetime(2025, 3, 8, 1, tzinfo=zone))
    container.add_version("orders", datetime(2025, 2, 28, 23, tzinfo=timezone.utc), "id\n1\n")
    # Read without the offset, the window would begin two hours later and contain this one.
    container.add_version("orders", datetime(2025, 3, 7, 23, tzinfo=timezone.utc), "id\n2\n")
    assert (await pull(client, window, tmp_path)).path.read_text() == "id\n1\n"


async def test_one_conversation_per_dataset_at_a_time(today: Window, tmp_path: Path) -> None:
    with SandboxContainer(pull_seconds=0.2) as container:
        container.set_live("orders", CSV)
        clients = [FoundryDevToolsContainerClient(container.host, container.port) for _ in range(4)]
        directories = [tmp_path / str(number) for number in range(4)]
        for directory in directories:
            directory.mkdir()
        # From threads with event loops of their own, as Dagster's executors have them.
        snapshots = await asyncio.gather(
            *(
                asyncio.to_thread(asyncio.run, pull(client, today, directory))
                for client, directory in zip(clients, directories, strict=True)
            )
        )
        assert {snapshot.sha256 for snapshot in snapshots} == {SHA256}
        assert container.max_conversations == {"orders": 1}


async def test_silence_is_said_before_it_ends_the_pull(today: Window, tmp_path: Path) -> None:
    notices: list[str] = []
    with SandboxContainer(pull_seconds=1.4) as container:
        container.set_live("orders", CSV)
        client = FoundryDevToolsContainerClient(container.host, container.port, idle_timeout=10)
        await client.pull(
            "orders",
            today.from_dt,
            today.to_dt,
            directory=tmp_path,
            on_notice=lambda message: notices.append(str(message["message"])),
        )
    assert notices == ["No message of the container for 1 s; gives up after 10 s"]


async def test_a_callback_that_takes_long_is_no_silence_of_the_container(
    today: Window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fdtcc_dagster.client.pull._LEAST_SILENCE", 0.05)
    is_busy, noticed = False, list[bool]()

    async def slow(message: Message) -> None:
        nonlocal is_busy
        is_busy = True
        await asyncio.sleep(0.2)
        is_busy = False

    with SandboxContainer() as container:
        container.set_live("orders", CSV)
        client = FoundryDevToolsContainerClient(container.host, container.port, idle_timeout=1)
        await client.pull(
            "orders",
            today.from_dt,
            today.to_dt,
            directory=tmp_path,
            on_message=slow,
            on_notice=lambda _: noticed.append(is_busy),
        )
    assert True not in noticed


async def test_an_error_of_a_callback_that_is_told_of_silence_ends_the_pull(
    today: Window, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fdtcc_dagster.client.pull._LEAST_SILENCE", 0.05)

    def enough(message: Message) -> None:
        raise KeyError(message["message"])

    with SandboxContainer(pull_seconds=5) as container:
        container.set_live("orders", CSV)
        client = FoundryDevToolsContainerClient(container.host, container.port, idle_timeout=0.5)
        with pytest.raises(KeyError, match="No message of the container"):
            await client.pull("orders", today.from_dt, today.to_dt, directory=tmp_path, on_notice=enough)


async def test_a_404_of_a_pointer_just_announced_is_retried(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path
) -> None:
    container.inject("orders", faults.RefusedDownload(404), times=2)
    assert (await pull(client, today, tmp_path)).sha256 == SHA256
    assert len(container.requests) == 1


async def test_a_404_for_good_is_an_error(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path
) -> None:
    container.inject("orders", faults.RefusedDownload(404), times=None)
    error = await failure(client, today, tmp_path)
    assert isinstance(error, ServiceUnavailableError)
    assert "404" in str(error)


async def test_lost_rows_are_an_error(today: Window, tmp_path: Path) -> None:
    sparse = "id,name\n" + "".join(f"{number * 1000},row\n" for number in range(1, 51))
    with SandboxContainer(batch_size=10) as container:
        container.set_live("sparse", sparse)
        client = FoundryDevToolsContainerClient(container.host, container.port)
        snapshot = await pull(client, today, tmp_path, "sparse")
        assert snapshot.announced_rows == 50
        with pytest.raises(RowCountMismatchError, match="announced 50 rows, but the CSV has 0"):
            snapshot.source.read(
                pl.Schema({"id": pl.Int64, "name": pl.String}),
                lambda csv: csv.scan().sink_parquet(tmp_path / "out.parquet"),
            )


async def test_dense_ids_arrive_in_full(today: Window, tmp_path: Path) -> None:
    dense = "id,name\n" + "".join(f"{number},row\n" for number in range(1, 51))
    with SandboxContainer(batch_size=10) as container:
        container.set_live("dense", dense)
        snapshot = await pull(FoundryDevToolsContainerClient(container.host, container.port), today, tmp_path, "dense")
        assert snapshot.scan().collect().height == snapshot.announced_rows == 50


@pytest.mark.parametrize(
    ("transport", "fault"),
    [
        ("csv", faults.FlippedBit()),
        ("csv", faults.WrongPointer()),
        ("csv", faults.TruncatedBody(0.5, close_delimited=True)),
        ("csv", faults.TruncatedBody(0.0, close_delimited=True)),
        ("zip", faults.FlippedBit()),
        ("zip", faults.TruncatedBody(0.9, close_delimited=True)),
    ],
)
async def test_bytes_that_are_not_those_of_the_pointer_are_refused(
    container: SandboxContainer,
    client: FoundryDevToolsContainerClient,
    today: Window,
    tmp_path: Path,
    transport: str,
    fault: faults.Fault,
) -> None:
    container.set_live("altered", "id\n" + "".join(f"{number}\n" for number in range(10_000)))
    container.inject("altered", fault, times=None)
    error = await failure(client, today, tmp_path, "altered", transport=transport)
    assert isinstance(error, ChecksumMismatchError)


async def test_a_passing_corruption_is_retried(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path
) -> None:
    container.inject("orders", faults.FlippedBit(), times=2)
    assert (await pull(client, today, tmp_path)).path.read_text() == CSV
    assert len(container.requests) == 1


async def test_a_body_cut_off_by_the_transport_is_a_lost_connection(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path
) -> None:
    container.inject("orders", faults.TruncatedBody(0.5), times=None)
    assert isinstance(await failure(client, today, tmp_path), ServiceConnectionLostError)


async def test_pandas_dialect_is_read_as_declared(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path
) -> None:
    frame = pl.DataFrame(
        {
            "count": [1, None, 3],
            "flag": [True, False, None],
            "day": [datetime(2024, 1, 1), datetime(2024, 1, 2), None],
            "text": ["007", 'a "quoted",\nfield', None],
        },
        schema={"count": pl.Int64, "flag": pl.Boolean, "day": pl.Datetime("us"), "text": pl.String},
    )
    container.set_live("dialect", frame)
    snapshot = await pull(client, today, tmp_path, "dialect")
    assert "1.0,True,2024-01-01,007" in snapshot.path.read_text()
    assert snapshot.scan(frame.schema).collect().equals(frame)


async def test_the_zip_is_inflated_and_verified(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path
) -> None:
    large = "id,name\n" + "".join(f"{number},name {number}\n" for number in range(200_000))
    container.set_live("large", large)
    snapshot = await pull(client, today, tmp_path, "large", transport="zip")
    assert snapshot.path.read_text() == large
    assert snapshot.size_bytes == len(large)
    assert [path.name for path in tmp_path.iterdir()] == [f"{snapshot.sha256}.csv"]


async def test_the_final_of_a_malformed_request_wins_over_the_close(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path
) -> None:
    container.inject(
        "orders", faults.ExtraFrame({"type": "final", "success": False, "message": "ERROR | 'x'"}, after=0)
    )
    container.inject("orders", faults.ServiceRestart(after=0, code=1008))
    error = await failure(client, today, tmp_path)
    assert isinstance(error, ProtocolError)
    assert "ERROR | 'x'" in str(error)


async def test_only_this_user_can_read_a_snapshot(
    container: SandboxContainer, client: FoundryDevToolsContainerClient, today: Window, tmp_path: Path
) -> None:
    assert (await pull(client, today, tmp_path)).path.stat().st_mode & 0o777 == 0o600


def test_a_disk_that_takes_only_part_of_a_chunk_is_an_error(tmp_path: Path) -> None:
    """The hash is that of the received bytes, so the file must contain all of them."""
    program = """
import asyncio, resource, signal, sys
from datetime import datetime, timedelta, timezone
from fdtcc_dagster.client import FDTCC
from fdtcc_dagster.sandbox import SandboxContainer
csv = "id\\n" + "".join(f"{number}\\n" for number in range(2000))
with SandboxContainer() as container:
    now = datetime.now(timezone.utc)
    container.add_version("orders", now, csv)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    client = FDTCC(container.host, container.port)
    for missing in (1, 2, 3, 5, 7, 100):
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(csv) - missing, resource.RLIM_INFINITY))
        pull = client.pull("orders", now - timedelta(days=1), now + timedelta(days=1), directory=sys.argv[1])
        try:
            asyncio.run(pull)
        except OSError:
            continue
        sys.exit(f"no error where {missing} bytes do not fit")
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", [faults.UNKNOWN_TYPE, faults.WITHOUT_TYPE], ids=["unknown type", "no type"])
async def test_frames_of_unknown_types_are_let_pass(
    container: SandboxContainer,
    client: FoundryDevToolsContainerClient,
    today: Window,
    tmp_path: Path,
    fault: faults.Fault,
) -> None:
    container.inject("orders", fault)
    assert (await pull(client, today, tmp_path)).sha256 == SHA256


async def test_a_cancelled_pull_closes_its_socket_and_leaves_nothing(
    client: FoundryDevToolsContainerClient, container: SandboxContainer, today: Window, tmp_path: Path
) -> None:
    container.inject("orders", faults.ThrottledBody(10), times=None)
    task = asyncio.create_task(pull(client, today, tmp_path))
    while not list(tmp_path.iterdir()):
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(tmp_path.iterdir()) == []
    assert await closed(container)
