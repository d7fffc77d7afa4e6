"""The core of the client: one dataset, one window, one verified file, and typed errors.

What the container does with a job whose client has gone: docs/protocol.md#when-a-client-goes-away.
"""

from __future__ import annotations

import asyncio
import copy
import errno
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from fdtcc_dagster.client.callbacks import UNOBSERVED, Log, PullObserver, call
from fdtcc_dagster.client.clock import AwakeClock, watched
from fdtcc_dagster.client.database_lock import Check
from fdtcc_dagster.client.download import Transport, download
from fdtcc_dagster.client.local_evidence import LocalEvidence
from fdtcc_dagster.client.locks import exclusive
from fdtcc_dagster.client.protocol import Conversation, Message, MissingVersion, Pointer, check_missing_version
from fdtcc_dagster.client.retry import retrying
from fdtcc_dagster.client.settings import ClientSettings
from fdtcc_dagster.client.snapshot import Announcement, ArrivingSnapshot, Snapshot
from fdtcc_dagster.client.spool_file import SpoolFile
from fdtcc_dagster.errors import (
    FdtccError,
    NotYetAvailableError,
    NoVersionInWindowError,
    ServiceConnectionLostError,
)
from fdtcc_dagster.evidence import Evidence, PendingCount, RowCount, lost_rows
from fdtcc_dagster.redaction import LOGGED, excerpt, redact
from fdtcc_dagster.window import Window

T = TypeVar("T")

_LEAST_LOCK_TIMEOUT = 10.0
"""For so many seconds a busy machine may keep the holder of a dataset's lock from a heartbeat."""
_SILENCES, _LEAST_SILENCE = 10, 1.0
"""Silence is said in so many parts of `idle_timeout`, and not within so many seconds."""


@dataclass(frozen=True)
class _Ask:
    """What is asked of the container, and for whom; see `FoundryDevToolsContainerClient.request`."""

    name: str
    window: Window
    missing_version: MissingVersion
    fixed_now: datetime | None
    evidence: Evidence
    observer: PullObserver

    def now(self) -> datetime:
        return self.fixed_now or datetime.now(timezone.utc)


