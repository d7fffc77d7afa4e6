"""Inflating the container's ZIP while it streams (S21).

`zipfile` needs the whole archive first: its directory stands at the end. The container's archives have one deflated
member, so its local header is enough; the caller's SHA-256 of the inflated bytes is the check.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncGenerator, AsyncIterator

_LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
_SIGNATURE = b"PK\x03\x04"
_ENCRYPTED = 0x1
_DEFLATED = 8
_OUTPUT_BYTES = 4 << 20


async def inflate_member(chunks: AsyncIterator[bytes], name: str) -> AsyncGenerator[bytes, None]:
    """Inflate the first member of a ZIP.

    Args:
        chunks: The archive's bytes as they arrive.
        name: The name that the member must have.

    Yields:
        Inflated bytes, at most 4 MiB at a time whatever the compression ratio.

    Raises:
        ValueError: The archive does not begin with a deflated member of that name.
        zlib.error: The deflated bytes are corrupt, or end inside the member.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    head: bytes | None = b""
    async for chunk in chunks:
        data = chunk
        if head is not None:
            head += chunk
            start = _data_start(head, name)
            if start is None:
                continue
            data, head = head[start:], None
        # Output may be left when all input is taken, and what follows the member is none of it.
        while not inflater.eof and (inflated := inflater.decompress(data, _OUTPUT_BYTES)):
            yield inflated
            data = inflater.unconsumed_tail
    if not inflater.eof:
        raise zlib.error("it ends inside its member")


def _data_start(head: bytes, name: str) -> int | None:
    """Where the deflated bytes begin, or None while the header is incomplete."""
    if len(head) < _LOCAL_HEADER.size:
        return None
    signature, _, flags, method, _, _, _, _, _, name_length, extra_length = _LOCAL_HEADER.unpack_from(head)
    if signature != _SIGNATURE:
        raise ValueError("it does not begin with a member")
    if flags & _ENCRYPTED or method != _DEFLATED:
        raise ValueError(f"its member is not deflated (method {method}, flags {flags:#x})")
    if len(head) < _LOCAL_HEADER.size + name_length:
        return None
    found = head[_LOCAL_HEADER.size :][:name_length].decode("utf-8", "replace")
    if found != name:
        raise ValueError(f"its member is named {found[:80]!r}, not {name!r}")
    start = int(_LOCAL_HEADER.size + name_length + extra_length)
    return start if len(head) >= start else None
