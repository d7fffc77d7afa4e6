from __future__ import annotations

import csv
import io
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdtcc_dagster.pandas_csv.blocks import (
    LongRecordError,
    Quotes,
    count_bytes,
    look_at_quotes,
    record_at,
    record_blocks,
    row_of_stray_quote,
)

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
    with pytest.raises(LongRecordError, match=f"begins at byte 2,000 has more than {longest:,} bytes: a quote"):
        read.extend(record_blocks(stream, 256, longest=longest))
    assert b"".join(read) == before
    # Nothing beyond it was read.
    assert stream.tell() <= len(before) + 2 * longest


def first_stray(block: bytes) -> int | None:
    """The record of the first quote that a byte-by-byte parser finds invalid."""
    row, quoted, begins = 1, False, True
    position, opened = 0, 0
    while position < len(block):
        byte, following = block[position : position + 1], block[position + 1 : position + 2]
        if quoted and byte == b'"' and following == b'"':
            position += 1
        elif quoted and byte == b'"':
            if following not in (b"", b",", b"\n", b"\r"):
                return opened
            quoted = False
        elif byte == b'"':
            if not begins:
                return row
            quoted, opened = True, row
        elif byte == b"\n" and not quoted:
            row += 1
        begins = not quoted and byte in (b",", b"\n")
        position += 1
    return opened if quoted else None


@settings(max_examples=300, deadline=None)
@given(st.text('"",\n\ra', max_size=12).map(str.encode))
def test_a_stray_quote_is_found_however_it_stands(block: bytes) -> None:
    stray = first_stray(block)
    assert (row_of_stray_quote(block) is None) == (stray is None) == look_at_quotes(block).are_pandas
    assert count_bytes(block, b'"') == block.count(b'"')


@pytest.mark.parametrize(
    ("block", "row"),
    [
        (b'a,"b\n""\n"\n"c",d"\n', 2),
        (b'"a"\n' * 10_000 + b'a"\n', 10_001),
        (b'"a"\n' * 10_000 + b'"a"b\n"c"\n', 10_001),
        (b'"a"\r\n"b"\r\nc"\r\n', 3),
    ],
)
def test_its_record_is_told(block: bytes, row: int) -> None:
    assert row_of_stray_quote(block) == row


@pytest.mark.parametrize(
    ("block", "may"), [(b'""', True), (b'a,""\n', True), (b'"",a\n', True), (b'"a"\n', False), (b'"a""b"\n', False)]
)
def test_a_quoted_field_without_text_is_noticed(block: bytes, may: bool) -> None:
    assert look_at_quotes(block) == Quotes(are_pandas=True, may_quote_nothing=may)


def test_a_record_is_told_by_a_position() -> None:
    block = b'a,"b\n"\nc\nd'
    assert [record_at(block, position) for position in range(len(block))] == [1] * 7 + [2] * 2 + [3]


@pytest.mark.parametrize("piece", [b'"', b'"a"', b'"a",', b'"a"b', b'a"'])
def test_quotes_are_looked_through_in_linear_time(piece: bytes) -> None:
    started = time.perf_counter()
    row_of_stray_quote(piece * (1 << 18))
    assert time.perf_counter() - started < 5
