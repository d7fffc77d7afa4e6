"""How many cases and examples the tests try.

`make test` tries some. `make test-all`, which CI runs, tries all cases and four times as many random examples. `make
fuzz` tries eighty times as many examples of the fuzz tests, as `pytest --hypothesis-profile=long` does of any test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import pytest
from hypothesis import settings

Case = TypeVar("Case")

_THOROUGH = 100
"""The default of Hypothesis."""

settings.register_profile("some", max_examples=_THOROUGH // 4, deadline=None)
settings.register_profile("thorough", max_examples=_THOROUGH, deadline=None)
settings.register_profile("long", max_examples=20 * _THOROUGH, deadline=None, print_blob=True)
settings.load_profile("some")


def examples(thorough: int) -> int:
    """Return the number for the profile: a quarter by default, all with `thorough`, 20 times as many with `long`."""
    return max(thorough * settings().max_examples // _THOROUGH, 1)


def some_of(cases: Iterable[Case], usual: Callable[[Case], bool]) -> list[Any]:
    """Parametrize with all cases, and mark as slow those that are not usual; a tuple is several arguments."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=() if usual(case) else pytest.mark.slow)
        for case in cases
    ]
