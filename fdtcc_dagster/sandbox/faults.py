"""What can go wrong on request: `container.inject(name, fault)`.

There are three kinds: faults of a handshake, of a conversation, and of a body that is downloaded. A new fault is a
frozen dataclass here that overrides one hook of its kind. Faults that are injected together happen in the same
conversation or download. "After frame N" counts its frames without keepalives: 0 is before the first one, the
acknowledgement.

What the service does in such cases: docs/protocol.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fdtcc_dagster.sandbox.fault_hooks import (
    BodyFault,
    ConversationFault,
    CutOffError,
    DroppedError,
    Failure,
    Fault,
    Frame,
    HandshakeFault,
    Wire,
)

__all__ = [
    "BINARY",
    "NOT_AN_OBJECT",
    "NOT_JSON",
    "UNKNOWN_TYPE",
    "WITHOUT_TYPE",
    "AnnouncedRows",
    "BlockedLoop",
    "BodyFault",
    "BusyHandshakes",
    "ConnectionReset",
    "ConversationFault",
    "ExtraFrame",
    "Fault",
    "FlippedBit",
    "FrameDelay",
    "HandshakeFault",
    "HugeFrame",
    "JobFailure",
    "JobRunsOn",
    "PointerAsList",
    "RefusedDownload",
    "RefusedHandshake",
    "ServiceRestart",
    "Silence",
    "SlowHandshake",
    "ThrottledBody",
    "TruncatedBody",
    "WrongLength",
    "WrongPointer",
]


@dataclass(frozen=True)
class SlowHandshake(HandshakeFault):
    """The handshake takes so many seconds: the service is loading credentials."""

    seconds: float

    async def refuse(self) -> int | None:
        """Wait."""
        await asyncio.sleep(self.seconds)
        return None


@dataclass(frozen=True)
class RefusedHandshake(HandshakeFault):
    """The handshake is answered by an HTTP status, such as 403 or 500."""

    status: int = 403

    async def refuse(self) -> int | None:
        """Return the status."""
        return self.status


@dataclass(frozen=True)
class BusyHandshakes(HandshakeFault):
    """Handshakes take processor time, one after the other, and are dropped if that makes them too slow.

    Like those of the service: each one costs 1.5 seconds, and one without an answer after 10 seconds is dropped.

    Attributes:
        seconds: What one costs.
        limit: Seconds after which one is dropped.
    """

    seconds: float = 1.5
    limit: float = 10.0
    _processor: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    async def refuse(self) -> int | None:
        """Wait for the processor, and use it."""
        began = time.monotonic()
        while not self._processor.acquire(blocking=False):
            if time.monotonic() - began > self.limit:
                raise DroppedError
            await asyncio.sleep(0.01)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self._processor.release()
        if time.monotonic() - began > self.limit:
            raise DroppedError
        return None


@dataclass(frozen=True)
class JobFailure(ConversationFault):
    """The job fails: `final` true "DONE" with an exception's text, after an `update` false with the cause.

    Attributes:
        cause: The end of "Failed to download dataset 'X'. <cause>"; None leaves that frame out.
        text: The value of `datasets`; by default that the dataset (with its RID) could not be downloaded.
    """

    cause: str | None = "Query failed."
    text: str | None = None

    def failure(self) -> Failure:
        """Return what was given."""
        return Failure(self.cause, self.text)


@dataclass(frozen=True)
class JobRunsOn(ConversationFault):
    """After a disconnect the job runs to its end, and its version is recorded; without this fault, the job ends."""

    runs_on = True


@dataclass(frozen=True)
class ConnectionReset(ConversationFault):
    """The TCP connection is reset after a frame, without a close frame."""

    after: int = 0

    async def after_frame(self, wire: Wire, number: int) -> None:
        """Reset."""
        if number == self.after:
            wire.abort()


@dataclass(frozen=True)
class ServiceRestart(ConversationFault):
    """The service closes after a frame; 1012 says that it restarts."""

    after: int = 1
    code: int = 1012

    async def after_frame(self, wire: Wire, number: int) -> None:
        """Close."""
        if number == self.after:
            await wire.close(self.code)


@dataclass(frozen=True)
class BlockedLoop(ConversationFault):
    """The service's event loop is blocked after a frame: no keepalive, no pong, no HTTP, for all clients."""

    seconds: float
    after: int = 1

    async def after_frame(self, wire: Wire, number: int) -> None:
        """Block."""
        if number == self.after:
            wire.block(self.seconds)


@dataclass(frozen=True)
class Silence(ConversationFault):
    """After a frame nothing follows but, if wanted, keepalives; the socket stays open."""

    after: int = 1
    keepalives: bool = False

    async def after_frame(self, wire: Wire, number: int) -> None:
        """Wait without end."""
        if number == self.after:
            wire.keepalives = wire.keepalives and self.keepalives
            await asyncio.Event().wait()


@dataclass(frozen=True)
class FrameDelay(ConversationFault):
    """So many seconds pass before the first frame and after each one."""

    seconds: float

    async def after_frame(self, wire: Wire, number: int) -> None:
        """Wait."""
        await asyncio.sleep(self.seconds)


