"""Requests: what the service makes of dates, and of what is no request."""

from __future__ import annotations

import json
import re

import pytest
from websockets.exceptions import ConnectionClosed

from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster_tests.sandbox.wire import (
    CSV,
    NOON,
    dial,
    pointer,
    receive,
    receive_all,
    talk,
)


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
    container.set_live("people", CSV)
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
