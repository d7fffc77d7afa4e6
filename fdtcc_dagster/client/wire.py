"""The WebSocket under a conversation: connecting, waiting within limits, and what a failure of it is called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.frames import CloseCode

from fdtcc_dagster.client.errors import (
    IdleTimeoutError,
    ProtocolError,
    ServiceConnectionLostError,
    ServiceUnavailableError,
)

_FRAME_BYTES = 1 << 20
_CLOSE_SECONDS = 1.0


@dataclass(frozen=True)
class Limits:
    """How long to wait for the container.

    Attributes:
        open_timeout: Seconds for a connection and its handshake; the container loads credentials before (S16).
        idle_timeout: Seconds without any frame or byte; the container's loop blocks for minutes at large writes (S15).
        job_timeout: Seconds for a whole conversation, keepalives or not.

    Raises:
        ValueError: A limit is not a positive number.
    """

    open_timeout: float = 60.0
    idle_timeout: float = 600.0
    job_timeout: float = 14_400.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ValueError(f"{name}={value!r} must be a positive number of seconds")


@asynccontextmanager
async def connected(url: str, limits: Limits) -> AsyncIterator[ClientConnection]:
    """Open the WebSocket and close it on the way out, whatever happens.

    The container never closes by itself (S1, S2), sends no pong while it writes (S15), and needs no long frames.

    Args:
        url: The `ws://` address.
        limits: Of which `open_timeout` counts here.

    Yields:
        The open connection.

    Raises:
        ServiceUnavailableError: There is no connection, or the handshake was refused or took too long (S16).
    """
    try:
        connection = await connect(
            url,
            open_timeout=limits.open_timeout,
            ping_interval=None,
            close_timeout=_CLOSE_SECONDS,
            max_size=_FRAME_BYTES,
            proxy=None,
        )
    except InvalidStatus as error:
        raise ServiceUnavailableError(
            f"the container at {url} refuses the connection with HTTP {error.response.status_code}; "
            "its Foundry credentials may be missing"
        ) from error
    except (TimeoutError, asyncio.TimeoutError) as error:
        raise ServiceUnavailableError(
            f"the container at {url} did not accept the connection within {limits.open_timeout:g} s"
        ) from error
    except (OSError, InvalidHandshake) as error:
        raise ServiceUnavailableError(
            f"the container at {url} cannot be reached ({error}); is it running, and are host and port right?"
        ) from error
    async with connection:
        yield connection


async def converse(connection: ClientConnection, request: str, limits: Limits) -> AsyncGenerator[str | bytes, None]:
    """Send a request and give the frames that follow, for as long as the caller wants them.

    Args:
        connection: The open connection.
        request: The text frame to send.
        limits: Of which `idle_timeout` and `job_timeout` count here.

    Yields:
        The payload of each frame.

    Raises:
        IdleTimeoutError: A limit has passed.
        ServiceConnectionLostError: The connection ended; the message says how.
        ProtocolError: A frame is longer than 1 MiB.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limits.job_timeout
    try:
        await connection.send(request)
        while True:
            seconds = min(limits.idle_timeout, deadline - loop.time())
            yield await asyncio.wait_for(connection.recv(), max(seconds, 0.0))
    except (TimeoutError, asyncio.TimeoutError) as error:
        if loop.time() >= deadline:
            raise IdleTimeoutError(f"the container gave no result within {limits.job_timeout:g} s") from error
        raise IdleTimeoutError(f"the container sent nothing for {limits.idle_timeout:g} s") from error
    except ConnectionClosed as error:
        if error.sent is not None and error.sent.code == CloseCode.MESSAGE_TOO_BIG:
            raise ProtocolError(f"the container sent a frame of more than {_FRAME_BYTES} bytes") from error
        raise ServiceConnectionLostError(_how(error)) from error


def _how(error: ConnectionClosed) -> str:
    close = error.rcvd or error.sent
    return f"close code {close.code}" if close else "without a close frame"
