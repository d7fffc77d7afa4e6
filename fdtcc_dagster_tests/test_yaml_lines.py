from __future__ import annotations

import pytest

from fdtcc_dagster.yaml_lines import line_of, parsed

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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: {c: 1,\n    c: 2}\n", "x, line 3: the key 'c' is there twice, first in line 2; keep one of them"),
        ("x: 1\n---\n- a: 1\n- b: 1\n  b: 2\n", "x, line 5: the key 'b' is there twice, first in line 4"),
        ("a: [1", "x is not YAML: while parsing a flow sequence: expected ',' or ']', .* \\(line 1, column 6\\)"),
        ("a: !!python/name:os.system 1", "x is not YAML: could not determine a constructor .* \\(line 1, column 4\\)"),
    ],
)
def test_what_is_refused_is_told_with_its_line(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parsed(text, "x")


@pytest.mark.parametrize(
    "text", ["", "a: 1\n---\na: 2\n", "1: a\n'1': b\n", "a: &x {b: 1}\nc: {<<: *x}\n", "- a\n- a\n"]
)
def test_equal_keys_of_different_mappings_or_types_are_allowed(text: str) -> None:
    parsed(text, "x")
