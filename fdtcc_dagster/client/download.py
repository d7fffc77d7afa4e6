"""The download: bytes from the container into a file that exists only once they are verified.

See docs/protocol.md#downloads.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing
from typing import Literal, cast

from isal import isal_zlib

from fdtcc_dagster.client.callbacks import UNOBSERVED, PullObserver
from fdtcc_dagster.client.clock import AwakeClock
from fdtcc_dagster.client.connection_errors import is_malformed, lasting_failure, refused, unreachable, unreadable
from fdtcc_dagster.client.disk_budget import DiskBudget, too_large
from fdtcc_dagster.client.settings import ClientSettings
from fdtcc_dagster.client.spool_file import SpoolFile
from fdtcc_dagster.errors import (
    ChecksumMismatchError,
    IdleTimeoutError,
    ServiceConnectionLostError,
    ServiceUnavailableError,
)
from fdtcc_dagster.redaction import counted

Transport = Literal["csv", "zip"]
"""How a snapshot travels: as it is, or as a ZIP whose one member is inflated while it streams."""

_RECEIVED_BYTES = 1 << 19
"""How many are taken from the socket at once: asyncio's 256 KiB cost more of the processor."""
_READ_BYTES = 1 << 20
_HANDED_OVER_BYTES = 1 << 20
_HANDED_OVER_SECONDS = 0.25
"""On a slow link, readers do not wait for as many."""
_HELD_BYTES = 8 << 20
"""What has arrived and is not written yet; beyond it, nothing more is taken from the socket."""
_LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
_SIGNATURE = b"PK\x03\x04"
_ENCRYPTED = 0x1
_DEFLATED = 8
_OUTPUT_BYTES = 4 << 20

DamagedError = cast("type[Exception]", isal_zlib.error)
"""What `Inflater` raises where the deflated bytes are corrupt, or end too early."""


async def download(
    settings: ClientSettings,
    file: SpoolFile,
    *,
    transport: Transport = "csv",
    observer: PullObserver = UNOBSERVED,
) -> None:
    """Make one attempt to download a snapshot's CSV, and verify it against its pointer.

    Inflating, hashing and writing happen in a separate thread, beside the event loop.

    Args:
        settings: The address, `open_timeout`, `idle_timeout`, `transfer_timeout` and `max_bytes` count here; times
            count while this process runs.
        file: The spool file; it may be read in the meantime. The caller closes it after the last attempt.
        transport: `"csv"`, or `"zip"` to inflate while streaming; the hash is that of the inflated bytes.
        observer: Its `on_progress` is called about once a second.

    Raises:
        ServiceUnavailableError: The container cannot be reached, or answers with a failure or something unreadable.
        ServiceConnectionLostError: The connection ended inside the body.
        IdleTimeoutError: No bytes came for `idle_timeout` seconds, or not all of them within `transfer_timeout`.
        ChecksumMismatchError: The bytes are not those of the pointer, or not a ZIP of the container's form.
        DatasetRetrievalError: There are more than `max_bytes`.
        OSError: The file cannot be written, or would fill the disk.
    """
    budget = DiskBudget(file.path.parent, settings.max_bytes)
    url = settings.endpoint.download_url(transport, file.sha256)
    inflater = None if transport == "csv" else Inflater(f"{file.sha256}.csv")

    def write(chunks: list[bytes]) -> None:
        for chunk in chunks:
            for data in [chunk] if inflater is None else inflater.feed(chunk):
                budget.check(file.size + len(data))
                file.write(data)

    def finish() -> None:
        if inflater is not None:
            inflater.finish()
        file.finish()

    file.begin()
    try:
        async with aclosing(_body(settings, url, observer)) as body:
            await _write_beside(body, write, finish)
    except DamagedError as error:
        raise ChecksumMismatchError(f"the ZIP arrived damaged: {error}; try again") from error
    except OtherArchiveError as error:
        # One flipped bit in its header is enough for that.
        raise ChecksumMismatchError(
            f"what arrived is no ZIP of the container's form: {error}; try again, or use transport='csv'"
        ) from error


