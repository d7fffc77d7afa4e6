"""How much the tests try: some in each run, all of it in CI, and random input at greater length on request.

`make test` tries some, `make test-all` four times as many examples and all cases, `make fuzz` eighty times as many
examples of the fuzz tests. `pytest --hypothesis-profile=long` tries as many of the tests that are meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import pytest
from hypothesis import settings

Case = TypeVar("Case")

_THOROUGH = 100
"""What Hypothesis tries of itself."""

settings.register_profile("some", max_examples=_THOROUGH // 4, deadline=None)
settings.register_profile("thorough", max_examples=_THOROUGH, deadline=None)
settings.register_profile("long", max_examples=20 * _THOROUGH, deadline=None, print_blob=True)
settings.load_profile("some")


def examples(thorough: int) -> int:
    """So many examples with the profile `thorough`, a quarter by default, and twenty times as many with `long`."""
    return max(thorough * settings().max_examples // _THOROUGH, 1)


def some_of(cases: Iterable[Case], usual: Callable[[Case], bool]) -> list[Any]:
    """Parameters of a test, of which `make test` tries the usual ones only; a tuple is several arguments."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=() if usual(case) else pytest.mark.slow)
        for case in cases
    ]
