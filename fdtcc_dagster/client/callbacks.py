"""Callbacks: the functions that a client's user may pass in, sync or async."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Protocol

from fdtcc_dagster.client.clock import AwakeClock
from fdtcc_dagster.client.protocol import Message
from fdtcc_dagster.errors import IdleTimeoutError

OnMessage = Callable[[Message], Awaitable[None] | None]
"""`on_message(message)`, sync or async."""

Log = Callable[[str], Awaitable[None]]
"""`await log(text)`."""


class OuterWebSocket(Protocol):
    """Anything that can send JSON, such as the WebSockets of FastAPI, Starlette and aiohttp."""

    async def send_json(self, data: Any, /) -> None:
        """Send a JSON value."""


async def finished(result: Awaitable[None] | None, seconds: float) -> None:
    """Wait for the result of a sync or async callback.

    Raises:
        IdleTimeoutError: It has not returned after so many seconds.
    """
    if isinstance(result, _Done) or not inspect.isawaitable(result):
        return
    with AwakeClock(seconds) as clock:
        try:
            await clock.within(result)
        except asyncio.TimeoutError as error:
            if not clock.is_up:  # of its own
                raise
            raise IdleTimeoutError(
                f"a function that was passed to the client did not return within {seconds:g} s: let it wait less"
            ) from error


def awaitable(function: Callable[..., Awaitable[None] | None]) -> Callable[..., Awaitable[None]]:
    """Make a sync or async function one whose call does its work at once and may be awaited."""

    def call(*arguments: Any) -> Awaitable[None]:
        result = function(*arguments)
        return result if inspect.isawaitable(result) else _Done()

    return call


def checked_callable(name: str, function: Any) -> Any:
    """Return a callback, or refuse what is not callable."""
    if not callable(function):
        raise ValueError(f"{name}={function!r} must be a function")
    return function


class _Done:
    def __await__(self) -> Generator[Any, None, None]:
        return
        yield
