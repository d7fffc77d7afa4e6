"""The tags in which Dagster keeps the partitions of a run."""

from __future__ import annotations

from collections.abc import Mapping

_KEY = "dagster/partition"
_FIRST, _LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def range_tags(first: str, last: str) -> dict[str, str]:
    """The tags of a run of several partitions."""
    return {_FIRST: first, _LAST: last}


def first_and_last(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """The first and the last partition key of a run, which may be the same; None if it has none."""
    first, last = (tags.get(tag, tags.get(_KEY)) for tag in (_FIRST, _LAST))
    return None if first is None or last is None else (first, last)
