"""Lines of YAML, which PyYAML and pydantic do not name: of keys that are there twice, and of what an error is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml


def parsed(text: str, where: str) -> list[tuple[yaml.Node, Any]]:
    """Parse the documents of a text.

    Args:
        text: The text.
        where: What it is, for errors: its path.

    Returns:
        The node and the value of each of its documents.

    Raises:
        ValueError: It is not YAML, or a mapping has a key twice, of which PyYAML would take the last one.
    """
    found = []
    try:
        loader = yaml.SafeLoader(text)
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # noqa: S101  as it was checked
            _refuse_repeated(node, where)
            found.append((node, loader.construct_document(node)))
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not YAML: {_in_a_line(error)}") from None
    return found


def line_of(node: yaml.Node, path: Sequence[str]) -> int:
    """The line of what a path of keys and indices leads to, as far as it goes."""
    line = node.start_mark.line
    for step in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == step), None)
        else:
            index = int(step) if isinstance(node, yaml.SequenceNode) and step.isdigit() else -1
            found = (node.value[index],) * 2 if 0 <= index < len(node.value) else None
        if found is None:
            break
        line, node = found[0].start_mark.line, found[1]
    return line + 1


def _refuse_repeated(node: yaml.Node, where: str) -> None:
    if isinstance(node, yaml.SequenceNode):
        for each in node.value:
            _refuse_repeated(each, where)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[tuple[str, object], int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode) and (first := lines.setdefault((key.tag, key.value), line)) != line:
            raise ValueError(
                f"{where}, line {line}: the key {key.value!r} is there twice, first in line {first}; keep one of them"
            )
        _refuse_repeated(value, where)


def _in_a_line(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    # Without the excerpt, and the name of the stream, which is none.
    context = f"{error.context}: " if error.context else ""
    return f"{context}{error.problem} (line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1})"
