from __future__ import annotations

import pytest

from fdtcc_dagster.redaction import excerpt, listed, quoted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\r\nlines\tand\u2028more", "two lines and more"),
        ("\x1b[2Jcleared \x00\x7f\x9b", r"\x1b[2Jcleared \x00\x7f\x9b"),
        ("abc\u202etxt.exe\u2066\u200f", r"abc\u202etxt.exe\u2066\u200f"),
        ("Größe 数 🙂", "Größe 数 🙂"),
        ("x" * 201, "x" * 200 + "…"),
        ("\x1b" * 201, r"\x1b" * 50 + "…"),
        ("\ud800", r"\ud800"),
    ],
)
def test_excerpts_are_one_printable_line(text: str, shown: str) -> None:
    assert excerpt(text) == shown


def test_names_are_quoted_up_to_a_limit() -> None:
    assert quoted("a'\n") == repr("a'\n")
    assert quoted("x" * 1000) == f"'{'x' * 100}'…"
    assert listed(["a", "b"]) == "['a', 'b']"
    assert listed([str(number) for number in range(200_000)]).endswith("'9', and 199,990 more]")