@dataclass(frozen=True)
class ExtraFrame(ConversationFault):
    """A frame of any content comes between the others; NOT_JSON and the constants beside it are ready-made.

    Attributes:
        payload: Text, bytes (a binary frame), or a mapping that is sent as JSON.
        after: The frame after which it comes.
    """

    payload: str | bytes | Mapping[str, Any]
    after: int = 1

    async def after_frame(self, wire: Wire, number: int) -> None:
        """Send it."""
        if number == self.after:
            payload = self.payload
            await wire.send_raw(payload if isinstance(payload, (str, bytes)) else json.dumps(payload))


NOT_JSON = ExtraFrame("{this is not JSON")
NOT_AN_OBJECT = ExtraFrame('["an", "array"]')
WITHOUT_TYPE = ExtraFrame({"success": True, "message": "a frame without a type"})
BINARY = ExtraFrame(b"\x00\x01\xfe\xff")
UNKNOWN_TYPE = ExtraFrame({"type": "telemetry", "success": True, "message": "a type that nobody knows"})


@dataclass(frozen=True)
class HugeFrame(ConversationFault):
    """A well-formed `update` whose message has so many bytes comes between the others; by default 8 MiB."""

    size: int = 8 * 1024 * 1024
    after: int = 1

    async def after_frame(self, wire: Wire, number: int) -> None:
        """Send it."""
        if number == self.after:
            await wire.send_raw(json.dumps({"type": "update", "success": True, "message": "x" * self.size}))


@dataclass(frozen=True)
class AnnouncedRows(ConversationFault):
    """A live pull announces another number of rows than the CSV has."""

    rows: int

    def announce_rows(self, rows: int) -> int:
        """Return the wrong number."""
        return self.rows


@dataclass(frozen=True)
class WrongPointer(ConversationFault):
    """The announced pointer is not the hash of the bytes.

    Attributes:
        pointer: 64 hex digits; those of another version serve that version's bytes, others the right bytes. By
            default, digits of no version.
    """

    pointer: str | None = None

    def announce_pointer(self, sha256: str) -> str:
        """Return the wrong pointer."""
        return self.pointer or hashlib.sha256(sha256.encode()).hexdigest()


@dataclass(frozen=True)
class PointerAsList(ConversationFault):
    """The `datasets` of the final frame is a list, as the service's README says, and not a string."""

    def rewrite(self, frame: Frame) -> Frame:
        """Put it into a list."""
        return {**frame, "datasets": [frame["datasets"]]} if isinstance(frame.get("datasets"), str) else frame


@dataclass(frozen=True)
class RefusedDownload(BodyFault):
    """The download is answered by an HTTP status: 404 for a pointer that was just announced, or 5xx."""

    status: int = 404

    def refuse(self) -> int | None:
        """Return the status."""
        return self.status


@dataclass(frozen=True)
class TruncatedBody(BodyFault):
    """The body ends early.

    Attributes:
        fraction: How much of it is sent, from 0 to 1.
        close_delimited: False: chunked, so that the cut is a transport error. True: the body has no length and ends
            with the connection, as behind some proxies, so that the cut looks like success; with `fraction=1` the
            body is complete.
    """

    fraction: float = 0.5
    close_delimited: bool = False

    async def alter(self, chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
        """Cut."""
        left = int(size * self.fraction)
        async for chunk in chunks:
            yield chunk[:left]
            left -= len(chunk[:left])
            if not left:
                break
        if not self.close_delimited:
            raise CutOffError


@dataclass(frozen=True)
class WrongLength(BodyFault):
    """The answer has a Content-Length that is not the size of its body, as behind a broken proxy.

    Attributes:
        difference: How many bytes more it is, or fewer if it is negative.
    """

    difference: int
    close_delimited: bool = field(default=True, init=False)

    def headers(self, size: int) -> Mapping[str, str]:
        """Return the wrong length."""
        return {"Content-Length": str(size + self.difference)}


@dataclass(frozen=True)
class FlippedBit(BodyFault):
    """One bit of the byte at an offset is flipped; by default of the one in the middle."""

    offset: int | None = None

    async def alter(self, chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
        """Flip."""
        position = size // 2 if self.offset is None else self.offset
        async for chunk in chunks:
            if 0 <= position < len(chunk):
                chunk = chunk[:position] + bytes([chunk[position] ^ 1]) + chunk[position + 1 :]
            position -= len(chunk)
            yield chunk


@dataclass(frozen=True)
class ThrottledBody(BodyFault):
    """The body is sent at so many bytes per second, twenty pieces a second."""

    bytes_per_second: float

    async def alter(self, chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
        """Send it slowly."""
        step = max(int(self.bytes_per_second / 20), 1)
        async for chunk in chunks:
            for start in range(0, len(chunk), step):
                await asyncio.sleep(step / self.bytes_per_second)
                yield chunk[start : start + step]
