"""Partitions that a dataset was given in place of a schedule: which keys they have, and which windows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import dagster as dg

from fdtcc_dagster.errors import ScheduleError
from fdtcc_dagster.window import Window


def own_keys(definition: dg.TimeWindowPartitionsDefinition, since: dt.datetime) -> Iterator[str]:
    """List the keys from the one that is current at an instant on; they may lie in the future."""
    with dg.partition_loading_context(effective_dt=since):
        window = definition.get_last_partition_window() or definition.get_next_partition_window(
            definition.start, respect_bounds=False
        )
    while window is not None and (definition.end is None or window.start < definition.end):
        yield window.start.strftime(definition.fmt)
        window = definition.get_next_partition_window(window.end, respect_bounds=False)


def own_window(definition: dg.TimeWindowPartitionsDefinition, partition_key: str) -> Window:
    """The bounds of a partition, in UTC.

    Raises:
        ScheduleError: The definition does not have the key.
    """
    try:
        bounds = definition.time_window_for_partition_key(partition_key)
    except (TypeError, ValueError) as error:
        raise ScheduleError(f"partition key {partition_key!r} is not of the form {definition.fmt!r}") from error
    key = bounds.start.strftime(definition.fmt)
    if bounds.start < definition.start:
        first = definition.get_first_partition_key() or definition.start.strftime(definition.fmt)
        raise ScheduleError(f"{partition_key!r} is no partition key; the first one is {first!r}")
    if not partition_key.startswith(key):
        raise ScheduleError(f"{partition_key!r} is no partition key; the next one after it is {key!r}")
    # In UTC, because datetimes of one zone are compared by their wall clocks, also where those go back.
    return Window(bounds.start.astimezone(dt.timezone.utc), bounds.end.astimezone(dt.timezone.utc))
