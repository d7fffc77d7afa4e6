"""What was meant by a word that is not allowed."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(value: object, allowed: Iterable[str]) -> str:
    """The end of an error: the allowed word that is close to a value, if there is one."""
    words = {word.casefold(): word for word in allowed}
    close = get_close_matches(value.casefold(), words, n=1, cutoff=0.75) if isinstance(value, str) else []
    return f"; did you mean {words[close[0]]!r}?" if close else ""
