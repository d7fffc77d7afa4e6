from __future__ import annotations

import csv
import io
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdtcc_dagster.pandas_csv.blocks import LongRecordError, record_blocks, split_header

# The csv module of Python 3.10 reads no NUL.
cells = st.text('",\n\r ab', max_size=5) | st.text(st.characters(exclude_characters="\0"), max_size=5)
tables = st.lists(st.lists(cells, min_size=2, max_size=3), max_size=8)


def written(table: list[list[str]], end: str = "\n") -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator=end, quoting=csv.QUOTE_NONNUMERIC).writerows(table)
    return buffer.getvalue().encode("utf-8", "replace")


@settings(max_examples=200, deadline=None)
@given(tables, st.integers(1, 30), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_blocks_are_the_input_cut_at_record_ends(
    table: list[list[str]], size: int, end: str, final_newline: bool
) -> None:
    data = written(table, end)
    data = data if final_newline else data.removesuffix(end.encode())
    blocks = list(record_blocks(io.BytesIO(data), size))
    assert b"".join(blocks) == data
    assert all(blocks)
    records = [
        record for block in blocks for record in csv.reader(io.StringIO(block.decode(), newline=""), strict=True)
    ]
    assert records == list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text('",\n\ra', max_size=40).map(str.encode), st.integers(1, 70))
def test_any_bytes_are_cut_only_outside_of_quotes(data: bytes, size: int) -> None:
    blocks = list(record_blocks(io.BytesIO(data), size))
    assert b"".join(blocks) == data
    for block in blocks[:-1]:
        assert block.endswith(b"\n")
        assert block.count(b'"') % 2 == 0


def test_blocks_hold_about_as_many_bytes_as_are_read_at_a_time() -> None:
    data = b"12345,67890\n" * 1_000
    blocks = list(record_blocks(io.BytesIO(data), 600))
    assert max(map(len, blocks)) < 1_200
    assert len(blocks) >= 20


def test_blocks_after_a_long_record_are_small_again() -> None:
    data = b"12345,67890\n" * 1_000
    blocks = list(record_blocks(io.BytesIO(data + b"x" * 50_000 + b"\n" + data), 600))
    assert sum(len(block) > 1_200 for block in blocks) == 1
    assert max(map(len, blocks)) < 100_000


def test_record_that_never_ends_is_read_in_linear_time() -> None:
    data = b'"' + b"x,\n" * 5_000_000
    started = time.perf_counter()
    assert list(record_blocks(io.BytesIO(data), 1 << 10)) == [data]
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("longest", [1_024, 1_500, 4_096])
def test_a_record_is_not_longer_than_allowed(longest: int) -> None:
    before, long = b"1,a\n" * 500, b'2,"' + b"x" * (longest - 5) + b'"\n'
    for whole in (before + long + before, before + b"x" + long.removesuffix(b"\n")):
        assert b"".join(record_blocks(io.BytesIO(whole), 256, longest=longest)) == whole
    stream = io.BytesIO(before + b'3,"' + b"x,y\n" * 100_000)
    read: list[bytes] = []
    with pytest.raises(LongRecordError, match=f"begins at byte 2000 has more than {longest} bytes; a quote"):
        read.extend(record_blocks(stream, 256, longest=longest))
    assert b"".join(read) == before
    # Nothing beyond it was read.
    assert stream.tell() <= len(before) + 2 * longest


@pytest.mark.parametrize(
    ("block", "names", "rest"),
    [
        (b"a,b\n1,2\n", ["a", "b"], b"1,2\n"),
        (b"a,b\r\n1,2\r\n", ["a", "b"], b"1,2\r\n"),
        (b"a,b", ["a", "b"], b""),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbf1\n", ["a"], b"\xef\xbb\xbf1\n"),
        (b'"a\nb","c""d","e,f"\n1\n', ["a\nb", 'c"d', "e,f"], b"1\n"),
        (b'""\n1\n', [""], b"1\n"),
        ("ä, b \n".encode(), ["ä", " b "], b""),
    ],
)
def test_header_is_taken_off(block: bytes, names: list[str], rest: bytes) -> None:
    assert split_header(block) == (names, rest)


@pytest.mark.parametrize("block", [b"", b"\n1\n", b"\r\n", b"\xff\n", b"a\rb\n", b"x" * 140_000])
def test_what_is_no_header_is_refused(block: bytes) -> None:
    with pytest.raises(ValueError, match=r"header|codec"):
        split_header(block)
