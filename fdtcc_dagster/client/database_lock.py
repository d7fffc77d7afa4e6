"""Locks in a Postgres database: they keep the pulls of several machines apart, as file locks do on one machine.

Each lock is an advisory lock of a session of its own, so the server frees it as soon as its holder dies, and after some
seconds if the holder's machine does. A heartbeat on that session shows the holder that the lock is still its own, and
shows the server that the holder runs: the server ends a session without heartbeats.

A session that is lost, as in a restart of the server, is opened anew at once, and takes the lock again before others
may take it. If another holder has it all the same, the pull fails, because its snapshot may be corrupt.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from fdtcc_dagster.client.clock import AwakeClock, settled
from fdtcc_dagster.errors import ServiceConnectionLostError, ServiceUnavailableError
from fdtcc_dagster.redaction import excerpt, redact

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from typing_extensions import LiteralString

_POLL_SECONDS = 0.5
_HEARTBEAT_SECONDS = 5.0
_RETAKE_SECONDS = 0.1
"""Between attempts to take the lock again: shorter than those of others, who poll."""
_CONNECT_SECONDS = 10
_ANSWER_SECONDS = 10.0
"""How long a query may take: a server that hangs must not hold a pull up that has ended or is terminated."""
_OUTAGE_SECONDS = 60.0
"""How long the database may be away, as in a restart, before a pull that waits for its lock fails."""
_GRACE_SECONDS = 15.0
"""For so long after the server's start only those take locks that had them before."""
_URL = re.compile(r"postgres(ql)?(\+[a-z0-9]+)?://", re.IGNORECASE)

Check = Callable[[], None]
"""Raises `ServiceConnectionLostError` if the lock was lost."""


