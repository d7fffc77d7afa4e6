"""Callbacks: the functions that a client's user may pass in, sync or async."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol

from fdtcc_dagster.client.clock import AwakeClock
from fdtcc_dagster.client.protocol import Message
from fdtcc_dagster.errors import IdleTimeoutError

OnMessage = Callable[[Message], Awaitable[None] | None]
"""`on_message(message)`, sync or async."""

OnProgress = Callable[[int, "int | None"], None]
"""`on_progress(bytes, total)`, sync: no download waits for it; the total is None where the service does not tell it."""

Log = Callable[[str], Awaitable[None]]
"""`await log(text)`."""


class OuterWebSocket(Protocol):
    """Anything that can send JSON, such as the WebSockets of FastAPI, Starlette and aiohttp."""

    async def send_json(self, data: Any, /) -> None:
        """Send a JSON value."""


@dataclass(frozen=True)
class PullObserver:
    """The callbacks of a pull; see `FoundryDevToolsContainerClient.pull`.

    Attributes:
        on_message: Called with the container's messages.
        on_progress: Called with the progress of the download.
        on_notice: Called with what the client waits for.

    Raises:
        ValueError: One is not callable.
    """

    on_message: OnMessage | None = None
    on_progress: OnProgress | None = None
    on_notice: OnMessage | None = None

    def __post_init__(self) -> None:
        for name, function in vars(self).items():
            if function is not None:
                checked_callable(name, function)


UNOBSERVED = PullObserver()


async def call(seconds: float, function: Callable[..., Awaitable[None] | None] | None, *arguments: Any) -> None:
    """Call a sync or async callback, if there is one, and wait for its result.

    Raises:
        IdleTimeoutError: It has not returned after so many seconds.
    """
    result = None if function is None else function(*arguments)
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
