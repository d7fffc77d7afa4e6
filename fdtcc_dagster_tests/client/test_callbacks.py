"""Functions that a client's user passes in."""

from __future__ import annotations

import asyncio

import pytest

from fdtcc_dagster.client.callbacks import PullObserver, awaitable, call
from fdtcc_dagster.errors import IdleTimeoutError


async def test_sync_and_async_functions_are_called_at_once_and_can_be_awaited() -> None:
    seen: list[str] = []

    async def later(text: str) -> None:
        await asyncio.sleep(0)
        seen.append(text)

    for function, text in ((seen.append, "sync"), (later, "async")):
        await call(5.0, awaitable(function), text)
    awaitable(seen.append)("not awaited")
    assert seen == ["sync", "async", "not awaited"]


async def test_a_function_that_does_not_return_is_an_error_that_says_so() -> None:
    with pytest.raises(IdleTimeoutError, match=r"did not return within 0.1 s: let it wait less"):
        await call(0.1, asyncio.sleep, 60)


async def test_a_timeout_of_the_function_s_own_stays_what_it_is() -> None:
    async def fail() -> None:
        raise asyncio.TimeoutError("its own")

    with pytest.raises(asyncio.TimeoutError, match="its own"):
        await call(60.0, fail)


def test_what_is_no_function_is_refused_by_name() -> None:
    assert PullObserver(on_message=print).on_progress is None
    with pytest.raises(ValueError, match=r"^on_message=3 must be a function$"):
        PullObserver(on_message=3)  # type: ignore[arg-type]