def check_database(url: object) -> None:
    """Check that something is the address of a Postgres database, which is not shown: it has a password.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(url, str) or not _URL.match(url):
        raise ValueError("lock_database must be a URL such as postgresql://user:password@host:5432/database")


@asynccontextmanager
async def database_lock(
    url: str, names: Sequence[str], timeout: float, on_wait: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[Check]:
    """Hold one of some locks, whichever is free first.

    Args:
        url: The database.
        names: The locks' names.
        timeout: How many seconds a holder may have no heartbeat before the server frees its lock.
        on_wait: Called once if others hold all of them.

    Yields:
        What raises if the lock was lost: to be called when the result of what it protects is there.

    Raises:
        ServiceUnavailableError: The database cannot be used.
    """
    session = _Session(url, timeout)
    try:
        key = await _take(session, [_key(name) for name in names], on_wait)
        keeping = asyncio.create_task(_keep(session, key))

        def check() -> None:
            if keeping.done():
                raise ServiceConnectionLostError(
                    "the connection to the database of locks was lost, and another pull has taken the lock since: "
                    "both may have got a corrupt snapshot. Try again"
                )

        try:
            yield check
        finally:
            keeping.cancel()
            await asyncio.wait({keeping}, timeout=1.0)
    finally:
        await session.close()


async def _take(session: _Session, keys: list[int], on_wait: Callable[[], Awaitable[None]] | None) -> int:
    failing = 0.0
    with AwakeClock() as clock:
        while True:
            try:
                for key in keys:
                    if await session.try_lock(key, _GRACE_SECONDS):
                        return key
                failing = 0.0
                if on_wait is not None:
                    await on_wait()
                    on_wait = None
            except ServiceUnavailableError as error:
                failing = failing or clock()
                if error.permanent or clock() - failing > _OUTAGE_SECONDS:
                    raise
            await asyncio.sleep(_POLL_SECONDS)


async def _keep(session: _Session, key: int) -> None:
    """Send heartbeats, and return when another session has the lock."""
    while True:
        try:
            if not await session.beat() and not await session.try_lock(key, 0):
                return
        except ServiceUnavailableError:
            await asyncio.sleep(_RETAKE_SECONDS)


class _Session:
    """A session of the database that is opened when it is needed, and anew after it was lost."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url = _URL.sub("postgresql://", url, count=1)
        self._idle_seconds = max(timeout, 3 * _HEARTBEAT_SECONDS)
        self._connection: AsyncConnection[tuple[object, ...]] | None = None

    async def try_lock(self, key: int, grace: float) -> bool:
        """Lock if nobody else has, and if the server was started longer ago than that."""
        rows = await self._ask(
            "SELECT pg_try_advisory_lock(%s) WHERE now() - pg_postmaster_start_time() >= make_interval(secs => %s)",
            key,
            grace,
        )
        return rows == [(True,)]

    async def beat(self) -> bool:
        """Send a heartbeat when it is due, and tell whether the session has lasted; its end is noticed at once."""
        import psycopg

        if self._connection is not None:
            try:
                async for _ in self._connection.notifies(timeout=_HEARTBEAT_SECONDS):
                    pass
                await self._ask("SELECT 1")
            except psycopg.Error:
                await self._disconnect()
            except ServiceUnavailableError:
                pass
        return self._connection is not None

    async def close(self) -> None:
        if self._connection is not None:
            # The end of the session frees the lock too, but the server may take a moment to see it.
            with suppress(ServiceUnavailableError):
                await self._ask("SELECT pg_advisory_unlock_all()")
            await self._disconnect()

    async def _ask(self, query: LiteralString, *values: object) -> list[tuple[object, ...]]:
        try:
            import psycopg
        except ImportError:
            raise ImportError("lock_database needs a package: pip install 'fdtcc-dagster[postgres]'") from None

        try:
            if self._connection is None:
                self._connection = await self._connect()
            return await _answer(self._connection, query, values)
        except psycopg.Error as error:
            await self._disconnect()
            raise _unavailable(excerpt(redact(str(error).strip()))) from None
        except BaseException:
            await self._disconnect()
            raise

    async def _connect(self) -> AsyncConnection[tuple[object, ...]]:
        import psycopg

        try:
            parts = psycopg.conninfo.conninfo_to_dict(self._url)
        except psycopg.ProgrammingError:
            # Its text may have the password.
            raise _unavailable("lock_database is no URL that Postgres understands", permanent=True) from None
        # Then a part of the password is taken for the host, the port or the database, and errors would show it.
        if any("@" in str(parts.get(name)) for name in ("host", "port", "dbname")):
            raise _unavailable(
                "lock_database has an @ or a / in its password: write them as %40 and %2F", permanent=True
            )
        connection = await psycopg.AsyncConnection.connect(
            self._url,
            autocommit=True,
            prepare_threshold=None,
            application_name="fdtcc_dagster",
            connect_timeout=_CONNECT_SECONDS,
            keepalives_idle=_CONNECT_SECONDS,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=2000 * _CONNECT_SECONDS,
        )
        try:
            if connection.info.server_version < 140000:
                raise _unavailable("lock_database needs Postgres 14 or newer", permanent=True)
            answer = await _answer(
                connection,
                "SELECT pg_backend_pid(), set_config('tcp_keepalives_idle', '10', false), "
                "set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '3', false), "
                "set_config('idle_session_timeout', %s, false)",
                [str(round(self._idle_seconds * 1000))],
            )
            if answer[0][0] != connection.info.backend_pid:
                raise _unavailable(
                    "lock_database is a connection pooler (such as PgBouncer), whose sessions are not ours alone: "
                    "give the address of Postgres itself",
                    permanent=True,
                )
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


async def _answer(
    connection: AsyncConnection[tuple[object, ...]], query: LiteralString, values: Sequence[object]
) -> list[tuple[object, ...]]:
    async def ask() -> list[tuple[object, ...]]:
        return await (await connection.execute(query, values)).fetchall()

    asked = asyncio.ensure_future(ask())
    await settled(asked, _ANSWER_SECONDS, partial(_hang_up, connection))
    return await asked


def _hang_up(connection: AsyncConnection[tuple[object, ...]]) -> None:
    """Let a query end at once, with an error. To cancel it, psycopg would have to wait for the server."""
    import psycopg

    with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as own:
        own.shutdown(socket.SHUT_RDWR)


def _unavailable(text: str, *, permanent: bool = False) -> ServiceUnavailableError:
    return ServiceUnavailableError(f"the database of locks: {text}", permanent=permanent)


def _key(name: str) -> int:
    """The 64 bits with a sign that Postgres takes."""
    return int.from_bytes(hashlib.sha256(f"fdtcc_dagster/{name}".encode()).digest()[:8], "big", signed=True)
