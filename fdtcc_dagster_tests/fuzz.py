"""How many examples the fuzz tests try: some in each run of the tests, twenty times as many on request.

`make fuzz`, or `pytest --hypothesis-profile=long` with the tests that are meant.
"""

from __future__ import annotations

from hypothesis import settings

_USUAL = 100
"""What Hypothesis tries of itself."""

settings.register_profile("long", max_examples=20 * _USUAL, deadline=None, print_blob=True)


def examples(usual: int) -> int:
    """So many examples, or twenty times as many with the profile `long`."""
    return usual * settings().max_examples // _USUAL
