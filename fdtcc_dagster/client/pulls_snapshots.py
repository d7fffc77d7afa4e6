"""`pull`, its two halves `request` and `fetch`, and `check`: typed errors, verified files, flat memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from fdtcc_dagster.background import wait_for
from fdtcc_dagster.client.callbacks import UNOBSERVED, OnMessage, OnProgress, PullObserver, checked_callable
from fdtcc_dagster.client.check import ContainerCheck, check_container
from fdtcc_dagster.client.download import Transport
from fdtcc_dagster.client.protocol import Message, MissingVersion
from fdtcc_dagster.client.pull import Puller, check_name
from fdtcc_dagster.client.snapshot import Announcement, ArrivingSnapshot, Snapshot
from fdtcc_dagster.evidence import Evidence
from fdtcc_dagster.window import Window


class PullsSnapshots:
    """The methods of the client that the reference client does not have."""

    _puller: Puller

    async def check(self, names: str | Sequence[str] = ()) -> ContainerCheck:
        """Find out whether the container can be used, how long its handshake takes, and which names it knows.

        Everything is tried once. Names are asked for without a pull. For a dataset of which the container has no
        version, it may begin to count the rows in Foundry, and no more: see docs/protocol.md#which-names-are-known.

        Args:
            names: The datasets to ask for: a name, or several.

        Returns:
            What was found.

        Raises:
            ValueError: A name is empty or no text.
            ServiceUnavailableError: It cannot be used; the message says whether nobody is there, something else is,
                only one side uses TLS, a token is refused, or it is up but too slow.
            ServiceConnectionLostError: The connection ended before it had answered.
            IdleTimeoutError: It did not say within `open_timeout` which names it knows.
            ProtocolError: It answers something that its protocol does not know.
        """
        wanted = [check_name(name) for name in ([names] if isinstance(names, str) else names)]
        return await check_container(self._puller.settings, wanted)

    async def pull(
        self,
        name: str,
        from_dt: datetime | str,
        to_dt: datetime | str,
        *,
        directory: Path | str,
        on_message: OnMessage | None = None,
        transport: Transport = "csv",
        missing_version: MissingVersion = "raise",
        now: datetime | None = None,
        on_progress: OnProgress | None = None,
        on_notice: OnMessage | None = None,
        evidence: Evidence | None = None,
    ) -> Snapshot:
        """Pull one dataset into a verified CSV file, in flat memory.

        Args:
            name: The dataset's name.
            from_dt: The window's first instant, an aware datetime or an ISO 8601 string with an offset.
            to_dt: The instant after the window's last one, likewise.
            directory: An existing directory for the CSV; a failure leaves nothing in it.
            on_message: Called with every message of the container as it arrives, RIDs and uuids redacted.
            transport: `"csv"`, or `"zip"` for links of less than some 300 MB/s.
            missing_version: For a window that does not contain `now`: `"raise"` closes the connection as soon as the
                container says that it has no version of it, `"accept"` takes today's data.
            now: The current aware instant; None asks the clock.
            on_progress: Called about once a second of the download with the number of bytes that have arrived, as they
                travel, and with their total, or None where the service does not tell it.
            on_notice: Called with what the client itself waits for, as a message of type `"client"`: another pull of
                the dataset that has to end, or, with `success` False, the time before another attempt or a message
                that it does not understand.
            evidence: Keeps how many rows the container announced and the CSV had, for all requests to come; by default
                in files of this user. See `fdtcc_dagster.evidence`.

        Returns:
            The snapshot; its file belongs to the caller.

        Raises:
            ValueError: An argument is not of the kind described here; raised before any work, as is:
            NotYetAvailableError: The window has not begun.
            ServiceUnavailableError: The container cannot be reached, refuses, or answers a download with a failure.
            ServiceConnectionLostError: The connection ended before the result or inside the download.
            IdleTimeoutError: The container stayed silent for longer than the limits allow.
            DatasetNotFoundError: It does not know the name.
            DatasetRetrievalError: Its own job failed, or the CSV is larger than `max_bytes`.
            EmptyDatasetError: The dataset has no rows.
            NoVersionInWindowError: A past window has no version, or the pull ended after its window.
            RowCountMismatchError: An earlier request found that the container's version has lost rows. If the window
                contains now, the client has asked the container for another one.
            ChecksumMismatchError: What arrived is not what was announced, in every attempt.
            ProtocolError: It said something that its protocol does not know.
            OSError: The file cannot be written, or would fill the disk.
        """
        _check_directory(directory)
        _check_transport(transport)
        _check_callbacks(on_message=on_message, on_progress=on_progress, on_notice=on_notice)
        observer = PullObserver(on_message, on_progress, on_notice)
        announcement = await self.request(
            name,
            from_dt,
            to_dt,
            missing_version=missing_version,
            now=now,
            evidence=evidence,
            observer=observer,
        )
        return await self.fetch(ArrivingSnapshot.of(announcement, directory), transport=transport, observer=observer)

    def pull_sync(
        self,
        name: str,
        from_dt: datetime | str,
        to_dt: datetime | str,
        *,
        directory: Path | str,
        on_message: Callable[[Message], None] | None = None,
        transport: Transport = "csv",
        missing_version: MissingVersion = "raise",
        now: datetime | None = None,
        on_progress: Callable[[int, int | None], None] | None = None,
        on_notice: Callable[[Message], None] | None = None,
        evidence: Evidence | None = None,
    ) -> Snapshot:
        """Pull one dataset from code that is not async, also where an event loop is running; see `pull`.

        The arguments, the result and the errors are those of `pull`. The callbacks are functions that are called in
        this thread. An interrupt of this thread, such as Ctrl-C or Dagster's on termination, closes the socket and
        removes what has arrived before it is raised.

        Returns:
            The snapshot; its file belongs to the caller.
        """
        _check_callbacks(on_message=on_message, on_progress=on_progress, on_notice=on_notice)

        async def work(report: Callable[[Callable[[], None]], Any]) -> Snapshot:
            def here(function: Callable[..., None] | None) -> Callable[..., Any] | None:
                return None if function is None else lambda *told: report(partial(function, *told))

            return await self.pull(
                name,
                from_dt,
                to_dt,
                directory=directory,
                on_message=here(on_message),
                transport=transport,
                missing_version=missing_version,
                now=now,
                on_progress=here(on_progress),
                on_notice=here(on_notice),
                evidence=evidence,
            )

        return wait_for(work, lambda call: call())

    async def request(
        self,
        name: str,
        from_dt: datetime | str,
        to_dt: datetime | str,
        *,
        missing_version: MissingVersion = "raise",
        now: datetime | None = None,
        evidence: Evidence | None = None,
        observer: PullObserver = UNOBSERVED,
    ) -> Announcement:
        """Have the container find or pull one dataset, and say which snapshot that is: the first half of `pull`.

        The arguments and errors are those of `pull`; the observer has its callbacks. Of one dataset, only one request
        at a time is made.

        Returns:
            What the container announced; `ArrivingSnapshot.of` and `fetch` download it.
        """
        window = Window.of(from_dt, to_dt)
        return await self._puller.request(name, window, missing_version, now, evidence, observer)

    async def fetch(
        self,
        arriving: ArrivingSnapshot,
        *,
        transport: Transport = "csv",
        observer: PullObserver = UNOBSERVED,
    ) -> Snapshot:
        """Download what the container announced, and verify it: the second half of `pull`.

        The errors are those of `pull`. When the download ends for any reason, `arriving` is closed, and a reader that
        waits for more gets the error, too.

        Args:
            arriving: What `ArrivingSnapshot.of` made of the announcement, fetched once. Its rows may be read in other
                threads meanwhile.
            transport: As for `pull`.
            observer: The callbacks of `pull`.

        Returns:
            The snapshot; its file belongs to the caller.
        """
        _check_transport(transport)
        return await self._puller.fetch(arriving, transport, observer)


def _check_callbacks(**callbacks: object) -> None:
    """Check that callbacks are functions or None, before anything is asked for."""
    for name, function in callbacks.items():
        if function is not None:
            checked_callable(name, function)


def _check_directory(directory: object) -> None:
    """Check that a directory exists."""
    if not isinstance(directory, (str, Path)):
        raise ValueError(f"directory={directory!r} must be a path")
    if not Path(directory).is_dir():
        raise ValueError(f"directory={str(directory)!r} is not an existing directory")


def _check_transport(transport: object) -> None:
    """Check that a transport is one that we know."""
    if transport not in ("csv", "zip"):
        raise ValueError(f"transport={transport!r} must be 'csv' or 'zip'")