async def _write_beside(
    chunks: AsyncGenerator[bytes, None], write: Callable[[list[bytes]], None], finish: Callable[[], None]
) -> None:
    """Call `write` with all chunks, some at a time, while more of them arrive, and then `finish`."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="fdtcc-write") as thread:
        writing: asyncio.Future[None] = loop.run_in_executor(thread, write, [])
        held: list[bytes] = []
        size, handed_over = 0, loop.time()
        try:
            async for chunk in chunks:
                held.append(chunk)
                size += len(chunk)
                late = loop.time() - handed_over > _HANDED_OVER_SECONDS
                if size < (_HELD_BYTES if not writing.done() else 0 if late else _HANDED_OVER_BYTES):
                    continue
                await writing
                writing, held, size = loop.run_in_executor(thread, write, held), [], 0
                handed_over = loop.time()
        finally:
            await writing
        await loop.run_in_executor(thread, write, held)
        await loop.run_in_executor(thread, finish)


async def _body(settings: ClientSettings, url: str, observer: PullObserver) -> AsyncGenerator[bytes, None]:
    import aiohttp  # here, because it takes long: code locations load without it

    endpoint = settings.endpoint
    # Not aiohttp's own limits of silence and of the whole, which count while this process is stopped, too.
    timeout = aiohttp.ClientTimeout(total=None, connect=settings.open_timeout)
    # A proxy is not to compress on its own: transport="zip" does, and what it inflates to is counted.
    headers = {"Accept-Encoding": "identity", **endpoint.headers}
    received = 0
    total: int | None = None
    response: aiohttp.ClientResponse | None = None

    async def begin(session: aiohttp.ClientSession) -> aiohttp.StreamReader:
        nonlocal response, total
        response = await session.get(url, ssl=endpoint.ssl_context or True, allow_redirects=False)
        closed.callback(response.close)
        if response.status != 200:
            raise refused(endpoint, response.status, handshake=False)
        if (refusal := unreadable(endpoint, response.headers)) is not None:
            raise refusal
        _receive_more(response.connection and response.connection.transport)
        total = response.content_length
        return response.content

    def check() -> None:
        if response is not None and clock.is_up:
            response.close()

    def wait_for_bytes() -> None:
        clock.until = min(clock() + settings.idle_timeout, settings.transfer_timeout)

    async def asked(*_: object) -> None:
        wait_for_bytes()

    def too_late() -> IdleTimeoutError:
        if clock() >= settings.transfer_timeout:
            return IdleTimeoutError(
                f"the download did not end within {settings.transfer_timeout:g} s, after {counted(received, 'byte')}; "
                "for a slow link, raise transfer_timeout or set transport='zip'"
            )
        return IdleTimeoutError(
            f"the container sent no bytes of the snapshot for {settings.idle_timeout:g} s; if its disk or the link is "
            "that slow, raise idle_timeout"
        )

    # Before it is asked, there is a connection to make, which has a limit of its own.
    tracing = aiohttp.TraceConfig()
    tracing.on_request_headers_sent.append(asked)
    with AwakeClock(settings.transfer_timeout, check) as clock, ExitStack() as closed:
        try:
            async with aiohttp.ClientSession(
                timeout=timeout, read_bufsize=_READ_BYTES, headers=headers, trace_configs=[tracing]
            ) as session:
                content = await clock.within(begin(session))
                told = time.monotonic()
                while True:
                    wait_for_bytes()
                    # As they came: `iter_any` would copy them into one.
                    chunk, more = await content.readchunk()
                    if not (chunk or more):
                        break
                    clock.until = settings.transfer_timeout
                    received += len(chunk)
                    if received > settings.max_bytes:
                        raise too_large(settings.max_bytes)
                    if chunk:
                        yield chunk
                    if observer.on_progress is not None and time.monotonic() - told > 1.0:
                        told = time.monotonic()
                        observer.on_progress(received, total)
        except aiohttp.ConnectionTimeoutError as error:
            raise ServiceUnavailableError(
                f"{endpoint} did not accept the connection for the download within {settings.open_timeout:g} s; look "
                "at its log, or raise open_timeout"
            ) from error
        except aiohttp.ClientConnectorCertificateError as error:
            # In older versions of aiohttp it has no `os_error`.
            cause = error.certificate_error
            raise unreachable(endpoint, cause if isinstance(cause, OSError) else OSError(str(cause))) from None
        except aiohttp.ClientConnectorError as error:
            raise unreachable(endpoint, error.os_error) from None
        except (aiohttp.ClientError, asyncio.TimeoutError) as error:
            if clock.is_up:
                raise too_late() from None
            # Without a cause: its text quotes the answer, also its body, and its `repr` the headers that were sent.
            damaged = is_malformed(error)
            if damaged and response is None:
                lasting = await lasting_failure(endpoint, error, settings.open_timeout, handshake=False)
                if lasting is not None:
                    raise lasting from None
            seen = "the answer to the download is damaged" if damaged else "the connection ended inside the download"
            raise ServiceConnectionLostError(
                f"{seen}, after {counted(received, 'byte')} ({type(error).__name__})"
            ) from None


def _receive_more(transport: asyncio.Transport | None) -> None:
    """Let asyncio's own transport receive more at once; others, such as uvloop's or that of TLS, stay as they are."""
    if transport is not None and hasattr(transport, "max_size"):
        transport.max_size = _RECEIVED_BYTES


class OtherArchiveError(ValueError):
    """An archive does not have the form of the container's."""


