"""Resources of one key in several files: the same where they are given alike, and a clear error where they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import dagster as dg

_T = TypeVar("_T")

# The resources of each project by their keys, and the directories of the files that gave them.
_given: WeakKeyDictionary[Any, dict[str, tuple[Path, Any]]] = WeakKeyDictionary()


def shared(build: Callable[..., _T]) -> Callable[[Mapping[str, Any]], _T]:
    """Give one object for equal arguments: Dagster refuses two resources that have one key and only look the same.

    Args:
        build: Makes the object.

    Returns:
        A function of the arguments by their names.
    """
    built: list[tuple[Mapping[str, Any], _T]] = []

    def get(values: Mapping[str, Any]) -> _T:
        for known, value in built:
            if known == values:
                return value
        built.append((values, build(**values)))
        return built[-1][1]

    return get


def check_resources(context: dg.ComponentLoadContext, resources: Mapping[str, Any]) -> None:
    """Refuse what Dagster would refuse without saying where.

    Args:
        context: Dagster's context of the component.
        resources: The resources that it gives.

    Raises:
        ValueError: A file in another directory of the project gives another resource with one of their keys.
    """
    given = _given.setdefault(context.component_tree.state_tracker, {})
    for key, resource in resources.items():
        path, known = given.setdefault(key, (context.path, resource))
        if known is not resource and path != context.path:
            remedy = (
                "give `resource` in one of them and leave it out in the other"
                if key == "foundry_container"
                else "give both the same `io_manager`, or one of them an `io_manager_key` of its own"
            )
            raise ValueError(f"{path} and {context.path} give different resources {key!r}: {remedy}")
