"""Windows of partitions with excluded ticks, which reach from key to key wherever code of the location runs.

Dagster ends a window at the next tick of its cron, excluded or not. For a calendar that one cron string cannot express,
the next tick is a minute later, and Dagster would map such a partition onto one of the thirty days of another asset.
Here the windows are right. What is sent to the webserver and the daemon has the windows that they use, because they
rebuild Dagster's own classes. No other module overrides parts of Dagster's partitions that are not public.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import islice, pairwise, takewhile
from typing import Any, TypeVar, cast

import dagster as dg

from fdtcc_dagster.dagster_internals import (
    AllPartitionsSubset,
    PartitionsSubset,
    PersistedTimeWindow,
    TimeWindowPartitionsSubset,
    sent_as_its_base,
)
from fdtcc_dagster.errors import ScheduleError

_T = TypeVar("_T")
_Windows = Sequence[dg.TimeWindow | PersistedTimeWindow]


@sent_as_its_base
class _RefreshPartitionsDefinition(dg.TimeWindowPartitionsDefinition):
    """Partitions with excluded ticks, whose windows leave no gaps.

    It overrides nothing that decides which keys exist, and no iterator: the webserver and the daemon rebuild the plain
    class and must get the same keys.
    """

    def time_window_for_partition_key(  # type: ignore[override]  # the base wraps its method in a cache
        self, partition_key: str
    ) -> dg.TimeWindow:
        return self._widened(super().time_window_for_partition_key(partition_key))

    def time_windows_for_partition_keys(  # type: ignore[override]  # as above
        self, partition_keys: frozenset[str], validate: bool = True
    ) -> Sequence[dg.TimeWindow]:
        return [self._widened(tick) for tick in super().time_windows_for_partition_keys(partition_keys, validate)]

    def get_first_partition_window(self) -> dg.TimeWindow | None:
        tick = super().get_first_partition_window()
        return tick and self._widened(tick)

    def get_last_partition_window(self) -> dg.TimeWindow | None:
        tick = super().get_last_partition_window()
        return tick and self._widened(tick)

    def get_next_partition_window(self, end_dt: dt.datetime, respect_bounds: bool = True) -> dg.TimeWindow | None:
        tick = super().get_next_partition_window(end_dt, respect_bounds)
        return tick and self._widened(tick)

    def get_prev_partition_window(self, start_dt: dt.datetime, respect_bounds: bool = True) -> dg.TimeWindow | None:
        tick = super().get_prev_partition_window(start_dt, respect_bounds)
        return tick and self._widened(tick)

    def empty_subset(self) -> Any:
        return _RefreshPartitionsSubset(self, 0, [])

    def subset_with_all_partitions(self) -> Any:
        return _widened(super().subset_with_all_partitions())

    def get_partition_subset_in_time_window(self, time_window: dg.TimeWindow) -> TimeWindowPartitionsSubset:
        subset = _RefreshPartitionsSubset(self, None, [time_window])
        if subset.is_empty and time_window.start < time_window.end:
            # Of such a window, Dagster says that partitions are missing in it: the one that covers it.
            end = self.first_start_from(time_window.end)
            return _RefreshPartitionsSubset(self, None, [dg.TimeWindow(self.last_tick_before(end).start, end)])
        return subset

    def deserialize_subset(self, serialized: str) -> Any:
        return _widened(super().deserialize_subset(serialized))

    def first_start_from(self, instant: dt.datetime) -> dt.datetime:
        """The start of the first key at or after an instant, or the definition's end if there is none before."""
        return _first_start_from(self, instant.timestamp())

    def last_tick_before(self, instant: dt.datetime) -> dg.TimeWindow:
        """The window of the last key that ends at or before an instant, as the plain class sees it."""
        tick = super().get_prev_partition_window(instant, respect_bounds=False)
        assert tick is not None  # noqa: S101  only bounds make it None
        return tick

    def _first_tick_from(self, timestamp: float) -> dg.TimeWindow:
        instant = dt.datetime.fromtimestamp(timestamp, self.start.tzinfo)
        tick = super().get_next_partition_window(instant, respect_bounds=False)
        assert tick is not None  # noqa: S101  only bounds make it None
        return tick

    def _widened(self, tick: dg.TimeWindow) -> dg.TimeWindow:
        return dg.TimeWindow(tick.start, self.first_start_from(tick.end))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        # As the base, which writes out all exclusions each time that one of its caches is asked.
        return hash(tuple(repr(self)))


@lru_cache(maxsize=1 << 14)
def _first_start_from(definition: _RefreshPartitionsDefinition, timestamp: float) -> dt.datetime:
    # `end` is the first refresh beyond the horizon; after it, nothing is excluded any more.
    start = definition._first_tick_from(timestamp).start
    end = definition.end
    return end if end is not None and timestamp <= end.timestamp() < start.timestamp() else start


