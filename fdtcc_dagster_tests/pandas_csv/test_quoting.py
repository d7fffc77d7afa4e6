from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdtcc_dagster.pandas_csv.quoting import Quotes, count_bytes, look_at_quotes, record_at, row_of_stray_quote


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
