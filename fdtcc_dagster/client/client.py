"""The client of the Foundry DevTools Container: the documented methods of the reference client, on top of `pull`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import EllipsisType
from typing import Any, Literal

import polars as pl

from fdtcc_dagster.client.callbacks import OuterWebSocket, awaitable, call, checked_callable
from fdtcc_dagster.client.protocol import (
    Conversation,
    Message,
    MissingVersion,
    check_missing_version,
    check_pointer,
    is_terminal,
    parse_frame,
    request_all,
)
from fdtcc_dagster.client.pull import Puller, check_name
from fdtcc_dagster.client.pulls_snapshots import PullsSnapshots
from fdtcc_dagster.client.settings import ClientSettings
from fdtcc_dagster.client.spool import spool_directory
from fdtcc_dagster.client.spool_file import SpoolFile
from fdtcc_dagster.errors import FdtccError, IdleTimeoutError, ProtocolError, ServiceConnectionLostError
from fdtcc_dagster.pandas_csv.schema import SchemaLike, to_overrides
from fdtcc_dagster.pandas_csv.source import CsvSource
from fdtcc_dagster.redaction import LOGGED, MOST_SHOWN, excerpt, listed, redact
from fdtcc_dagster.window import Window

logger = logging.getLogger("fdtcc_dagster.client")


LogFunc = Callable[["FoundryDevToolsContainerClient", str], Awaitable[None] | None]
"""`log_func(client, message)`, sync or async."""

ResponseFunc = Callable[["FoundryDevToolsContainerClient", Any, Message], Awaitable[None] | None]
"""`response_func(client, outer_ws, message)`, sync or async."""


class FoundryDevToolsContainerClient(PullsSnapshots):
    """A client of the Foundry DevTools Container; `FDTCC` for short.

    Args:
        host: The container's host: a name, or an IPv4 or IPv6 address.
        port: Its port. 8000 is the default of the reference client; the container's own image listens on 8888.
        log: Whether `default_logger` logs.
        log_func: `log_func(client, message)`, sync or async; it may use `client.host`, `client.port` and `client.log`.
        missing_version: What `get_single` does if a past window has no version: `"accept"` returns today's data, as the
            reference client does, and logs a warning; `"raise"` makes it fail. See
            docs/protocol.md#no-version-in-the-window.
        open_timeout: Seconds for a connection and its handshake.
        idle_timeout: Seconds without any frame or byte from the container.
        job_timeout: Seconds for a whole conversation.
        attempts: How often a conversation or a download is tried at most if a failure is retryable.
        retry_delay: Seconds before the second attempt; the delay doubles each time, up to a minute. No attempt begins
            when `job_timeout` (for a download: `transfer_timeout`) has passed since the first one did. See
            `fdtcc_dagster.client.retry`.
        secure: Whether a reverse proxy in front of the container uses TLS (`https`, `wss`). Its certificate and host
            name are then verified.
        ca_file: With `secure`: a PEM file with the certificates of the authorities to trust, instead of the system's.
        headers: Headers that the proxy needs, sent with the handshake and each download, and never shown.
        bearer_token: The same for `Authorization: Bearer <token>`.
        transfer_timeout: Seconds for a whole download.
        max_bytes: Bytes of a snapshot's CSV beyond which its download is aborted, compressed or not.
        max_handshakes: How many handshakes with the container there may be at a time, in all processes of this user on
            this machine; the others wait. The container spends 1.5 seconds of processor time on each, and drops one
            that takes 10 seconds.
        lock_database: The URL of a Postgres database, such as `postgresql://user:password@host:5432/database`, that
            keeps the pulls of several machines apart: then no two of them converse with the container about one
            dataset at a time, and `max_handshakes` is the limit of all of them. All must give the container by the same
            host and port. None: each machine for itself. See docs/scaling.md.
        max_record_bytes: Bytes of one record of a snapshot's CSV beyond which reading it fails: a record is held in
            memory as a whole.

    Raises:
        ValueError: An argument is not valid.
    """

    def __init__(
        self,
        host: str = ClientSettings.host,
        port: int = ClientSettings.port,
        log: bool = False,
        log_func: LogFunc | EllipsisType | None = ...,
        *,
        missing_version: MissingVersion = "accept",
        open_timeout: float = ClientSettings.open_timeout,
        idle_timeout: float = ClientSettings.idle_timeout,
        job_timeout: float = ClientSettings.job_timeout,
        attempts: int = ClientSettings.attempts,
        retry_delay: float = ClientSettings.retry_delay,
        secure: bool = ClientSettings.secure,
        ca_file: str | Path | None = ClientSettings.ca_file,
        headers: Mapping[str, str] | None = ClientSettings.headers,
        bearer_token: str | None = ClientSettings.bearer_token,
        transfer_timeout: float = ClientSettings.transfer_timeout,
        max_bytes: int = ClientSettings.max_bytes,
        max_handshakes: int = ClientSettings.max_handshakes,
        max_record_bytes: int = ClientSettings.max_record_bytes,
        lock_database: str | None = ClientSettings.lock_database,
    ) -> None:
        check_missing_version(missing_version)
        settings = ClientSettings(
            host,
            port,
            secure=secure,
            ca_file=ca_file,
            headers=headers,
            bearer_token=bearer_token,
            open_timeout=open_timeout,
            idle_timeout=idle_timeout,
            job_timeout=job_timeout,
            transfer_timeout=transfer_timeout,
            attempts=attempts,
            retry_delay=retry_delay,
            max_bytes=max_bytes,
            max_handshakes=max_handshakes,
            max_record_bytes=max_record_bytes,
            lock_database=lock_database,
        )
        self.host = settings.endpoint.host
        self.port = port
        self.log = log
        if log:
            _make_visible()
        self.missing_version: MissingVersion = missing_version
        self._logs_itself = isinstance(log_func, EllipsisType) or log_func is None
        function = FoundryDevToolsContainerClient.default_logger if self._logs_itself else log_func
        # The documented examples await `self.log_func(self, …)` even where the function is sync.
        self.log_func: Callable[[FoundryDevToolsContainerClient, str], Awaitable[None]] = awaitable(
            checked_callable("log_func", function)
        )
        self._puller = Puller(settings, log=self._log, warn=self._log_failure)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(host={self.host!r}, port={self.port})"

    async def get(
        self,
        outer_ws: OuterWebSocket | None,
        names: str | Sequence[str],
        response_func: ResponseFunc | EllipsisType | None = ...,
    ) -> None:
        """Have the container pull one or several datasets now, and stream its messages.

        A failure is logged and given to `response_func` as a message of type `error`; nothing is raised for it. An
        empty list of names is such a failure.

        Args:
            outer_ws: The socket that the messages are for; passed to `response_func`.
            names: A dataset's name, or several. For several, the container's last message has the result of the first
                one only, and it drops unknown names if one is known.
            response_func: Called with every message; by default `default_send_message`. None: not called.

        Raises:
            ValueError: `names` contains something else than names.
        """
        if not isinstance(names, (str, Sequence)):
            raise ValueError(f"names={names!r} must be a dataset's name or a list of names")
        wanted = [check_name(name) for name in ([names] if isinstance(names, str) else names)]
        # Here, because websockets takes long to import: code locations load without it.
        from fdtcc_dagster.client.websocket import connected, converse

        respond = self._responder(outer_ws, response_func)
        last = "nothing"
        try:
            if not wanted:
                raise ProtocolError("names is empty: give at least one dataset's name")
            async with AsyncExitStack() as stack:
                for name in sorted(set(wanted)):
                    await stack.enter_async_context(self._puller.exclusive(name))
                connection = await stack.enter_async_context(connected(self._puller.settings))
                now = datetime.now(timezone.utc)
                request = request_all(wanted, now)
                # The last message has the result of the first name only: docs/protocol.md#several-names.
                first = Conversation(
                    wanted[0], Window(now, now + timedelta(seconds=1)), now=now, missing_version="accept"
                )
                frames = await stack.enter_async_context(aclosing(converse(connection, request, self._puller.settings)))
                async for frame in frames:
                    message = parse_frame(frame)
                    shown: Message = redact(message, MOST_SHOWN)
                    last = excerpt(shown.get("message", ""))
                    if len(wanted) == 1:
                        first.receive(frame)
                        self._puller.note(first)
                    await self._watch_names(message, shown, wanted)
                    await respond(shown)
                    if is_terminal(message):
                        return
        except FdtccError as error:
            text = str(error)
            if isinstance(error, ServiceConnectionLostError):
                text = f"the connection ended ({error}) before a result; the last message was: {last}. Try again"
            await self._log_failure(f"get({', '.join(map(repr, wanted))}) failed: {text}")
            with suppress(Exception):  # the reader of the messages may be gone, and the log has it
                await respond({"type": "error", "success": False, "message": text})
        except Exception as error:  # noqa: BLE001 (as documented: a failure is logged, also one of response_func)
            await self._log_failure(f"get({', '.join(map(repr, wanted))}) failed: {error}")

    async def get_single(
        self,
        outer_ws: OuterWebSocket | None,
        name: str,
        from_dt: datetime | str,
        to_dt: datetime | str,
        response_func: ResponseFunc | EllipsisType | None = ...,
        schema_overwrite: SchemaLike | EllipsisType | None = ...,
        use_zip: bool = False,
    ) -> tuple[pl.DataFrame, bool]:
        """Pull one dataset into a DataFrame.

        Args:
            outer_ws: The socket that the messages are for; handed to `response_func`.
            name: The dataset's name.
            from_dt: The window's first instant, a datetime or an ISO 8601 string; without a zone it is in UTC.
            to_dt: The instant after the window's last one, likewise.
            response_func: Called with every message but the last, `final` one, as in the reference client; by default
                `default_send_message`. None: not called.
            schema_overwrite: Column → Polars data type; the types of all other columns are inferred over the whole
                file.
            use_zip: Whether the data travel compressed.

        Returns:
            The rows and True; or an empty DataFrame and False after a failure, whose cause is logged.

        Raises:
            ValueError: A bound is not a timestamp, the window is empty or inverted, the name is empty, or a data type
                is unknown.
        """
        window = Window.of(from_dt, to_dt, naive=timezone.utc)
        check_name(name)
        overrides = to_overrides(schema_overwrite)
        respond_to_all = self._responder(outer_ws, response_func)

        async def respond(message: Message) -> None:
            if message.get("type") != "final":
                await respond_to_all(message)

        try:
            with spool_directory() as directory:
                snapshot = await self.pull(
                    name,
                    window.from_dt,
                    window.to_dt,
                    directory=directory,
                    on_message=respond,
                    transport="zip" if use_zip else "csv",
                    missing_version=self.missing_version,
                )
                if snapshot.is_outside:
                    await self._log_failure(
                        f"dataset {name!r}: the window {window} has no version, so these are today's data; "
                        'missing_version="raise" refuses them'
                    )
                return await asyncio.to_thread(snapshot.source.collect, overrides), True
        except Exception as error:  # noqa: BLE001 (the documented face reports every failure by its False)
            await self._log_failure(f"get_single({name!r}) failed: {error}")
            return pl.DataFrame(), False

    async def download(
        self, sha256: str, schema_overwrite: SchemaLike | EllipsisType | None = ..., use_zip: bool = False
    ) -> tuple[pl.DataFrame, Literal[True]] | tuple[Literal["Failed"], Literal[False]]:
        """Download the CSV of a pointer into a DataFrame.

        Args:
            sha256: The pointer, 64 hex digits.
            schema_overwrite: Column → Polars data type; the types of all other columns are inferred over the whole
                file.
            use_zip: Whether the data travel compressed.

        Returns:
            The rows and True; or `("Failed", False)` after a failure, whose cause is logged.

        Raises:
            ValueError: `sha256` is no pointer, or a data type is unknown.
        """
        pointer = check_pointer(sha256)
        overrides = to_overrides(schema_overwrite)
        try:
            with spool_directory() as directory:
                file = SpoolFile(directory, pointer)
                await self._puller.download(file, "zip" if use_zip else "csv")
                source = CsvSource(file.open, max_record_bytes=self._puller.settings.max_record_bytes)
                frame = await asyncio.to_thread(source.collect, overrides)
            await self._log(f"Downloaded and parsed {pointer}")
        except (FdtccError, OSError, pl.exceptions.PolarsError) as error:
            await self._log_failure(f"download({pointer}) failed: {error}")
            return "Failed", False
        return frame, True

    async def _watch_names(self, message: Message, shown: Message, wanted: Sequence[str]) -> None:
        await self._log(f"Received: {excerpt(shown, LOGGED)}")
        accepted = message.get("datasets")
        if message.get("type") == "update" and isinstance(accepted, list):
            unknown = [name for name in wanted if name not in accepted]
            if unknown:
                await self._log_failure(f"the container does not know, and leaves out, {listed(unknown)}")

    def _responder(
        self, outer_ws: OuterWebSocket | None, response_func: ResponseFunc | EllipsisType | None
    ) -> Callable[[Message], Awaitable[None]]:
        function: ResponseFunc | None = None
        if isinstance(response_func, EllipsisType):
            function = FoundryDevToolsContainerClient.default_send_message
        elif response_func is not None:
            function = checked_callable("response_func", response_func)

        async def respond(message: Message) -> None:
            await call(self._puller.settings.idle_timeout, function, self, outer_ws, message)

        return respond

    async def _log(self, message: str) -> None:
        try:
            await call(self._puller.settings.idle_timeout, self.log_func, self, message)
        except IdleTimeoutError:
            logger.warning("log_func does not return, and is not called any more", exc_info=True)
            self.log_func = awaitable(lambda *_: None)
        except Exception:  # a logger that fails must not end a pull
            logger.warning("log_func failed", exc_info=True)

    async def _log_failure(self, message: str) -> None:
        logger.warning(message)
        if not self._logs_itself:
            await self._log(message)

    @staticmethod
    async def default_send_message(
        self: FoundryDevToolsContainerClient, outer_ws: OuterWebSocket | None, message: Message
    ) -> None:
        """Send a message on as `{"message": message}`; an outer socket that is gone does not end the pull.

        Args:
            self: The client; given explicitly, since this is a static method.
            outer_ws: The socket, or None for nobody.
            message: The container's message.
        """
        if outer_ws is None:
            return
        try:
            await outer_ws.send_json({"message": message})
        except Exception as error:  # noqa: BLE001 (every kind of outer socket fails in its own way)
            await self.log_func(self, f"Error sending message: {error}")

    @staticmethod
    async def default_logger(self: FoundryDevToolsContainerClient, message: str) -> None:
        """Log a message at level INFO to the logger `fdtcc_dagster.client` if `log` is set.

        Args:
            self: The client; given explicitly, since this is a static method.
            message: What happened.
        """
        if self.log:
            logger.info(message)


FDTCC = FoundryDevToolsContainerClient
"""The short name of `FoundryDevToolsContainerClient`."""


def _make_visible() -> None:
    """Show messages of level INFO on the console, unless the program has set up logging already."""
    if not logger.hasHandlers():
        logger.addHandler(logging.StreamHandler())
        logger.setLevel(logging.INFO)