class _RefreshPartitionsSubset(TimeWindowPartitionsSubset):
    """Partitions whose windows reach from key to key, whatever windows they come from, until they are sent."""

    def __new__(
        cls, partitions_def: _RefreshPartitionsDefinition, num_partitions: int | None, included_time_windows: _Windows
    ) -> _RefreshPartitionsSubset:
        windows: list[dg.TimeWindow] = []
        for window in included_time_windows:
            start, end = map(partitions_def.first_start_from, (window.start, window.end))
            if windows and windows[-1].end.timestamp() >= start.timestamp():
                windows[-1] = dg.TimeWindow(windows[-1].start, max(windows[-1].end, end, key=dt.datetime.timestamp))
            elif start.timestamp() < end.timestamp():
                windows.append(dg.TimeWindow(start, end))
        return cast(_RefreshPartitionsSubset, super().__new__(cls, partitions_def, num_partitions, windows))

    def with_partition_keys(self, partition_keys: Iterable[str], validate: bool = True) -> Any:
        return _widened(super().with_partition_keys(partition_keys, validate))

    def with_partitions_def(self, partitions_def: dg.TimeWindowPartitionsDefinition) -> Any:
        if isinstance(partitions_def, _RefreshPartitionsDefinition):
            return _widened(super().with_partitions_def(partitions_def))
        return self._narrowed().with_partitions_def(partitions_def)

    def serialize(self) -> str:
        return self._narrowed().serialize()

    def __and__(self, other: Any) -> Any:
        return _widened(super().__and__(other))

    def __or__(self, other: Any) -> Any:
        return _widened(super().__or__(other))

    def __sub__(self, other: Any) -> Any:
        return _widened(super().__sub__(other))

    def _narrowed(self) -> TimeWindowPartitionsSubset:
        definition = cast(_RefreshPartitionsDefinition, self.partitions_def)
        windows = [
            dg.TimeWindow(window.start, definition.last_tick_before(window.end).end)
            for window in self.included_time_windows
        ]
        return TimeWindowPartitionsSubset(definition, self._asdict()["num_partitions"], windows)


def refresh_partitions(**arguments: Any) -> dg.TimeWindowPartitionsDefinition:
    """A `TimeWindowPartitionsDefinition` whose windows reach from key to key although ticks are excluded."""
    return _RefreshPartitionsDefinition(**arguments)


def without_exclusions(definition: dg.TimeWindowPartitionsDefinition) -> dg.TimeWindowPartitionsDefinition:
    """The plain definition of all ticks, also those that are excluded."""
    return dg.TimeWindowPartitionsDefinition(**_ticks(definition))


def with_refresh_windows(definition: dg.PartitionsDefinition | None) -> dg.TimeWindowPartitionsDefinition:
    """A definition whose windows reach from key to key, also where Dagster rebuilt the plain class from what was sent.

    Raises:
        ScheduleError: It has no time windows.
    """
    if not isinstance(definition, dg.TimeWindowPartitionsDefinition):
        raise ScheduleError(f"partitions of time windows are mapped, and not {definition!r}; choose another mapping")
    if not definition.exclusions or isinstance(definition, _RefreshPartitionsDefinition):
        return definition
    return _rebuilt(definition)


def refresh_subset(
    subset: PartitionsSubset[str] | None, definition: dg.TimeWindowPartitionsDefinition
) -> TimeWindowPartitionsSubset:
    """A subset of the definition with the same partitions, in that definition's windows."""
    found: Any = definition.empty_subset()
    if isinstance(subset, AllPartitionsSubset):
        found = definition.subset_with_all_partitions()
    elif isinstance(subset, TimeWindowPartitionsSubset):
        found = _widened(TimeWindowPartitionsSubset(definition, None, subset.included_time_windows))
    elif subset is not None:
        found = found.with_partition_keys(subset.get_partition_keys())
    return cast(TimeWindowPartitionsSubset, found)


def lengths(definition: dg.TimeWindowPartitionsDefinition, count: int) -> list[float]:
    """The seconds from key to key, of the first of a definition's windows."""
    windows = islice(definition._iterate_time_windows(definition.start_timestamp), count + 1)
    last = definition.end_timestamp or math.inf  # after it, nothing is excluded any more
    starts = takewhile(lambda start: start <= last, (window.start.timestamp() for window in windows))
    return [end - start for start, end in pairwise(starts)]


@lru_cache(maxsize=1024)
def _rebuilt(definition: dg.TimeWindowPartitionsDefinition) -> dg.TimeWindowPartitionsDefinition:
    return refresh_partitions(**_ticks(definition), exclusions=definition.exclusions)


def _ticks(definition: dg.TimeWindowPartitionsDefinition) -> dict[str, Any]:
    """The arguments of a definition without its exclusions."""
    return {
        "start": definition.start_ts,
        "end": definition.end_ts,
        "fmt": definition.fmt,
        "timezone": definition.timezone,
        "end_offset": definition.end_offset,
        "cron_schedule": definition.cron_schedule,
    }


def _widened(subset: Any) -> Any:
    """The same partitions, in windows from key to key; other kinds of subsets are returned unchanged."""
    definition = getattr(subset, "partitions_def", None)
    if not isinstance(definition, _RefreshPartitionsDefinition) or not isinstance(subset, TimeWindowPartitionsSubset):
        return subset
    if isinstance(subset, _RefreshPartitionsSubset):
        return subset
    return _RefreshPartitionsSubset(definition, subset._asdict()["num_partitions"], subset.included_time_windows)


sent_as_its_base(_RefreshPartitionsSubset)
