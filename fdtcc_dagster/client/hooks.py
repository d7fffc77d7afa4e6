"""The functions that a client's user may pass in, sync or async."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Protocol

from fdtcc_dagster.client.protocol import Message

OnMessage = Callable[[Message], Awaitable[None] | None]
"""`on_message(message)`, sync or async."""

Log = Callable[[str], Awaitable[None]]
"""`await log(text)`."""


class OuterWebSocket(Protocol):
    """Anything that can send JSON: the WebSockets of FastAPI, Starlette and aiohttp are."""

    async def send_json(self, data: Any, /) -> None:
        """Send a JSON value."""


async def finished(result: Awaitable[None] | None) -> None:
    """Wait for what a sync or async function returned."""
    if inspect.isawaitable(result):
        await result


def awaitable(function: Callable[..., Awaitable[None] | None]) -> Callable[..., Awaitable[None]]:
    """Make a sync or async function one whose call does its work at once and may be awaited."""

    def call(*arguments: Any) -> Awaitable[None]:
        result = function(*arguments)
        return result if inspect.isawaitable(result) else _Done()

    return call


class _Done:
    def __await__(self) -> Generator[Any, None, None]:
        return
        yield
