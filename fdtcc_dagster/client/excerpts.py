"""How text of somebody else is shown in errors and logs: on one line, of bounded length, in printable characters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fdtcc_dagster.client.redaction import redact

LOGGED = 1000
"""How many characters of a message are logged."""

ERROR = 4000
"""How many characters of an error are logged, or written into the failure of a run."""
_EXCERPT = 200
_NAME = 100
_MOST_LISTED = 10


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