@dataclass(frozen=True)
class Puller:
    """Pulls from one container.

    Attributes:
        settings: Those of the client.
        log: Called with every step.
        warn: Called with every failed attempt.
    """

    settings: ClientSettings
    log: Log
    warn: Log

    async def request(
        self,
        name: str,
        window: Window,
        missing_version: MissingVersion,
        now: datetime | None,
        evidence: Evidence | None,
        observer: PullObserver,
    ) -> Announcement:
        """Implements `FoundryDevToolsContainerClient.request`."""
        evidence = evidence or LocalEvidence(self.settings.endpoint.identity, name)
        ask = _Ask(name, window, missing_version, now, evidence, observer)
        _check_request(name, window, missing_version, ask.now())
        with _located(name, window):
            # The lock is kept between attempts: the job that one has left behind may still run.
            async with self.exclusive(name, observer) as check:
                pending = ask.evidence.pending(window)
                announcement, now = await self._ask(ask, window, pending), ask.now()
                if (doubt := _doubt(announcement, pending)) and window.contains(now):
                    await self._notice(observer, f"{doubt}; the container is asked to pull anew")
                    # In a window that begins now it has no version yet: it counts the rows and pulls them.
                    announcement = await self._ask(ask, Window(now, window.to_dt), None)
                check()
        if (rejected := _rejection(announcement)) is not None:
            announced = announcement.announced_rows if rejected.announced is None else rejected.announced
            raise lost_rows(name, window, announcement.sha256, announced, rejected.found or 0)
        if announcement.announced_rows is not None and announcement.is_certain:
            ask.evidence.announce(announcement.sha256, announcement.announced_rows)
            ask.evidence.settle(window)
        return announcement

    def note(self, conversation: Conversation) -> None:
        """Keep how many rows the container announced, at the end of a conversation that was not for a pull."""
        outcome = conversation.outcome
        if isinstance(outcome, Pointer) and outcome.announced_rows is not None:
            evidence = LocalEvidence(self.settings.endpoint.identity, conversation.dataset)
            evidence.announce(outcome.sha256, outcome.announced_rows)

    async def _ask(self, ask: _Ask, window: Window, pending: PendingCount | None) -> Announcement:
        """Ask in a window: that of the request, or what is left of it."""
        started = time.monotonic()
        announced = None if pending is None else pending.rows

        async def converse_once() -> Announcement:
            nonlocal announced
            # Only now: waiting for another pull, or for another attempt, may have lasted beyond the window.
            requested_at = ask.now()
            conversation = Conversation(
                ask.name, window, now=requested_at, missing_version=ask.missing_version, announced_rows=announced
            )
            try:
                pointer = await self._converse(conversation, ask)
            finally:
                # A version that the next attempt finds is the one that this attempt has caused.
                announced = conversation.announced_rows
            rows, is_certain = pointer.announced_rows, conversation.has_announced
            if not is_certain and (known := ask.evidence.row_count(pointer.sha256)) and known.announced is not None:
                rows, is_certain = known.announced, True
            return Announcement(
                dataset=ask.name,
                window=ask.window,
                sha256=pointer.sha256,
                announced_rows=rows,
                origin=pointer.origin,
                requested_at=requested_at,
                announced_at=ask.now(),
                seconds=time.monotonic() - started,
                evidence=ask.evidence,
                is_certain=is_certain or rows is None,
                max_record_bytes=self.settings.max_record_bytes,
            )

        announcement = await self._retrying(converse_once, self.settings.job_timeout, ask.observer, settle=True)
        if announcement.is_outside and ask.missing_version == "raise":
            raise NoVersionInWindowError(
                f"dataset {ask.name!r}, window {ask.window}: the container was asked at "
                f"{announcement.requested_at.isoformat()}, but its pull ended only at "
                f"{announcement.announced_at.isoformat()}, after the window: these may be the data of the next one. "
                'Ask earlier in the window, or set missing_version="accept" on the dataset to store them all the same',
                dataset=ask.name,
                window=ask.window,
            )
        return announcement

    async def fetch(self, arriving: ArrivingSnapshot, transport: Transport, observer: PullObserver) -> Snapshot:
        """Implements `FoundryDevToolsContainerClient.fetch`."""
        started = time.monotonic()
        known, file = arriving.announcement, arriving.file
        with _located(known.dataset, known.window):
            try:
                await self.download(file, transport, observer)
            except OSError as error:
                raise _unwritten(error, known, file.path.parent) from error
        took = time.monotonic() - started
        more = {"seconds": known.seconds + took, "download_seconds": took, "path": file.path, "size_bytes": file.size}
        return Snapshot(**{**vars(known), **more})

    async def _converse(self, conversation: Conversation, ask: _Ask) -> Pointer:
        # Here, because websockets takes long to import: code locations load without it.
        from fdtcc_dagster.client.websocket import connected, converse

        asked_at = ask.now()
        pending: PendingCount | None = None
        try:
            async with connected(self.settings) as connection:
                await self.log(f"Requesting {conversation.dataset!r}, window {conversation.window}")
                async with (
                    aclosing(converse(connection, conversation.request(), self.settings)) as received,
                    aclosing(self._noticing_silence(received, ask.observer)) as frames,
                ):
                    async for frame in frames:
                        message = conversation.receive(frame)
                        if conversation.has_announced and pending is None and conversation.window.contains(asked_at):
                            rows = conversation.announced_rows or 0
                            pending = PendingCount(rows, conversation.window.from_dt, asked_at)
                            ask.evidence.expect(pending)
                        await self._show(message, conversation, ask.observer)
                        if conversation.outcome is not None:
                            break
        except ServiceConnectionLostError as error:
            conversation.closed(str(error))
        finally:
            outcome = conversation.outcome
            if pending is not None and (outcome is None or isinstance(outcome, ServiceConnectionLostError)):
                ask.evidence.leave(pending)
            elif pending is not None and not isinstance(outcome, Pointer):
                ask.evidence.settle(conversation.window)
        if isinstance(conversation.outcome, Pointer):
            return conversation.outcome
        raise conversation.outcome or AssertionError("a conversation ends with an outcome or an exception")

    async def _show(self, message: Message | None, conversation: Conversation, observer: PullObserver) -> None:
        if message is not None:
            await self.log(f"Received: {excerpt(message, LOGGED)}")
            await call(self.settings.idle_timeout, observer.on_message, message)
        while conversation.warnings:
            await self._notice(observer, conversation.warnings.pop(0))

    async def _noticing_silence(
        self, frames: AsyncGenerator[T, None], observer: PullObserver
    ) -> AsyncGenerator[T, None]:
        """Yield frames, and say each time that a tenth of `idle_timeout` has passed without the next one."""
        limit = self.settings.idle_timeout
        silence = max(limit / _SILENCES, _LEAST_SILENCE)
        with AwakeClock() as clock:
            while True:
                following, began = watched(anext(frames)), clock()
                said = began
                try:
                    while not following.done():
                        await asyncio.wait({following}, timeout=max(said + silence - clock(), 0))
                        if not following.done() and (now := clock()) >= said + silence:
                            said = now
                            text = f"No message of the container for {now - began:.0f} s; gives up after {limit:g} s"
                            await self._notice(observer, text, success=True)
                finally:
                    # `frames` can be closed only when nobody waits for the next one.
                    following.cancel()
                    await asyncio.wait({following})
                yield following.result()

    async def download(self, file: SpoolFile, transport: Transport, observer: PullObserver = UNOBSERVED) -> None:
        """Download and verify a CSV; see `fdtcc_dagster.client.download.download`."""

        async def download_once() -> None:
            await download(self.settings, file, transport=transport, observer=observer)

        try:
            await self._retrying(download_once, self.settings.transfer_timeout, observer)
        except BaseException as error:
            file.close(error)
            raise
        file.close()

    async def _retrying(
        self,
        attempt: Callable[[], Awaitable[T]],
        within: float,
        observer: PullObserver,
        *,
        settle: bool = False,
    ) -> T:
        async def on_retry(error: FdtccError, number: int, seconds: float) -> None:
            tried = f"attempt {number} of {self.settings.attempts} failed"
            await self._notice(observer, f"{tried}, next one in {seconds:.1f} s: {error}")

        return await retrying(
            attempt,
            attempts=self.settings.attempts,
            within=within,
            delay=self.settings.retry_delay,
            on_retry=on_retry,
            settle=settle,
        )

    async def _notice(self, observer: PullObserver, text: str, *, success: bool = False) -> None:
        """Log what the client waits for, and tell it in the form of the container's messages."""
        await (self.log if success else self.warn)(text)
        message = {"type": "client", "success": success, "message": redact(text)}
        await call(self.settings.idle_timeout, observer.on_notice, message)

    def exclusive(self, name: str, observer: PullObserver = UNOBSERVED) -> AbstractAsyncContextManager[Check]:
        """Hold the lock of a dataset; see `fdtcc_dagster.client.locks`."""

        async def on_wait() -> None:
            await self._notice(observer, f"Waiting for another pull of {name!r} to end", success=True)

        timeout = max(self.settings.idle_timeout, _LEAST_LOCK_TIMEOUT)
        return exclusive(self.settings.endpoint.identity, name, on_wait, timeout, self.settings.lock_database)


