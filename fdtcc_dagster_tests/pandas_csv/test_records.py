from __future__ import annotations

import pytest

from fdtcc_dagster.pandas_csv.records import split_header


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
