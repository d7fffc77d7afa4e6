from __future__ import annotations

from collections.abc import Callable

import pytest

from fdtcc_dagster.yaml_lines import check, line_of, parsed

TEXT = """\
type: component
attributes:
  datasets:
    - name: orders
      schedule: {refreshs: [{cycle: daily}]}
---
other: 1
"""


def test_values_are_those_of_the_documents_and_places_have_their_lines() -> None:
    (node, value), (_, other) = parsed(TEXT, "defs.yaml")
    assert value["attributes"]["datasets"][0]["name"] == "orders"
    assert other == {"other": 1}
    for line, path in {4: "attributes.datasets.0.name", 5: "attributes.datasets.0.schedule.refreshs.0.cycle"}.items():
        assert line_of(node, path.split(".")) == line
    # As far as the path goes.
    for line, path in {3: "attributes.datasets.7", 5: "attributes.datasets.0.schedule.nothing", 1: "nothing"}.items():
        assert line_of(node, path.split(".")) == line


def test_the_line_of_a_key_that_is_also_merged_is_its_own() -> None:
    ((node, value),) = parsed("a: &a {b: 1}\nc:\n  <<: *a\n  b: 2\n", "x")
    assert value["c"] == {"b": 2}
    assert line_of(node, ["c", "b"]) == 4


def test_dates_are_text_as_in_dagster() -> None:
    assert [value for _, value in parsed("a: 2026-02-30\n---\n2026-01-01 08:00:00", "x")] == [
        {"a": "2026-02-30"},
        "2026-01-01 08:00:00",
    ]


ALIASES = "a0: &a0 [1, 2]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(60))
REFUSED = [
    ("a: 1\nb: {c: 1,\n    c: 2}\n", "x, line 3: the key 'c' is there twice, first in line 2; keep one of them"),
    ("x: 1\n---\n- a: 1\n- b: 1\n  b: 2\n", "x, line 5: the key 'b' is there twice, first in line 4"),
    ("a: 1\nb: [{day: Monday, day: Friday}]", "x, line 2: the key 'day' is there twice; keep one of them"),
    ("{a: Decimal(9, 2), b: Decimal(12, 2)}", r"x, line 1: the key '2\)' is there twice; a text with a comma"),
    ("a (EUR): 1\na (EUR): 2", r"x, line 2: the key 'a \(EUR\)' is there twice, first in line 1; keep one of them"),
    ("a: \x01", "x is not YAML: unacceptable character"),
    ('{"id": "Int64", "id": "String"}', "x, line 1: the key 'id' is there twice; keep one of them"),
    (ALIASES + "b: {c: 1, c: 2}", "x, line 62: the key 'c' is there twice; keep one of them"),
    ("a:\n  b: &b\n  - [*b]\n", "x, line 2: the value contains itself, by an alias; write out what is meant"),
    ("a: &a {<<: *a}", "x, line 1: the value contains itself"),
    ("a: [1", "x is not YAML: while parsing a flow sequence: expected ',' or ']', .* \\(line 1, column 6\\)"),
    ("[" * 999, "x is nested too deeply"),
]


@pytest.mark.parametrize("read", [parsed, check])
@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_what_is_refused_is_told_with_its_line(read: Callable[[str, str], object], text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read(text, "x")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("!!python/name:os.system 1", "could not determine a constructor .*"),
        ("!!timestamp 2026-02-30", "the value does not fit the tag !!timestamp"),
        ("!!timestamp [x]", "expected a scalar node, but found sequence"),
        ("!!bool maybe", "the value does not fit the tag !!bool"),
        ("0b_", "the value does not fit the tag !!int"),
    ],
)
def test_a_value_that_does_not_fit_its_tag_has_its_line_and_only_where_it_is_read(value: str, said: str) -> None:
    text = f"x: 1\n---\nx: 1\na: {value}\n"
    with pytest.raises(ValueError, match=rf"^x is not YAML: {said} \(line 4, column 4\)$"):
        parsed(text, "x")
    check(text, "x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: 1\n---\na: 2\n",
        "1: a\n'1': b\n",
        "a: &x {b: 1}\nc: {<<: *x}\n",
        "a: &x {b: 1}\nc: &y {d: 1}\ne:\n  <<: *x\n  <<: *y\n",
        "- a\n- a\n",
        ALIASES,
    ],
)
def test_equal_keys_of_different_mappings_or_types_are_allowed(text: str) -> None:
    parsed(text, "x")
    check(text, "x")
