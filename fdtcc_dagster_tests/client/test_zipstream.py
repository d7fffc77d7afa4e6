from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zipfile
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdtcc_dagster.client.zipstream import DamagedError, Inflater

NAME = "a" * 64 + ".csv"
CSV = b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(3_000))


def archive(
    content: bytes = CSV, name: str = NAME, method: int = zipfile.ZIP_DEFLATED, streamed: bool = False
) -> bytes:
    class Unseekable(io.RawIOBase):
        def __init__(self, target: io.BytesIO) -> None:
            self.target = target

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            return self.target.write(data)

    buffer = io.BytesIO()
    with zipfile.ZipFile(Unseekable(buffer) if streamed else buffer, "w", method) as file:
        file.writestr(name, content)
    return buffer.getvalue()


def inflated(data: bytes, size: int = 1 << 16, name: str = NAME) -> list[bytes]:
    inflater = Inflater(name)
    chunks = (data[start : start + size] for start in range(0, len(data), size))
    pieces = [piece for chunk in chunks for piece in inflater.feed(chunk)]
    inflater.finish()
    return pieces


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("size", [1, 29, 30, 31, 97, 1_000, 1 << 20])
def test_member_is_inflated_however_it_arrives(size: int, streamed: bool) -> None:
    """With sizes in the header, or behind the member: docs/protocol.md#the-zip."""
    assert b"".join(inflated(archive(streamed=streamed), size)) == CSV


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=3_000), st.integers(1, 700))
def test_any_content_in_any_chunks(content: bytes, size: int) -> None:
    assert b"".join(inflated(archive(content), size)) == content


def test_extra_field_zip64_header_and_trailing_garbage_do_not_matter() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file, file.open(NAME, "w", force_zip64=True) as member:
        member.write(CSV)
    data = buffer.getvalue() + os.urandom(5_000)
    assert struct.unpack_from("<H", data, 28)[0] > 0
    for size in (1, 50, 1 << 20):
        assert b"".join(inflated(data, size)) == CSV


def test_archive_may_end_with_its_member() -> None:
    """The output of the last bytes exceeds one chunk of output, and nothing follows that would push it out."""
    for length in range((4 << 20) - 300, (4 << 20) + 8_000, 611):
        compressor = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
        body = compressor.compress(bytes(length)) + compressor.flush()
        header = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 8, 0, 0, 0, 0, 0, len(NAME), 0)
        assert sum(map(len, inflated(header + NAME.encode() + body))) == length


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_truncated_member_is_an_error(kept: float) -> None:
    data = archive()
    with pytest.raises(DamagedError, match="ends inside"):
        inflated(data[: int(kept * len(data))])


@pytest.mark.parametrize("kept", [0, 1, 29, 30, 60])
def test_truncated_header_is_an_error(kept: int) -> None:
    with pytest.raises(DamagedError, match="ends inside"):
        inflated(archive()[:kept], 7)


def test_corrupt_member_is_an_error() -> None:
    data = bytearray(archive())
    data[110:114] = b"\xff\xff\xff\xff"
    with pytest.raises(DamagedError):
        inflated(bytes(data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (archive(name="b" * 64 + ".csv"), f"not named '{NAME}'"),
        (archive(name="../" + NAME), "named"),
        (archive(method=zipfile.ZIP_STORED), "not deflated"),
        (archive(method=zipfile.ZIP_BZIP2), "not deflated"),
        (b"a,b\n" * 20, "does not begin with a member"),
        (b'{"detail": "Not Found, and long enough for a header"}', "does not begin with a member"),
        (archive()[:6] + b"\x01\x00" + archive()[8:], "not deflated"),
        (b"PK\x05\x06" + bytes(40), "does not begin with a member"),
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_another_kind_of_archive_is_refused(data: bytes, message: str, size: int) -> None:
    with pytest.raises(ValueError, match=message):
        inflated(data, size)


def test_bomb_comes_in_bounded_pieces() -> None:
    data = archive(bytes(200 << 20))

    inflater = Inflater(NAME)
    tracemalloc.start()
    try:
        total = 0
        for chunk in inflater.feed(data):
            assert len(chunk) <= 4 << 20
            total += len(chunk)
        assert total == 200 << 20
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
