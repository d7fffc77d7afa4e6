"""Lines of YAML, which PyYAML and pydantic do not name: of keys that are there twice, and of what an error is about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """Takes dates for text, as Dagster does, and tells the line of a value that its tag does not fit."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            told = f"the value does not fit the tag !!{node.tag.removeprefix(_TAG)}"
            raise yaml.constructor.ConstructorError(None, None, told, node.start_mark) from None


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != f"{_TAG}timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(path: Path, where: str) -> str:
    """Read a file of YAML.

    Args:
        path: The file.
        where: What it is, for errors: its path.

    Returns:
        Its text.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise type(error)(f"{where}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{where} is not UTF-8") from None


def parsed(text: str, where: str) -> list[tuple[yaml.Node, Any]]:
    """Parse the documents of a text.

    Args:
        text: The text.
        where: What it is, for errors: its path.

    Returns:
        The node and the value of each of its documents.

    Raises:
        ValueError: It is not YAML, a mapping has a key twice, of which PyYAML would take the last one, or a value
            contains itself.
    """
    with _in_words(where):
        loader = _Loader(text)
        return [(node, loader.construct_document(node)) for node in _checked(loader, where)]


@lru_cache(maxsize=8)
def check(text: str, where: str) -> None:
    """Check the documents of a text without constructing any value, once for all components in it.

    Args:
        text: The text.
        where: What it is, for errors: its path.

    Raises:
        ValueError: As for `parsed`.
    """
    with _in_words(where):
        for _ in _checked(_Loader(text), where):
            pass


def line_of(node: yaml.Node, path: Sequence[str]) -> int:
    """The line of what a path of keys and indices leads to, as far as it goes."""
    line = node.start_mark.line
    for step in path:
        if isinstance(node, yaml.MappingNode):
            # The last one: those that `<<` merged come first, and the mapping's own count.
            found = next((pair for pair in reversed(node.value) if pair[0].value == step), None)
        else:
            index = int(step) if isinstance(node, yaml.SequenceNode) and step.isdigit() else -1
            found = (node.value[index],) * 2 if 0 <= index < len(node.value) else None
        if found is None:
            break
        line, node = found[0].start_mark.line, found[1]
    return line + 1


@contextmanager
def _in_words(where: str) -> Iterator[None]:
    try:
        yield
    except yaml.YAMLError as error:
        raise ValueError(f"{where} is not YAML: {_in_a_line(error)}") from None
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply") from None


def _checked(loader: _Loader, where: str) -> Iterator[yaml.Node]:
    while loader.check_node():
        node = loader.get_node()
        assert node is not None  # noqa: S101  as it was checked
        _check(node, where, {})
        yield node


def _check(node: yaml.Node, where: str, seen: dict[int, bool]) -> None:
    """Check a node once, however many aliases it has; `seen` tells of each whether the check is still inside of it."""
    if isinstance(node, yaml.ScalarNode):
        return
    line = node.start_mark.line + 1
    if id(node) in seen:
        if seen[id(node)]:
            raise ValueError(f"{where}, line {line}: the value contains itself, by an alias; write out what is meant")
        return
    seen[id(node)] = True
    if isinstance(node, yaml.MappingNode):
        _refuse_repeated(node, where)
    for each in node.value:
        for child in each if isinstance(each, tuple) else (each,):
            _check(child, where, seen)
    seen[id(node)] = False


def _refuse_repeated(node: yaml.MappingNode, where: str) -> None:
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        # Several `<<` are allowed: all are merged.
        if not isinstance(key, yaml.ScalarNode) or key.tag == f"{_TAG}merge":
            continue
        line, name = key.start_mark.line + 1, (key.tag, key.value)
        if name in lines:
            first = "" if lines[name] == line else f", first in line {lines[name]}"
            # The rest of two texts that braces have divided at their commas.
            divided = ")" in key.value and "(" not in key.value
            advice = 'a text with a comma needs quotes, "Decimal(12, 2)"' if divided else "keep one of them"
            raise ValueError(f"{where}, line {line}: the key {key.value!r} is there twice{first}; {advice}")
        lines[name] = line


def _in_a_line(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).split())
    # Without the excerpt, and the name of the stream, which is none.
    context = f"{error.context}: " if error.context else ""
    return f"{context}{error.problem} (line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1})"
