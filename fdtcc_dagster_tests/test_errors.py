from __future__ import annotations

import asyncio
import copy
import pickle
import re
from datetime import datetime, timezone
from typing import Any

import pytest

from fdtcc_dagster import errors
from fdtcc_dagster.client.retry import is_retryable
from fdtcc_dagster.errors import (
    FdtccError,
    NotYetAvailableError,
    ScheduleError,
    SchemaMismatchError,
)
from fdtcc_dagster.window import Window

WINDOW = Window.of("2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z")
INSTANT = datetime(2026, 3, 1, tzinfo=timezone.utc)
DRAWN = {
    name: bool(mark)
    for name, mark in re.findall(r"[├└]── (\w+Error)\s+(?:\([^)]*\))?\s*(retryable)?", str(errors.__doc__))
}
CLASSES: dict[str, type[FdtccError]] = {
    name: value for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, FdtccError)
}
ATTRIBUTES: dict[type[FdtccError], dict[str, Any]] = {
    NotYetAvailableError: {"available_at": INSTANT},
    SchemaMismatchError: {"column": "speed", "row": 7, "value": "x"},
}


def test_tree_in_the_docstring_is_the_real_tree() -> None:
    assert set(DRAWN) == set(CLASSES)
    for error in set(CLASSES.values()) - {FdtccError}:
        assert FdtccError in error.__bases__
    assert FdtccError.__bases__ == (Exception,)
    assert issubclass(ScheduleError, ValueError)


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_drawn_as_retryable_is_retryable(name: str) -> None:
    assert is_retryable(CLASSES[name]("text")) == DRAWN[name]
    assert sum(DRAWN.values()) == 4


@pytest.mark.parametrize(
    "error", [ValueError(), OSError(), TimeoutError(), KeyboardInterrupt(), asyncio.CancelledError()]
)
def test_foreign_exceptions_are_not_retryable(error: BaseException) -> None:
    assert not is_retryable(error)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("transported", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])  # noqa: S301
def test_errors_keep_their_attributes_between_processes(name: str, transported: Any) -> None:
    kind = CLASSES[name]
    attributes = {"dataset": "cars", "window": WINDOW, **ATTRIBUTES.get(kind, {})}
    error = transported(kind("what happened", **attributes))
    assert type(error) is kind
    assert str(error) == "what happened"
    assert {name: getattr(error, name) for name in attributes} == attributes


@pytest.mark.parametrize("name", CLASSES)
def test_attributes_are_optional(name: str) -> None:
    kind = CLASSES[name]
    error = kind("text")
    assert (error.dataset, error.window) == (None, None)
    assert all(getattr(error, name) is None for name in ATTRIBUTES.get(kind, {}))
