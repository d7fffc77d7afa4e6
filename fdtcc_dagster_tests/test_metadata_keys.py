"""That the names of metadata are written in one module only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import fdtcc_dagster
from fdtcc_dagster import metadata_keys

PACKAGE = Path(fdtcc_dagster.__file__).parent
KEYS = {name: value for name, value in vars(metadata_keys).items() if name.isupper()}


def texts(path: Path) -> Iterator[str]:
    """All texts of a module but its docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    documentation = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documentation:
            yield node.value


def test_no_other_module_writes_a_name_of_metadata() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}: {text}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path != Path(metadata_keys.__file__)
        for text in texts(path)
        if text.startswith(metadata_keys.NAMESPACE) or text in KEYS.values()
    ]
    assert found == []


def test_each_name_is_there_once() -> None:
    assert len(set(KEYS.values())) == len(KEYS)
