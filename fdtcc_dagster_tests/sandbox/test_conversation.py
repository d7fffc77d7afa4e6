from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from fdtcc_dagster.sandbox import SandboxContainer
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


async def test_unknown_name_is_an_error_and_then_an_open_silent_socket() -> None:
    """See docs/protocol.md#an-unknown-name."""
    with SandboxContainer(keepalive_interval=0.02) as container:
        async with dial(container) as socket:
            await socket.send(body("nope"))
            frame = await receive(socket)
            assert (frame["type"], frame["success"]) == ("error", False)
            assert frame["message"].startswith("ERROR | Not a single valid RIDs found")
            assert "Datasets 'nope' are unknown" in frame["message"]
            assert await is_silent(socket)


async def test_socket_stays_open_after_the_final_frame(container: SandboxContainer) -> None:
    """See docs/protocol.md#the-first-terminal-frame-decides."""
    container.set_live("people", CSV)
    async with dial(container) as socket:
        await socket.send(body("people"))
        await receive_all(socket)
        assert await is_silent(socket)
        assert container.open_sockets == 1


async def test_a_conversation_that_the_client_hangs_up_on_is_over() -> None:
    """Three of them one after the other are never two at a time: docs/protocol.md#when-a-client-goes-away."""
    with SandboxContainer(pull_seconds=30) as container:
        container.set_live("people", CSV)
        for _ in range(3):
            async with dial(container) as socket:
                await socket.send(body("people"))
                while "Downloading dataset" not in (await receive(socket))["message"]:
                    pass
            await eventually(lambda: container.open_sockets == 0)
        assert container.max_conversations == {"people": 1}


async def test_first_pull_has_the_full_sequence_and_its_pointer_serves_the_live_bytes(
    container: SandboxContainer,
) -> None:
    """See docs/protocol.md#a-first-pull and docs/protocol.md#the-pointer."""
    container.set_live("people", CSV)
    frames = await talk(container, "people")
    assert messages(frames) == [
        ("update", True, "Connection established, starting operation…"),
        ("neutral", False, "No available versions found for dataset 'people'. No metadata file found."),
        ("update", True, "Downloading dataset 'people' from Foundry..."),
        ("update", True, "Downloading all 3 rows for dataset 'people'..."),
        ("update", True, "Dataset 'people' downloaded. Writing to disk..."),
        ("update", True, "Dataset 'people' written. Calculating checksum..."),
        ("final", True, "DONE"),
    ]
    assert frames[0]["datasets"] == ["people"]
    assert frames[-1]["datasets"] == SHA
    assert await fetch(container, SHA) == (200, CSV)
    assert container.versions("people") == [(NOON, SHA)]


async def test_quoted_line_feeds_are_not_counted_as_rows(container: SandboxContainer) -> None:
    container.set_live("notes", 'id,text\n1,"two\nlines"\n2,"a ""quoted""\nword"\n3,plain')
    assert (await talk(container, "notes"))[3]["message"] == "Downloading all 3 rows for dataset 'notes'..."


@pytest.mark.parametrize("empty", ["id,name\n", "id,name", ""])
async def test_empty_dataset_has_two_finals_of_which_the_second_is_prose(
    container: SandboxContainer, empty: str
) -> None:
    """See docs/protocol.md#an-empty-dataset."""
    container.set_live("people", empty)
    async with dial(container) as socket:
        await socket.send(body("people"))
        first = (await receive_all(socket))[-1]
        assert first == {"type": "final", "success": False, "message": "No rows found for dataset 'people'."}
        second = await receive(socket)
    assert (second["type"], second["success"], second["message"]) == ("final", True, "DONE")
    assert not re.fullmatch("[0-9a-f]{64}", second["datasets"])
    assert container.versions("people") == []


async def test_dataset_that_foundry_cannot_deliver_fails_with_cause_and_rid(tmp_path: Path) -> None:
    """A dataset with neither live data nor versions: docs/protocol.md#a-failed-job."""
    (tmp_path / "people").mkdir()
    with SandboxContainer(tmp_path) as container:
        *_, failed, final = await talk(container, "people")
        assert messages([failed]) == [
            ("update", False, "Failed to download dataset 'people'. The dataset has no transactions.")
        ]
        assert messages([final]) == [("final", True, "DONE")]
        assert final["datasets"] == f"Dataset {container.rid('people')} could not be downloaded or does not exist."
        assert re.fullmatch(r"ri\.foundry\.main\.dataset\.[0-9a-f-]{36}", container.rid("people"))


async def test_several_names_end_in_one_final_with_the_first_ones_result(container: SandboxContainer) -> None:
    """See docs/protocol.md#several-names."""
    container.set_live("people", CSV)
    container.set_live("orders", "id\n1\n")
    frames = await talk(container, "people", "orders")
    assert frames[0]["datasets"] == ["people", "orders"]
    assert [frame["type"] for frame in frames].count("final") == 1
    assert frames[-1]["datasets"] == SHA
    assert len(container.versions("orders")) == 1


async def test_unknown_names_beside_known_ones_are_dropped_silently(container: SandboxContainer) -> None:
    """See docs/protocol.md#an-unknown-name."""
    container.set_live("people", CSV)
    frames = await talk(container, "nope", "people")
    assert frames[0]["datasets"] == ["people"]
    assert not any("nope" in json.dumps(frame) for frame in frames)
    assert frames[-1]["datasets"] == SHA


