"""The frames of `test_protocol_fuzz.py` on a real connection: the outcomes are the same, and come in time."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any
from uuid import uuid4

from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fdtcc_dagster.client import FoundryDevToolsContainerClient
from fdtcc_dagster.client.local_evidence import LocalEvidence
from fdtcc_dagster.client.protocol import Conversation, MissingVersion, Pointer
from fdtcc_dagster.errors import FdtccError, IdleTimeoutError, ServiceConnectionLostError
from fdtcc_dagster.window import Window
from fdtcc_dagster_tests.client.test_protocol import NOW
from fdtcc_dagster_tests.client.test_protocol_fuzz import SETTINGS, frames_of
from fdtcc_dagster_tests.fuzz import examples
from fdtcc_dagster_tests.security.serving import http_server

ASKED = [setting for setting in SETTINGS if setting[0].from_dt <= NOW]
ENDS = ["close", "close with a reason", "reset", "silence"]
IDLE = 0.3


class Script:
    """A container that sends the given frames, whatever the request is."""

    frames: list[str | bytes]
    end: str

    async def handle(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        await socket.receive()
        for frame in self.frames:
            await (socket.send_bytes(frame) if isinstance(frame, bytes) else socket.send_str(frame))
        if self.end == "reset":
            assert isinstance(request.transport, asyncio.Transport)
            request.transport.abort()
        elif self.end == "silence":
            await socket.receive()
        else:
            await socket.close(message=b"over" if self.end == "close with a reason" else b"")
        return socket


def outcome_of(conversation: Conversation, frames: list[str | bytes]) -> tuple[Any, ...] | None:
    for frame in frames:
        conversation.receive(frame)
    outcome = conversation.outcome
    if isinstance(outcome, Pointer):
        return (outcome.sha256, outcome.announced_rows, outcome.origin)
    return None if outcome is None else (type(outcome), str(outcome))


async def request(port: int, window: Window, missing_version: MissingVersion, now: datetime) -> tuple[Any, ...]:
    client = FoundryDevToolsContainerClient("127.0.0.1", port, attempts=1, idle_timeout=IDLE)
    # The announcement of an earlier example must not affect this one.
    evidence = LocalEvidence("127.0.0.1", uuid4().hex)
    try:
        said = await client.request(
            "cars", window.from_dt, window.to_dt, missing_version=missing_version, now=now, evidence=evidence
        )
    except FdtccError as error:
        return (type(error), str(error))
    return (said.sha256, said.announced_rows, said.origin)


def sendable(frame: str | bytes) -> bool:
    """A text frame is UTF-8."""
    return isinstance(frame, bytes) or not any("\ud800" <= character <= "\udfff" for character in frame)


def test_whatever_frames_come_over_a_connection() -> None:
    script = Script()
    with http_server(script.handle) as port:

        @settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.binary(max_size=40), st.sampled_from(ASKED), st.sampled_from(ENDS))
        def converse(data: bytes, setting: tuple[Window, MissingVersion], end: str) -> None:
            window, missing_version = setting
            script.frames, script.end = [frame for frame in frames_of(data) if sendable(frame)], end
            expected = outcome_of(Conversation("cars", window, now=NOW, missing_version=missing_version), script.frames)
            got = asyncio.run(asyncio.wait_for(request(port, window, missing_version, NOW), 30))
            lost = IdleTimeoutError if end == "silence" else ServiceConnectionLostError
            # A reset may overtake what was said before it.
            if expected is None or (end == "reset" and got[0] is ServiceConnectionLostError):
                assert got[0] is lost
                assert "'cars'" in got[1]
            else:
                assert got == expected

        converse()
