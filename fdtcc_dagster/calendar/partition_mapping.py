"""The partition mapping between a dataset whose calendar no cron can express and an asset with other partitions."""

from __future__ import annotations

import datetime as dt
import math
from functools import lru_cache
from typing import Any, TypeAlias, cast

import dagster as dg

from fdtcc_dagster.calendar.partition_windows import lengths, refresh_subset, with_refresh_windows
from fdtcc_dagster.dagster_internals import PartitionsSubset, UpstreamPartitionsResult, sent_as_its_base
from fdtcc_dagster.errors import ScheduleError

_Definition: TypeAlias = dg.TimeWindowPartitionsDefinition
_SAMPLE = 120  # windows: five years of months, which have all lengths of a month, and two years of weeks


@sent_as_its_base
class RefreshPartitionMapping(dg.TimeWindowPartitionMapping):
    """Maps a partition onto all partitions with an overlapping window, where a window reaches to the next key.

    Name it in the `AssetDep` or `AssetIn` of each dependency between a dataset whose calendar no cron can express, such
    as the second-to-last day of the month, and an asset with other partitions. In the code location it is exact. The
    webserver and the daemon know neither this class nor those windows. They get a `TimeWindowPartitionMapping` whose
    offsets cover the longest window, so they may find one neighboring partition too many, but none too few.
    """

    def __new__(
        cls, upstream: _Definition, downstream: _Definition, *, allow_nonexistent_upstream_partitions: bool = False
    ) -> RefreshPartitionMapping:
        """Say between which partitions it maps.

        Args:
            upstream: The partitions of the asset that is depended on, for example `dataset.partitions_def`.
            downstream: The partitions of the asset that depends on it.
            allow_nonexistent_upstream_partitions: Whether a partition may depend on windows of which no upstream
                partition exists (yet); they are left out then, and an error otherwise.

        Raises:
            ScheduleError: The two are not time windows in one time zone.
        """
        for definition in (upstream, downstream):
            if not isinstance(definition, _Definition):
                raise ScheduleError(
                    f"a RefreshPartitionMapping maps time windows, and not {definition!r}; for other partitions choose "
                    "one of Dagster's mappings"
                )
        if upstream.timezone != downstream.timezone:
            raise ScheduleError(
                f"the upstream partitions are in the zone {upstream.timezone} and the downstream ones in "
                f"{downstream.timezone}: Dagster maps only partitions of one zone; give both the same"
            )
        return cast(
            RefreshPartitionMapping,
            super().__new__(
                cls,
                start_offset=-_reach(upstream, downstream) if upstream.exclusions else 0,
                end_offset=1 if downstream.exclusions else 0,
                # Dagster warns that this argument is in beta: the user who gives it should see that.
                **({"allow_nonexistent_upstream_partitions": True} if allow_nonexistent_upstream_partitions else {}),
            ),
        )

    @property
    def description(self) -> str:
        """What the UI says about it."""
        return "Maps a partition to all partitions with an overlapping time window; a window reaches to the next key."

    def get_upstream_mapped_partitions_result_for_partitions(
        self,
        downstream_partitions_subset: PartitionsSubset | None,
        downstream_partitions_def: dg.PartitionsDefinition | None,
        upstream_partitions_def: dg.PartitionsDefinition,
        current_time: dt.datetime | None = None,
        dynamic_partitions_store: Any = None,
    ) -> UpstreamPartitionsResult:
        """Find the upstream partitions of downstream ones; Dagster calls it."""
        with dg.partition_loading_context(current_time, dynamic_partitions_store):
            wanted, existing = _map(downstream_partitions_subset, downstream_partitions_def, upstream_partitions_def)
            missing = wanted.empty_subset() if self.allow_nonexistent_upstream_partitions else wanted - existing
            return UpstreamPartitionsResult(partitions_subset=existing, required_but_nonexistent_subset=missing)

    def get_downstream_partitions_for_partitions(
        self,
        upstream_partitions_subset: PartitionsSubset,
        upstream_partitions_def: dg.PartitionsDefinition,
        downstream_partitions_def: dg.PartitionsDefinition | None,
        current_time: dt.datetime | None = None,
        dynamic_partitions_store: Any = None,
    ) -> PartitionsSubset:
        """Find the downstream partitions of upstream ones; Dagster calls it."""
        with dg.partition_loading_context(current_time, dynamic_partitions_store):
            return _map(upstream_partitions_subset, upstream_partitions_def, downstream_partitions_def)[1]


def inferred_mappings(asset_graph: Any, key: dg.AssetKey) -> list[tuple[str, str]]:
    """The dependencies of a dataset, in either direction, that need a mapping and name none.

    Returns:
        The downstream and the upstream asset of each, sorted. Their partitions differ, no cron can express one of the
        calendars, and outside the code location its windows are taken for one minute long.
    """
    if not asset_graph.has(key):
        return []
    node = asset_graph.get(key)
    pairs = {(child, key) for child in node.child_keys} | {(key, parent) for parent in node.parent_keys}
    return sorted(
        (downstream.to_user_string(), upstream.to_user_string())
        for downstream, upstream in pairs
        if _needs_mapping(asset_graph.get(downstream).partitions_def, asset_graph.get(upstream).partitions_def)
        and type(asset_graph.get_partition_mapping(downstream, upstream)) is dg.TimeWindowPartitionMapping
    )


def _needs_mapping(downstream: dg.PartitionsDefinition | None, upstream: dg.PartitionsDefinition | None) -> bool:
    if not isinstance(downstream, _Definition) or not isinstance(upstream, _Definition) or downstream == upstream:
        return False
    return bool(downstream.exclusions or upstream.exclusions)


def _map(
    subset: PartitionsSubset | None, from_def: dg.PartitionsDefinition | None, to_def: dg.PartitionsDefinition | None
) -> tuple[PartitionsSubset, PartitionsSubset]:
    """The partitions whose windows overlap those of a subset, and those of them that exist."""
    source, target = with_refresh_windows(from_def), with_refresh_windows(to_def)
    wanted = target.empty_subset()
    for window in refresh_subset(subset, source).included_time_windows:
        first = target.get_partition_key_for_timestamp(window.start.timestamp())
        last = target.get_partition_key_for_timestamp(window.end.timestamp(), end_closed=True)
        begin, end = target.start_time_for_partition_key(first), target.end_time_for_partition_key(last)
        wanted = wanted | target.get_partition_subset_in_time_window(dg.TimeWindow(begin, end))
    return wanted, wanted & target.subset_with_all_partitions()


@lru_cache(maxsize=1024)
def _reach(upstream: _Definition, downstream: _Definition) -> int:
    """More downstream windows than begin within the longest upstream window."""
    longest, shortest = max(lengths(upstream, _SAMPLE), default=0), min(lengths(downstream, _SAMPLE), default=0)
    # One that ends before its second key has no length.
    return math.ceil(longest / shortest) if longest and shortest else 1
