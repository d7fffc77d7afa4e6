"""Inflates the container's ZIP while it streams: see docs/protocol.md#the-zip.

`zipfile` needs the whole archive first, because its directory is at the end. The container's archives have one deflated
member, so its local header is enough. The caller compares the SHA-256 of the inflated bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import cast

from isal import isal_zlib

_LOCAL_HEADER = struct.Struct("<4sHHHHHIIIHH")
_SIGNATURE = b"PK\x03\x04"
_ENCRYPTED = 0x1
_DEFLATED = 8
_OUTPUT_BYTES = 4 << 20

DamagedError = cast("type[Exception]", isal_zlib.error)
"""What `Inflater` raises where the deflated bytes are corrupt, or end too early."""


class OtherArchiveError(ValueError):
    """An archive does not have the form of the container's."""


class Inflater:
    """Inflates the first member of a ZIP, which must have a given name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._head: bytes | None = b""
        self._inflater = isal_zlib.decompressobj(wbits=-15)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take the archive's next bytes, and yield inflated ones, at most 4 MiB at a time.

        Raises:
            OtherArchiveError: The archive does not begin with a deflated member of that name.
            DamagedError: The deflated bytes are corrupt.
        """
        if self._head is not None:
            self._head += data
            start = _data_start(self._head, self._name)
            if start is None:
                return
            data, self._head = self._head[start:], None
        # Output may be left when all input is taken, and what follows the member is none of it.
        while not self._inflater.eof and (inflated := self._inflater.decompress(data, _OUTPUT_BYTES)):
            yield inflated
            data = self._inflater.unconsumed_tail

    def finish(self) -> None:
        """End the archive.

        Raises:
            DamagedError: It ends inside its member.
        """
        if not self._inflater.eof:
            raise DamagedError("it ends inside its member")


def _data_start(head: bytes, name: str) -> int | None:
    """Where the deflated bytes begin, or None while the header is incomplete."""
    if len(head) < _LOCAL_HEADER.size:
        return None
    signature, _, flags, method, _, _, _, _, _, name_length, extra_length = _LOCAL_HEADER.unpack_from(head)
    if signature != _SIGNATURE:
        raise OtherArchiveError("it does not begin with a member")
    if flags & _ENCRYPTED or method != _DEFLATED:
        raise OtherArchiveError(f"its member is not deflated (method {method}, flags {flags:#x})")
    if len(head) < _LOCAL_HEADER.size + name_length:
        return None
    if head[_LOCAL_HEADER.size :][:name_length] != name.encode():
        raise OtherArchiveError(f"its member is not named {name!r}")
    start = int(_LOCAL_HEADER.size + name_length + extra_length)
    return start if len(head) >= start else None
