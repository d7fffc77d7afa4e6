"""A TCP proxy in front of the sandbox that drops, delays, throttles, holds and cuts connections."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal

Kind = Literal["conversation", "download", "health"]
"""What a connection is for, as its request line says."""

_NO_LINGER = struct.pack("ii", 1, 0)  # closing then sends RST instead of FIN
_PIECE = 1 << 16


@dataclass(frozen=True)
class NetworkFault:
    """What goes wrong with a connection.

    Attributes:
        passes: How many bytes after the head of the answer pass before `end`; -1: not even the head. None: all.
        end: What happens then: RST, FIN, or nothing more at all while the connection stays open.
        delay: Seconds before the answer begins to pass.
        rate: Bytes per second of what comes after the head, ten pieces a second. None: as they come.
    """

    passes: int | None = None
    end: Literal["reset", "close", "hold"] = "reset"
    delay: float = 0.0
    rate: float | None = None


@dataclass
class _Pending:
    kind: Kind
    fault: NetworkFault
    times: int | None
    skip: int


class TcpProxy:
    """Passes on connections to a container, in a thread of its own, between `with` and the end of the block.

    Args:
        host: The container's address.
        port: The container's port.
    """

    host = "127.0.0.1"

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server((self.host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pending: list[_Pending] = []
        self._seen: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._ready = threading.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="tcp-proxy", daemon=True)

    def __enter__(self) -> TcpProxy:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Close all connections and stop listening."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join()

    def inject(self, kind: Kind, fault: NetworkFault, times: int | None = 1, *, skip: int = 0) -> None:
        """Inject a fault into the next connections of a kind.

        Args:
            kind: Which connections.
            fault: What goes wrong with them.
            times: How many of them; None: all.
            skip: How many work first.
        """
        with self._lock:
            self._pending.append(_Pending(kind, fault, times, skip))

    @property
    def seen(self) -> dict[str, int]:
        """The number of connections by kind, whatever became of them."""
        with self._lock:
            return dict(self._seen)

    def _take(self, kind: Kind) -> NetworkFault:
        with self._lock:
            self._seen[kind] += 1
            for pending in self._pending:
                if pending.kind != kind or pending.times == 0:
                    continue
                if pending.skip:
                    pending.skip -= 1
                    continue
                if pending.times is not None:
                    pending.times -= 1
                return pending.fault
        return NetworkFault()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._listener.close()
            self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, sock=self._listener)
        self._ready.set()
        await self._stopped.wait()
        server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            fault = self._take(_kind_of(head.split(b"\r\n", 1)[0]))
            answer, upstream = await asyncio.open_connection(*self._target)
            upstream.write(head)
            directions = {
                asyncio.ensure_future(_pass_on(reader, upstream)),
                asyncio.ensure_future(_answer(answer, writer, fault)),
            }
            try:
                done, _ = await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
                for direction in done:
                    direction.result()
            finally:
                for direction in directions:
                    direction.cancel()
                await asyncio.gather(*directions, return_exceptions=True)
        except (OSError, asyncio.IncompleteReadError):
            # The client has gone, or the container has: the other one learns of it in the same way.
            _reset_on_close(writer)
        except asyncio.CancelledError:
            pass
        finally:
            self._connections.discard(task)
            for end in (writer, upstream):
                if end is not None:
                    end.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE):
        writer.write(piece)
        await writer.drain()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: NetworkFault) -> None:
    """Pass on the answer up to its end, or to the fault's."""
    await asyncio.sleep(fault.delay)
    left = fault.passes
    if left != -1:
        writer.write(await reader.readuntil(b"\r\n\r\n"))
        await writer.drain()
        size = _PIECE if fault.rate is None else max(int(fault.rate / 10), 1)
        while left is None or left > 0:
            piece = await reader.read(size if left is None else min(size, left))
            if not piece:
                return
            if fault.rate is not None:
                await asyncio.sleep(len(piece) / fault.rate)
            writer.write(piece)
            await writer.drain()
            left = None if left is None else left - len(piece)
    if fault.end == "hold":
        await asyncio.Event().wait()
    elif fault.end == "reset":
        await asyncio.sleep(0.02)  # a reset takes with it what the kernel has not sent yet
        _reset_on_close(writer)


def _reset_on_close(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()


def _kind_of(request_line: bytes) -> Kind:
    if b"/download/" in request_line:
        return "download"
    return "health" if b"/fdtc-api/ " in request_line else "conversation"
