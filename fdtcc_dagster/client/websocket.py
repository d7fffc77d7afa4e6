"""The WebSocket under a conversation: connect, wait within timeouts, and turn failures into our errors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus
from websockets.frames import CloseCode

from fdtcc_dagster.client.clock import AwakeClock, settled
from fdtcc_dagster.client.connection_errors import lasting_failure, malformed, refused, slow, unreachable
from fdtcc_dagster.client.health import is_online
from fdtcc_dagster.client.locks import handshake
from fdtcc_dagster.client.settings import ClientSettings
from fdtcc_dagster.errors import (
    IdleTimeoutError,
    ProtocolError,
    ServiceConnectionLostError,
    ServiceUnavailableError,
)
from fdtcc_dagster.redaction import excerpt, redact

_FRAME_BYTES = 1 << 20
_CLOSE_SECONDS = 1.0
_UNREAD_BYTES = 1 << 20
"""What the container may leave unread of our pongs, which websockets queues without a limit."""
# At level DEBUG, websockets logs all headers and frames as they are: credentials, RIDs.
_logger = logging.getLogger("fdtcc_dagster.client.websockets")
_logger.setLevel(logging.INFO)


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Any:
        """Follow none: credentials and names of datasets must not be sent to another place."""
        return exc


@asynccontextmanager
async def connected(
    settings: ClientSettings, on_begin: Callable[[], None] = lambda: None
) -> AsyncIterator[ClientConnection]:
    """Open the WebSocket, and close it at the end in any case.

    The container never closes by itself, sends no pong while it writes, and needs no long frames: see
    docs/protocol.md#the-first-terminal-frame-decides and docs/protocol.md#keepalives-and-silence.

    Args:
        settings: The address, `open_timeout`, `max_handshakes` and `lock_database` count here.
        on_begin: Called when the handshake begins, after it has waited for those of others.

    Yields:
        The open connection.

    Raises:
        ServiceUnavailableError: There is no connection, or the handshake was refused or took too long.
    """
    async with handshake(
        settings.endpoint.identity, settings.max_handshakes, 2 * settings.open_timeout, settings.lock_database
    ):
        on_begin()
        connection = await _open(settings)
    try:
        yield connection
    finally:
        # websockets alone would wait without a limit until a server that reads nothing takes the close frame.
        await settled(connection.close(), 2 * _CLOSE_SECONDS, connection.transport.abort)


async def _open(settings: ClientSettings) -> ClientConnection:
    endpoint = settings.endpoint
    began = time.monotonic()
    try:
        return await _Connect(
            endpoint.websocket_url,
            ssl=endpoint.ssl_context,
            additional_headers=endpoint.headers,
            logger=_logger,
            open_timeout=settings.open_timeout,
            ping_interval=None,
            close_timeout=_CLOSE_SECONDS,
            max_size=_FRAME_BYTES,
            proxy=None,
        )
    except InvalidStatus as error:
        raise refused(endpoint, error.response.status_code, handshake=True) from error
    except (TimeoutError, asyncio.TimeoutError) as error:
        if await is_online(endpoint, settings.open_timeout):
            raise slow(endpoint, time.monotonic() - began, settings.max_handshakes) from error
        raise ServiceUnavailableError(
            f"{endpoint} did not accept the connection within {settings.open_timeout:g} s, and does not say that it is "
            "online: check host and port, and its log"
        ) from error
    except (OSError, InvalidHandshake) as error:
        dropped = isinstance(error, ConnectionResetError) or isinstance(error.__cause__, (EOFError, ConnectionError))
        if dropped and await is_online(endpoint, settings.open_timeout):
            raise slow(endpoint, time.monotonic() - began, settings.max_handshakes) from None
        if dropped or isinstance(error, OSError):
            raise unreachable(endpoint, error) from None
        if not isinstance(error, InvalidMessage):
            raise malformed(endpoint, error) from None
        # websockets reads few answers but its own: none of HTTP/1.0, without a reason or with a long body.
        lasting = await lasting_failure(endpoint, error, settings.open_timeout, handshake=True)
        raise lasting or malformed(endpoint, error, permanent=False) from None


async def converse(
    connection: ClientConnection, request: str, settings: ClientSettings
) -> AsyncGenerator[str | bytes, None]:
    """Send a request and yield the payload of each frame that follows.

    Args:
        connection: The open connection.
        request: The text frame to send.
        settings: `idle_timeout` and `job_timeout` count here, while this process runs.

    Raises:
        IdleTimeoutError: A timeout has passed.
        ServiceConnectionLostError: The connection ended; the message says how.
        ProtocolError: A frame is longer than 1 MiB.
    """
    with AwakeClock(on_tick=lambda: _check_unread(connection.transport)) as clock:
        try:
            clock.until = min(settings.idle_timeout, settings.job_timeout)
            await clock.within(connection.send(request))
            while True:
                clock.until = min(clock() + settings.idle_timeout, settings.job_timeout)
                yield await clock.within(connection.recv())
        except asyncio.TimeoutError as error:
            if clock() >= settings.job_timeout:
                raise IdleTimeoutError(
                    f"the container gave no result within {settings.job_timeout:g} s; if its job needs longer, raise "
                    "job_timeout"
                ) from error
            raise IdleTimeoutError(
                f"the container sent nothing for {settings.idle_timeout:g} s; it is silent while it writes a large "
                "dataset: raise idle_timeout for one, and otherwise look at its log"
            ) from error
        except ConnectionClosed as error:
            if error.sent is not None and error.sent.code == CloseCode.MESSAGE_TOO_BIG:
                raise ProtocolError(
                    f"the container sent a frame of more than {_FRAME_BYTES:,} bytes; is another service listening at "
                    "this address?"
                ) from error
            # Without a cause: its text has the server's reason as it is.
            raise ServiceConnectionLostError(_how(error)) from None


def _check_unread(transport: asyncio.Transport) -> None:
    if transport.get_write_buffer_size() > _UNREAD_BYTES:
        transport.abort()


def _how(error: ConnectionClosed) -> str:
    close = error.rcvd or error.sent
    if close is None:
        return "without a close frame"
    reason = excerpt(redact(close.reason))
    return f"close code {close.code}, {reason!r}" if reason else f"close code {close.code}"