def check_name(name: object) -> str:
    """Check the name of a dataset.

    Raises:
        ValueError: It is not a string, it is empty, or it is a RID or a uuid: the container knows names only, and names
            are written into logs and errors.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"a dataset's name must be a string that is not empty, not {name!r}")
    if redact(name) != name:
        raise ValueError("a dataset's name is needed, as in the container's foundry_datasets.toml, not a RID or a uuid")
    return name


def _check_request(name: str, window: Window, missing_version: str, now: datetime) -> None:
    check_name(name)
    check_missing_version(missing_version)
    if not isinstance(now, datetime) or now.utcoffset() is None:
        raise ValueError(f"now={now!r} has no time zone; give an aware datetime, or leave it out")
    if now < window.from_dt:
        raise NotYetAvailableError(
            f"dataset {name!r}, window {window}: its data are available from {window.from_dt.isoformat()}, "
            f"and it is {now.isoformat()}; try again then",
            dataset=name,
            window=window,
            available_at=window.from_dt,
        )


def _doubt(announcement: Announcement, pending: PendingCount | None) -> str | None:
    """Why a version that the container had recorded may have lost rows."""
    if announcement.origin != "cached":
        return None
    version = f"The version {announcement.sha256[:12]}… "
    if _rejection(announcement):
        return f"{version}has lost rows"
    if not announcement.is_certain and pending is not None and pending.contradicted:
        return f"{version}may have lost rows: its number was announced before a connection was lost, and it has others"
    return None


def _rejection(announcement: Announcement) -> RowCount | None:
    """What is wrong with a snapshot that has lost rows, unless the container has just counted as many."""
    known = announcement.evidence.row_count(announcement.sha256)
    if known is None or not known.rejected:
        return None
    fits = announcement.origin == "fetched" and announcement.announced_rows == known.found
    return None if fits else known


def _unwritten(error: OSError, known: Announcement, directory: Path) -> OSError:
    return OSError(
        error.errno or errno.EIO,
        f"dataset {known.dataset!r}, window {known.window}: the snapshot's CSV cannot be written "
        f"({error.strerror or error}); make room, or give another directory",
        str(directory),
    )


@contextmanager
def _located(name: str, window: Window) -> Iterator[None]:
    """Add the dataset and the window to errors."""
    try:
        yield
    except FdtccError as error:
        if error.dataset is not None:
            raise
        located = copy.copy(error)
        located.args = (f"dataset {name!r}, window {window}: {error}",)
        located.dataset, located.window = name, window
        raise located from error
