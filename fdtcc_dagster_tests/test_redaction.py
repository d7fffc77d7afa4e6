"""What is taken for a RID or a uuid: docs/protocol.md#rids-in-messages."""

from __future__ import annotations

import json

import pytest

from fdtcc_dagster.redaction import counted, excerpt, listed, quoted, redact
from fdtcc_dagster_tests.client.test_protocol import RID, SHA, UUID


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"foo{UUID}bar", "foo<uuid>bar"),
        (f"x{UUID.upper()}y", "x<uuid>y"),
        (f"{UUID}{UUID}-{UUID}", "<uuid><uuid>-<uuid>"),
        (f"id%3D{UUID}%26", "id%3D<uuid>%26"),
        (UUID.replace("-", "%2D"), "<uuid>"),
        (UUID.replace("-", "\\u002d"), "<uuid>"),
        (f"table_{UUID.replace('-', '_')}_v2", "table_<uuid>_v2"),
        (RID.upper(), "<rid>"),
        (f"https://host/?rid%3D{RID}%26branch", "https://host/?rid%3D<rid>%26branch"),
        (f"'{RID}/{RID}'", "'<rid>/<rid>'"),
        (f"of\\n{RID}\\n", "of\\n<rid>\\n"),
        (f"before{RID}after", "before<rid>after"),
        ("%2Fri.foundry.main.dataset.main", "%2F<rid>"),
        (f"ri.compass..folder.{UUID}", "<rid>"),
    ],
)
def test_rids_and_uuids_are_redacted_however_they_are_written(text: str, shown: str) -> None:
    """See docs/protocol.md#rids-in-messages."""
    assert redact(text) == shown
    assert redact(json.loads(json.dumps({text: [text]}))) == {shown: [shown]}


def test_a_long_text_is_cut_and_what_stands_across_the_cut_is_not_seen() -> None:
    uuid = UUID.replace("-", "\\u002d")
    for begin in range(30, 110):
        shown = redact({"message": ["x" * begin + f"{uuid} {UUID}" + "y" * 500]}, 100)["message"][0]
        assert len(shown) <= 101
        assert shown.strip("x…") in ("", "<uuid>", "<uuid> ") or shown.startswith("x" * 30 + "<uuid> <uuid>")
    assert redact("x" * 100, 100) == "x" * 100


def test_redaction_takes_no_longer_than_the_text() -> None:
    """Nothing is found, however much looks like its beginning; with quadratic time, each would take minutes."""
    size = 1 << 18
    for piece in ("ri.", "xri.", "xri.a-", "xri.-.", "-", "a", "deadbeef-", "deadbeef-0000-", "%2dri.", "ri.a.b-"):
        text = "xri." + piece * (size // len(piece)) + "!"
        assert redact(text).endswith("!")


def test_redaction_leaves_pointers_names_and_other_values_alone() -> None:
    value = {
        "sha": SHA, "name": "sales.ri", "n": 1, "none": None, "flag": True, "x": 1.5, "list": [],
        "host": "centauri.prod.example.com", "column": "customer_name_type_code_abcdefghijkl",
    }  # fmt: skip
    assert redact(value) == value


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


def test_one_thing_is_counted_in_the_singular() -> None:
    assert [counted(number, "row") for number in (0, 1, 2)] == ["0 rows", "1 row", "2 rows"]
