"""Quotes that pandas never writes: the parser would drop them, or take them for text, without an error."""

from __future__ import annotations

import re

# A field with doubled quotes is a chain of quoted pieces. The number that is matched at once is limited, because the
# expression keeps something of each.
_QUOTED = re.compile(rb'(?:(?<![^,\n"])"[^"]*"(?![^,\n"\r])[^"]*){1,4096}')


def row_of_stray_quote(block: bytes) -> int | None:
    """Find a quote that neither opens nor closes a field, and is not one of two inside a quoted field.

    Returns:
        The 1-based number of the first record of the block that has one; None if all quotes are as pandas writes them.
    """
    position = block.find(b'"')
    while position >= 0 and (matched := _QUOTED.match(block, position)):
        position = matched.end() if matched.end() < len(block) else -1
    return None if position < 0 else record_at(block, position)


def record_at(block: bytes, position: int) -> int:
    """The 1-based number of the record at a position, before which all quotes are as pandas writes them."""
    # Newlines inside of quotes end no record.
    return 1 + sum(piece.count(b"\n") for piece in block[:position].split(b'"')[::2])
