"""How foreign text is shown in errors and logs: without RIDs and uuids, on one line, of bounded length.

See docs/protocol.md#rids-in-messages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

_HEX_UUID = r"[0-9a-f]{8}(?:DASH[0-9a-f]{4}){3}DASH[0-9a-f]{12}".replace("DASH", r"(?:[-_]|%2d|\\u002d)")
_UUID = re.compile(
    # What is hexadecimal is found inside of longer words too, such as behind `%3D`.
    rf"{_HEX_UUID}|(?<![0-9a-z])[0-9a-z]{{8}}(?:-[0-9a-z]{{4}}){{3}}-[0-9a-z]{{12}}(?![0-9a-z])",
    re.IGNORECASE,
)
_RID = re.compile(
    # As a word of its own, which may follow an escape; or in whatever word, with a uuid at its end.
    r"(?:(?<![0-9a-z])|(?<=%[0-9a-f]{2})|(?<=\\[a-z]))ri\.[\w-]+\.[\w-]*\.(?:<uuid>|[\w.-])+"
    r"|ri\.[\w-]+\.[\w-]*\.[\w-]+\.<uuid>",
    re.IGNORECASE,
)
"""RIDs in whose place their uuids are redacted already."""
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""What JSON can spell, and no log, file or database can hold."""
_DEPTH = 32
_LONGEST_UUID = 64
"""Characters that one has at most, however its hyphens are written."""

MOST_SHOWN = 1 << 16
"""How many characters of a text in a frame are looked at: to search a megabyte takes a fifth of a second."""

LOGGED = 1000
"""How many characters of a message are logged."""

ERROR = 4000
"""How many characters of an error are logged, or written into the failure of a run."""
_EXCERPT = 200
_NAME = 100
_MOST_LISTED = 10


def redact(value: Any, most: int | None = None) -> Any:
    """Replace RIDs and uuids in a string, or in all strings of a JSON value, and make these strings valid text.

    Args:
        value: A JSON value.
        most: How many characters of each text are kept; None: all.

    Returns:
        The same value with `<rid>` and `<uuid>` in their places, `…` instead of what is nested too deeply, and U+FFFD
        instead of lone surrogates.
    """
    return _redacted(value, _DEPTH, most)


def _redacted(value: Any, depth: int, most: int | None) -> Any:
    if isinstance(value, str):
        if most is not None and len(value) > most:
            # One that is cut off at the end would not be found, so the end goes.
            return _redacted(value[: most + _LONGEST_UUID], depth, None)[:-_LONGEST_UUID] + "…"
        return _LONE_SURROGATE.sub("\ufffd", _RID.sub("<rid>", _UUID.sub("<uuid>", value)))
    if isinstance(value, (list, dict)) and depth == 0:
        return "…"
    if isinstance(value, list):
        return [_redacted(item, depth - 1, most) for item in value]
    if isinstance(value, dict):
        return {_redacted(key, depth - 1, most): _redacted(item, depth - 1, most) for key, item in value.items()}
    return value


def excerpt(value: object, most: int = _EXCERPT) -> str:
    """Give the beginning of a text.

    Args:
        value: The text, redacted, or what is written as one.
        most: How many characters are shown.

    Returns:
        The text on one line; what is not printable, such as the control characters of terminals and of bidirectional
        text, is written as an escape.
    """
    text = " ".join(str(value).split())
    shown = printable(text[:most])
    return shown[:most] + "…" if len(text) > most or len(shown) > most else shown


def printable(text: str) -> str:
    r"""Write each character that is not printable as an escape, such as `\x1b`."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode("ascii") for each in text
    )


def quoted(name: str) -> str:
    """Quote a name, such as that of a column, up to a hundred characters."""
    shown = redact(name)
    return repr(shown) if len(shown) <= _NAME else f"{shown[:_NAME]!r}…"


def listed(names: Sequence[str]) -> str:
    """Quote the first ten names, and count the others."""
    return f"[{shortened(names, ', ', quoted)}]"


def shortened(texts: Sequence[str], separator: str, written: Callable[[str], str] = str) -> str:
    """Join the first ten texts, and count the others."""
    more = [f"and {len(texts) - _MOST_LISTED:,} more"] if len(texts) > _MOST_LISTED else []
    return separator.join([*map(written, texts[:_MOST_LISTED]), *more])


def counted(number: int, noun: str) -> str:
    """Write how many there are of something, such as `1 row` or `2 rows`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