class Inflater:
    """Inflates the first member of a ZIP, which must have a given name, while it streams: see docs/protocol.md#the-zip.

    `zipfile` needs the whole archive first, because its directory is at the end. The container's archives have one
    deflated member, so its local header is enough. The caller compares the SHA-256 of the inflated bytes.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._head: bytes | None = b""
        self._inflater = isal_zlib.decompressobj(wbits=-15)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take the archive's next bytes, and yield inflated ones, at most 4 MiB at a time.

        Raises:
            OtherArchiveError: The archive does not begin with a deflated member of that name.
            DamagedError: The deflated bytes are corrupt.
        """
        if self._head is not None:
            self._head += data
            start = _data_start(self._head, self._name)
            if start is None:
                return
            data, self._head = self._head[start:], None
        # Output may be left when all input is taken, and what follows the member is none of it.
        while not self._inflater.eof and (inflated := self._inflater.decompress(data, _OUTPUT_BYTES)):
            yield inflated
            data = self._inflater.unconsumed_tail

    def finish(self) -> None:
        """End the archive.

        Raises:
            DamagedError: It ends inside its member.
        """
        if not self._inflater.eof:
            raise DamagedError("it ends inside its member")


def _data_start(head: bytes, name: str) -> int | None:
    """Where the deflated bytes begin, or None while the header is incomplete."""
    if len(head) < _LOCAL_HEADER.size:
        return None
    signature, _, flags, method, _, _, _, _, _, name_length, extra_length = _LOCAL_HEADER.unpack_from(head)
    if signature != _SIGNATURE:
        raise OtherArchiveError("it does not begin with a member")
    if flags & _ENCRYPTED or method != _DEFLATED:
        raise OtherArchiveError(f"its member is not deflated (method {method}, flags {flags:#x})")
    if len(head) < _LOCAL_HEADER.size + name_length:
        return None
    if head[_LOCAL_HEADER.size :][:name_length] != name.encode():
        raise OtherArchiveError(f"its member is not named {name!r}")
    start = int(_LOCAL_HEADER.size + name_length + extra_length)
    return start if len(head) >= start else None
