"""One WebSocket conversation: a request, the frames of its job, and then an open socket.

Each case is described in docs/protocol.md#cases, and what the frames mean in docs/protocol.md#frames.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import WSMsgType, web

from fdtcc_dagster.sandbox.blobs import Blob, columns
from fdtcc_dagster.sandbox.fault_hooks import ConversationFault, Frame
from fdtcc_dagster.sandbox.service import Service, in_thread
from fdtcc_dagster.sandbox.store import dataset_rid, dataset_uuid

_log = logging.getLogger(__name__)
_CLOSED = {WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR}
_TERMINAL = {"error", "final"}
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with a timeout of 0: the kernel sends RST instead of FIN
# The service's fixed default.
_FROM, _TO = "2025-06-01T00:00:00", "2025-06-30T23:59:59"


@dataclass(frozen=True)
class Request:
    """The first frame of a conversation, read as leniently and as wrongly as the service reads it.

    See docs/protocol.md#the-bounds-of-a-window and docs/protocol.md#a-malformed-request.

    Attributes:
        names: The requested datasets.
        from_dt: What the request says, or the default.
        to_dt: Likewise.
        raw: The whole JSON object.
    """

    names: tuple[str, ...]
    from_dt: Any
    to_dt: Any
    raw: dict[str, Any]

    @classmethod
    def parse(cls, data: Any) -> Request:
        """Read the payload of the first frame.

        Raises:
            ValueError: It is malformed.
        """
        if not isinstance(data, str):
            raise ValueError("the request is not a text frame")
        raw = json.loads(data)
        if not isinstance(raw, dict):
            raise ValueError("Input should be a valid dictionary")
        names = raw.get("names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("names: Input should be a valid list of strings")
        # Twice the same name is one dataset.
        unique = tuple(dict.fromkeys(names))
        return cls(unique, raw.get("from_dt", _FROM), raw.get("to_dt", _TO), raw)

    def window(self, now: datetime) -> tuple[datetime, datetime]:
        """The bounds as naive datetimes, both inclusive and maybe inverted; offsets are dropped, not converted.

        Args:
            now: The current instant in UTC, which a `to_dt` of null means.

        Raises:
            TypeError: A bound is neither a string nor a `to_dt` of null.
            ValueError: A bound is not ISO 8601.
        """
        end = now.replace(tzinfo=None) if self.to_dt is None else _naive(self.to_dt)
        return _naive(self.from_dt), end


class Conversation:
    """The server's end of one conversation.

    Attributes:
        keepalives: Whether keepalives are being sent.
    """

    def __init__(self, service: Service, websocket: web.WebSocketResponse, transport: asyncio.Transport) -> None:
        self.keepalives = True
        self._service = service
        self._store = service.store
        self._websocket = websocket
        self._transport = transport
        self._faults: list[ConversationFault] = []
        self._runs_on = False
        self._gone = False
        self._sent = 0
        self._names: tuple[str, ...] = ()

    async def run(self) -> None:
        """Hold the conversation until the socket is closed; its job is then cancelled, or left running."""
        message = await self._websocket.receive()
        if message.type in _CLOSED:
            return
        try:
            request = Request.parse(message.data)
        except ValueError as error:
            await self.send("final", False, f"ERROR | {error}")
            await self._websocket.close(code=1008)
            return
        self._service.seen.request(request.raw)
        self._service.seen.begin(request.names)
        self._names = request.names
        self._faults = self._service.faults.take(ConversationFault, request.names)
        self._runs_on = any(fault.runs_on for fault in self._faults)
        tasks = [asyncio.create_task(self._job(request)), asyncio.create_task(self._keep_alive())]
        tasks[0].add_done_callback(self._check)
        try:
            # Reading is what notices that the client has gone, and what answers its pings.
            while (await self._websocket.receive()).type not in _CLOSED:
                pass
        finally:
            # First of all: the handler may be cancelled while it waits below.
            self._gone = True
            if self._runs_on:
                self._service.left_behind.add(tasks[0])
                tasks.pop(0).add_done_callback(self._service.left_behind.discard)
            else:
                self._end()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def send(self, kind: str, success: bool, message: str, **extra: Any) -> None:
        """Send a frame of the job."""
        frame: Frame = {"type": kind, "success": success, "message": message, **extra}
        for fault in self._faults:
            frame = fault.rewrite(frame)
        if kind in _TERMINAL:
            # Before it is sent: its reader may start the next conversation at once.
            self._end()
        await self.send_raw(_json(frame))
        self._sent += 1
        await self._after_frame()

    async def send_raw(self, payload: str | bytes) -> None:
        """Send a text or a binary frame; nobody gets it if the job runs on without its client."""
        with suppress(ConnectionError) if self._runs_on else nullcontext():
            await self._send(payload)

    async def _send(self, payload: str | bytes) -> None:
        if self._gone:
            raise ConnectionResetError("the client has gone")
        if isinstance(payload, bytes):
            await self._websocket.send_bytes(payload)
        else:
            await self._websocket.send_str(payload)

    async def close(self, code: int) -> None:
        """Close the WebSocket and end the conversation, if its job does not run on."""
        self.keepalives = False
        await self._websocket.close(code=code)
        if not self._runs_on:
            raise ConnectionAbortedError("closed on request")

    def abort(self) -> None:
        """Reset the TCP connection and end the conversation, if its job does not run on."""
        abort(self._transport)
        if not self._runs_on:
            raise ConnectionAbortedError("reset on request")

    def block(self, seconds: float) -> None:
        """Block the loop, as the service's large writes do."""
        self._service.stopping.wait(seconds)

    def _end(self) -> None:
        self._service.seen.end(self._names)
        self._names = ()

    async def _after_frame(self) -> None:
        for fault in self._faults:
            await fault.after_frame(self, self._sent)

    async def _keep_alive(self) -> None:
        with suppress(ConnectionError):
            while True:
                await asyncio.sleep(self._service.keepalive_interval)
                if self.keepalives:
                    await self.send_raw(_json({"type": "keepalive", "success": True, "message": "Still working..."}))

    async def _job(self, request: Request) -> None:
        try:
            await self._after_frame()
            await self._answer(request)
        except ConnectionError:
            pass  # the client has gone, or a fault has ended the conversation
        finally:
            self.keepalives = False
            self._end()

    def _check(self, job: asyncio.Task[None]) -> None:
        """Report a mistake in the sandbox, instead of leaving the client waiting."""
        if not job.cancelled() and (error := job.exception()):
            _log.error("the sandbox's job for %s failed", self._names, exc_info=error)
            abort(self._transport)

    async def _answer(self, request: Request) -> None:
        known = [name for name in request.names if name in self._store.names()]
        if not known:
            unknown = ", ".join(f"'{name}'" for name in request.names)
            self.keepalives = False
            await self.send(
                "error",
                False,
                f"ERROR | Not a single valid RIDs found in the request. Datasets {unknown} are unknown to the service.",
            )
            return
        await self.send("update", True, "Connection established, starting operation…", datasets=known)
        results = [await self._result(name, request) for name in known]
        await self.send("final", True, "DONE", datasets=results[0])

    async def _result(self, name: str, request: Request) -> str:
        """Find or pull a dataset; return the pointer, or an exception's text."""
        versions, matching, between = self._store.versions(name), [], ""
        if versions:
            # Without versions there is nothing to compare the dates with, and the service does not read them.
            try:
                start, end = request.window(self._store.now())
            except (TypeError, ValueError) as error:
                return str(error)
            matching = [version for version in versions if start <= version.pulled_at.replace(tzinfo=None) <= end]
            between = f"between '{start}' and '{end}'"
        failure = next((failure for fault in self._faults if (failure := fault.failure())), None)
        where = f"for dataset '{dataset_uuid(name)}'"
        if matching and failure is None:
            await self.send("update", True, f"Found {len(matching)} versions {where} {between}.")
            return self._announced(await in_thread(self._store.pointer, matching[-1]))
        if versions:
            await self.send("update", True, f"No versions {between} found {where}.")
        else:
            message = f"No available versions found for dataset '{name}'. No metadata file found."
            await self.send("neutral", False, message)
        await self.send("update", True, f"Downloading dataset '{name}' from Foundry...")
        if failure is not None:
            return await self._failed(name, failure.cause, failure.text)
        try:
            blob = await self._pull(name)
        except (LookupError, OSError) as error:
            if isinstance(error, ConnectionError):
                raise
            return await self._failed(name, str(error.args[-1]), None)
        if blob is None:
            return f"Dataset '{name}' has no rows, nothing was stored."
        return self._announced(blob.sha256)

    async def _failed(self, name: str, cause: str | None, text: str | None) -> str:
        if cause is not None:
            await self.send("update", False, f"Failed to download dataset '{name}'. {cause}")
        return text or f"Dataset {dataset_rid(name)} could not be downloaded or does not exist."

    async def _pull(self, name: str) -> Blob | None:
        """Pull what Foundry holds today and record it as a version; None for a dataset without rows."""
        with self._store.pulling(name) as pull:
            blob = await in_thread(self._store.live, name)
            if not blob.rows:
                await self.send("final", False, f"No rows found for dataset '{name}'.")
                return None
            blob = await self._download(name, blob)
            await asyncio.sleep(self._service.pull_seconds)
            await self.send("update", True, f"Dataset '{name}' downloaded. Writing to disk...")
            if pull.overlapped:
                blob = await in_thread(self._service.blobs.torn, blob)
            await self.send("update", True, f"Dataset '{name}' written. Calculating checksum...")
            self._store.record(name, blob)
        return blob

    async def _download(self, name: str, blob: Blob) -> Blob:
        """Announce the rows, and lose those that batches lose."""
        announced = blob.rows
        for fault in self._faults:
            announced = fault.announce_rows(announced)
        size = self._service.batch_size
        if blob.rows <= size or "id" not in await in_thread(columns, blob.path):
            await self.send("update", True, f"Downloading all {announced} rows for dataset '{name}'...")
            return blob
        batches = blob.rows // size + 1
        message = f"Found {announced} rows in dataset '{name}', starting download in {batches} batch(es)."
        await self.send("update", True, message)
        for batch in range(1, batches + 1):
            await self.send("update", True, f"Downloading batch {batch} of {batches}…")
        return await in_thread(self._service.blobs.batched, blob, batches, size)

    def _announced(self, sha256: str) -> str:
        pointer = sha256
        for fault in self._faults:
            pointer = fault.announce_pointer(pointer)
        if pointer != sha256:
            self._store.alias(pointer, sha256)
        return pointer


def abort(transport: asyncio.Transport) -> None:
    """Reset a TCP connection."""
    with suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


def _json(frame: Frame) -> str:
    return json.dumps(frame, separators=(",", ":"), ensure_ascii=False)


def _naive(value: Any) -> datetime:
    if not isinstance(value, str):
        raise TypeError("fromisoformat: argument must be str")
    try:
        # Python 3.10 does not read the "Z" of RFC 3339.
        instant = datetime.fromisoformat(value[:-1] + "+00:00" if value.endswith(("Z", "z")) else value)
    except ValueError as error:
        raise ValueError(f"Invalid isoformat string: {value!r}") from error
    return instant.replace(tzinfo=None)
