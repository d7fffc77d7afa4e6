"""Functions that a client's user passes in."""

from __future__ import annotations

import asyncio
import threading

import pytest

from fdtcc_dagster.client.callbacks import awaitable, checked_callable, finished
from fdtcc_dagster.errors import IdleTimeoutError


async def test_sync_and_async_functions_are_called_at_once_and_can_be_awaited() -> None:
    seen: list[str] = []

    async def later(text: str) -> None:
        await asyncio.sleep(0)
        seen.append(text)

    for function, text in ((seen.append, "sync"), (later, "async")):
        await finished(awaitable(function)(text), 5.0)
    awaitable(seen.append)("not awaited")
    assert seen == ["sync", "async", "not awaited"]


async def test_a_function_that_does_not_return_is_an_error_that_says_so() -> None:
    with pytest.raises(IdleTimeoutError, match=r"did not return within 0.1 s: let it wait less"):
        await finished(asyncio.sleep(60), 0.1)


async def test_a_timeout_of_the_function_s_own_stays_what_it_is() -> None:
    async def fail() -> None:
        raise asyncio.TimeoutError("its own")

    with pytest.raises(asyncio.TimeoutError, match="its own"):
        await finished(fail(), 60.0)


def test_what_is_no_function_is_refused_by_name() -> None:
    assert checked_callable("on_message", threading.Event) is threading.Event
    with pytest.raises(ValueError, match=r"^on_message=3 must be a function$"):
        checked_callable("on_message", 3)