@pytest.mark.parametrize(
    ("start", "end"), [("2020-01-01T00:00:00", "2020-02-01T00:00:00"), ("2026-02-01", "2026-01-01")]
)
async def test_window_without_version_delivers_todays_data_as_a_version_of_now(
    container: SandboxContainer, start: str, end: str
) -> None:
    """Whatever the window, even a past or an inverted one: docs/protocol.md#no-version-in-the-window."""
    container.add_version("people", NOON.replace(day=1), b"id\n1\n")
    container.set_live("people", CSV)
    frames = await talk(container, "people", from_dt=start, to_dt=end)
    assert re.fullmatch(
        r"No versions between '20.. ?.*' and '20.*' found for dataset '[0-9a-f-]{36}'\.", frames[1]["message"]
    )
    assert messages(frames[1:2])[0][:2] == ("update", True)
    assert frames[2]["message"] == "Downloading dataset 'people' from Foundry..."
    assert frames[-1]["datasets"] == SHA
    assert container.versions("people")[-1] == (NOON, SHA)


async def test_version_in_the_window_is_answered_at_once(container: SandboxContainer) -> None:
    """The newest of those that match, named by a bare uuid: docs/protocol.md#a-version-in-the-window."""
    for day, data in ((3, b"id\n3\n"), (4, CSV), (20, b"id\n20\n")):
        container.add_version("people", NOON.replace(day=day), data)
    frames = await talk(container, "people", from_dt="2026-01-01T00:00:00", to_dt="2026-01-10T00:00:00")
    uuid = container.rid("people").rsplit(".", 1)[-1]
    assert messages(frames[1:]) == [
        (
            "update",
            True,
            f"Found 2 versions for dataset '{uuid}' between '2026-01-01 00:00:00' and '2026-01-10 00:00:00'.",
        ),
        ("final", True, "DONE"),
    ]
    assert frames[-1]["datasets"] == SHA
    assert len(container.versions("people")) == 3


async def test_keepalives_come_while_the_job_runs_and_stop_after_it() -> None:
    """See docs/protocol.md#keepalives-and-silence."""
    with SandboxContainer(keepalive_interval=0.05, pull_seconds=0.3) as container:
        container.set_live("people", CSV)
        async with dial(container) as socket:
            await socket.send(body("people"))
            kinds = [frame["type"] for frame in await receive_all(socket)]
            assert kinds.count("keepalive") >= 2
            assert await is_silent(socket)


async def test_missing_dates_mean_june_2025(container: SandboxContainer) -> None:
    """See docs/protocol.md#the-bounds-of-a-window."""
    june = container.add_version("people", NOON.replace(year=2025, month=6, day=15), b"id\n6\n")
    container.add_version("people", NOON.replace(year=2025, month=7, day=15), b"id\n7\n")
    async with dial(container) as socket:
        await socket.send(json.dumps({"names": ["people"]}))
        assert (await receive_all(socket))[-1]["datasets"] == june


async def test_null_as_the_end_means_now(container: SandboxContainer) -> None:
    """See docs/protocol.md#the-bounds-of-a-window."""
    past = container.add_version("people", NOON.replace(hour=11), b"id\n1\n")
    container.add_version("people", NOON.replace(hour=13), b"id\n2\n")
    assert await pointer(container, "people", to_dt=None) == past


@pytest.mark.parametrize(
    ("window", "text"),
    [
        ({"from_dt": None}, "fromisoformat: argument must be str"),
        ({"from_dt": "yesterday"}, "Invalid isoformat string: 'yesterday'"),
        ({"to_dt": "2026-13-01"}, "Invalid isoformat string: '2026-13-01'"),
    ],
)
async def test_dates_that_make_no_sense_fail_inside_the_job(
    container: SandboxContainer, window: dict[str, str | None], text: str
) -> None:
    """See docs/protocol.md#a-failed-job and docs/protocol.md#the-bounds-of-a-window."""
    container.add_version("people", NOON, CSV)
    final = (await talk(container, "people", **window))[-1]
    assert (final["type"], final["success"], final["datasets"]) == ("final", True, text)


@pytest.mark.parametrize(
    ("start", "end", "hit"),
    [
        ("2026-01-05T12:00:00", "2026-01-05T13:00:00", True),
        ("2026-01-05T11:00:00", "2026-01-05T12:00:00", True),
        ("2026-01-05T12:00:00.000001", "2026-01-05T13:00:00", False),
        ("2026-01-05T11:00:00Z", "2026-01-05T13:00:00+00:00", True),
        ("2026-01-05T12:30:00+02:00", "2026-01-05T13:30:00+02:00", False),
        ("2026-01-05T11:30:00+02:00", "2026-01-05T12:30:00+02:00", True),
    ],
)
async def test_bounds_are_inclusive_and_offsets_are_dropped(
    container: SandboxContainer, start: str, end: str, hit: bool
) -> None:
    """Naive is UTC, and +02:00 is not converted: docs/protocol.md#the-bounds-of-a-window."""
    container.add_version("people", NOON, CSV)
    second = (await talk(container, "people", from_dt=start, to_dt=end))[1]["message"]
    assert second.startswith("Found 1 versions" if hit else "No versions between")


@pytest.mark.parametrize(
    "malformed", ["not JSON", "[]", "{}", '{"names": "people"}', '{"names": [1]}', b"\x00\x01", '{"names": null}']
)
async def test_malformed_request_is_a_failed_final_and_then_close_1008(
    container: SandboxContainer, malformed: str | bytes
) -> None:
    """See docs/protocol.md#a-malformed-request."""
    async with dial(container) as socket:
        await socket.send(malformed)
        final = await receive(socket)
        assert (final["type"], final["success"]) == ("final", False)
        assert re.match(r"ERROR \| .", final["message"])
        with pytest.raises(ConnectionClosed) as closed:
            await receive(socket)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
    assert container.requests == []
