"""The kinds of faults, the hooks that they have, and the book of those that are still to come."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

Frame = dict[str, Any]


class Wire(Protocol):
    """The server's end of a conversation, as faults see it."""

    keepalives: bool

    async def send_raw(self, payload: str | bytes) -> None:
        """Send a text or a binary frame that is not counted."""

    async def close(self, code: int) -> None:
        """Close the WebSocket and end the conversation."""

    def abort(self) -> None:
        """Reset the TCP connection and end the conversation."""

    def block(self, seconds: float) -> None:
        """Block the whole service's event loop."""


class CutOffError(Exception):
    """The body ends here, without the end that the transfer encoding has."""


class DroppedError(Exception):
    """The connection ends here, without an HTTP answer."""


class Failure(NamedTuple):
    """How a job fails: the cause in its `update` frame, and the text of its `final` one; None for none of its own."""

    cause: str | None
    text: str | None


class HandshakeFault:
    """A fault of a WebSocket handshake. The dataset is not known yet, so it is injected with the name None."""

    async def refuse(self) -> int | None:
        """Return the HTTP status to refuse with, or None to go on; `DroppedError` drops the connection."""
        return None


class ConversationFault:
    """A fault of a conversation about a dataset.

    Attributes:
        runs_on: Whether its job runs on after a disconnect.
    """

    runs_on: bool = False

    async def after_frame(self, wire: Wire, number: int) -> None:
        """Do something after a frame; `number` is 0 before the first one."""

    def rewrite(self, frame: Frame) -> Frame:
        """Return the frame to send instead."""
        return frame

    def announce_rows(self, rows: int) -> int:
        """Return the number of rows to announce."""
        return rows

    def announce_pointer(self, sha256: str) -> str:
        """Return the pointer to announce; one that is not known will serve the same bytes."""
        return sha256

    def failure(self) -> Failure | None:
        """Return how the job fails, or None if it does not."""
        return None


class BodyFault:
    """A fault of a download (CSV or ZIP) of a dataset's version."""

    close_delimited: bool = False

    def refuse(self) -> int | None:
        """Return the HTTP status to answer with instead of a body, or None to send the body."""
        return None

    def headers(self, size: int) -> Mapping[str, str]:
        """Return headers of the answer besides its own; `size` is the body's size in bytes."""
        return {}

    def alter(self, chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
        """Return the chunks to send; `size` is the body's size in bytes. `CutOffError` breaks the connection."""
        return chunks


Fault = HandshakeFault | ConversationFault | BodyFault
_Kind = TypeVar("_Kind", HandshakeFault, ConversationFault, BodyFault)


@dataclass
class _Pending:
    name: str | None
    fault: Fault
    times: int | None
    skip: int


class FaultBook:
    """The faults that are still to come. Safe to use from several threads."""

    def __init__(self) -> None:
        self._pending: list[_Pending] = []
        self._lock = threading.Lock()

    def inject(self, name: str | None, fault: Fault, times: int | None, skip: int) -> None:
        """Add a fault; see `SandboxContainer.inject`."""
        with self._lock:
            self._pending.append(_Pending(name, fault, times, skip))

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._pending.clear()

    def take(self, kind: type[_Kind], names: Iterable[str] = ()) -> list[_Kind]:
        """Return the faults for something about these datasets, and count them as having happened."""
        taken: list[_Kind] = []
        wanted = {None, *names}
        with self._lock:
            for pending in self._pending:
                if not isinstance(pending.fault, kind) or pending.name not in wanted:
                    continue
                if pending.skip:
                    pending.skip -= 1
                    continue
                taken.append(pending.fault)
                if pending.times is not None:
                    pending.times -= 1
            self._pending = [pending for pending in self._pending if pending.times != 0]
        return taken
