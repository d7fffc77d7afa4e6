"""Partition mappings of calendars, compared with the overlap of windows that is found by brute force."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.partitions.mapping import UpstreamPartitionsResult
from dagster._core.definitions.partitions.snap import PartitionsSnap
from dagster._core.definitions.partitions.subset import PartitionsSubset
from dagster._serdes import deserialize_value, serialize_value

from fdtcc_dagster import RefreshPartitionMapping, ScheduleError
from fdtcc_dagster.calendar.partition_mapping import inferred_mappings
from fdtcc_dagster.calendar.partitions import build_partitions_def
from fdtcc_dagster.calendar.schedule import Refresh, Schedule
from fdtcc_dagster_tests.fuzz import some_of

DAY = dt.timedelta(days=1)
NOW = dt.datetime(2025, 3, 12, 9, 30, tzinfo=dt.timezone.utc)
START, LATER = dt.date(2024, 1, 1), dt.date(2024, 6, 1)
ZONES = ["UTC", "Europe/Berlin", "America/Havana"]
Windows = dict[str, tuple[float, float]]

HARD: dict[str, list[Refresh]] = {
    "second-to-last day": [Refresh("monthly", -2, "01:00:00")],
    "day 30": [Refresh("monthly", 30, "01:00:00")],
    "day 30 and last day": [Refresh("monthly", 30, "01:00:00"), Refresh("monthly", -1, "01:00:00")],
    "quarterly and Sundays": [Refresh("quarterly", 1, "01:00:00"), Refresh("weekly", "Sunday", "01:00:00")],
    "a day of February": [Refresh("yearly", -2, "01:00:00", 2)],
}
PLAIN: dict[str, list[Refresh]] = {
    "last day": [Refresh("monthly", -1, "01:00:00")],
    "Mondays and the first": [Refresh("monthly", 1, "01:00:00"), Refresh("weekly", "Monday", "01:00:00")],
}
OTHERS: dict[str, Callable[[str], dg.TimeWindowPartitionsDefinition]] = {
    "hourly": lambda zone: dg.HourlyPartitionsDefinition("2025-01-20-00:00", timezone=zone, fmt="%Y-%m-%d-%H:%M"),
    "daily": lambda zone: dg.DailyPartitionsDefinition("2024-02-10", timezone=zone),
    "weekly": lambda zone: dg.WeeklyPartitionsDefinition("2024-02-10", timezone=zone),
    "monthly": lambda zone: dg.MonthlyPartitionsDefinition("2023-11-01", timezone=zone, end_offset=1),
    "snapshots": lambda zone: build_partitions_def(Schedule(HARD["second-to-last day"], timezone=zone), LATER),
}


def calendar(rules: str, zone: str = "UTC", start: dt.date = START) -> dg.TimeWindowPartitionsDefinition:
    return build_partitions_def(Schedule((HARD | PLAIN)[rules], timezone=zone), start)


def over_the_wire(value: Any) -> Any:
    return deserialize_value(serialize_value(value))


def on_the_host(definition: dg.TimeWindowPartitionsDefinition) -> Any:
    """The definition as the webserver and the daemon rebuild it."""
    return over_the_wire(PartitionsSnap.from_def(definition)).get_partitions_definition()


def true_windows(definition: dg.TimeWindowPartitionsDefinition) -> Windows:
    """Key → its window, as timestamps: for a calendar from midnight to midnight of the next key, by its dates alone."""
    keys = list(definition.get_partition_keys())
    if definition.fmt != "%Y-%m-%d" or not (definition.exclusions or definition.end_offset):
        listed = {key: definition.time_window_for_partition_key(key) for key in keys}
        return {key: (window.start.timestamp(), window.end.timestamp()) for key, window in listed.items()}
    # Of the plain class's windows, the starts are right; the last window ends with the first key after now.
    plain = on_the_host(definition)
    starts = [plain.start_time_for_partition_key(key) for key in keys]
    starts.append(plain.get_next_partition_window(starts[-1] + DAY / 2, respect_bounds=False).start)
    return {key: (start.timestamp(), end.timestamp()) for key, (start, end) in zip(keys, pairwise(starts), strict=True)}


def overlapping(wanted: Iterable[tuple[float, float]], windows: Windows) -> set[str]:
    keys, starts, ends = list(windows), [s for s, _ in windows.values()], [e for _, e in windows.values()]
    return {key for start, end in wanted for key in keys[bisect_right(ends, start) : bisect_left(starts, end)]}


def up(
    mapping: dg.PartitionMapping, subset: PartitionsSubset, downstream: Any, upstream: Any
) -> UpstreamPartitionsResult:
    return mapping.get_upstream_mapped_partitions_result_for_partitions(subset, downstream, upstream)


def down(mapping: dg.PartitionMapping, subset: Any, upstream: Any, downstream: Any) -> set[str]:
    return set(mapping.get_downstream_partitions_for_partitions(subset, upstream, downstream).get_partition_keys())


def questions(keys: list[str]) -> list[list[str]]:
    """Sets of keys to ask about: single ones, two with a gap, a range, and all."""
    middle = len(keys) // 2
    singles = [[key] for key in {keys[0], *keys[middle : middle + 2], *keys[-2:]}]
    return [*singles, [keys[0], keys[-1]], keys[middle:]]


def check(mapping: dg.PartitionMapping, first: Any, second: Any) -> int:
    """Compare both directions between two definitions, each once as upstream; return the number of questions."""
    asked = 0
    for upstream, downstream in ((first, second), (second, first)):
        above, below = true_windows(upstream), true_windows(downstream)
        for keys in questions(list(below)):
            found = up(mapping, downstream.subset_with_partition_keys(keys), downstream, upstream)
            expected = overlapping([below[key] for key in keys], above)
            assert set(found.partitions_subset.get_partition_keys()) == expected, (upstream, downstream, keys)
            begin, end = min(above.values())[0], max(above.values())[1]
            outside = any(below[key][0] < begin or below[key][1] > end for key in keys)
            assert found.required_but_nonexistent_subset.is_empty is not outside, (upstream, downstream, keys)
            asked += 1
        for keys in questions(list(above)):
            mapped = down(mapping, upstream.subset_with_partition_keys(keys), upstream, downstream)
            assert mapped == overlapping([above[key] for key in keys], below), (upstream, downstream, keys)
            asked += 1
    return asked


CASES = [
    *((rules, other, "UTC") for rules in [*HARD, *PLAIN] for other in OTHERS),
    *((rules, other, zone) for rules in HARD for other in ("daily", "monthly", "snapshots") for zone in ZONES[1:]),
]


def usual(case: tuple[str, str, str]) -> bool:
    rules, other, zone = case
    return other in ("daily", "snapshots") if zone == "UTC" else (rules, other) == ("second-to-last day", "daily")


@pytest.mark.parametrize(("rules", "other", "zone"), some_of(CASES, usual))
def test_every_mapping_question_is_answered_by_the_overlap_of_windows(rules: str, other: str, zone: str) -> None:
    first, second = calendar(rules, zone), OTHERS[other](zone)
    with dg.partition_loading_context(effective_dt=NOW):
        assert check(RefreshPartitionMapping(first, second), first, second) >= 20
        # Dagster's own mapping takes the windows of two calendars with the same cron for equal.
        if first.cron_schedule != second.cron_schedule or rules == "second-to-last day":
            assert check(dg.TimeWindowPartitionMapping(), first, second) >= 20


def test_two_calendars_of_one_cron_are_mapped_by_their_windows() -> None:
    first, second = calendar("day 30"), calendar("day 30 and last day")
    assert first.cron_schedule == second.cron_schedule
    with dg.partition_loading_context(effective_dt=NOW):
        assert check(RefreshPartitionMapping(first, second), first, second) >= 20


@pytest.mark.parametrize(("rules", "other", "zone"), some_of([case for case in CASES if case[0] in HARD], usual))
def test_the_host_finds_no_partition_too_few(rules: str, other: str, zone: str) -> None:
    first, second = calendar(rules, zone), OTHERS[other](zone)
    with dg.partition_loading_context(effective_dt=NOW):
        for upstream, downstream in ((first, second), (second, first)):
            mapping = over_the_wire(RefreshPartitionMapping(upstream, downstream))
            assert type(mapping) is dg.TimeWindowPartitionMapping
            above, below = true_windows(upstream), true_windows(downstream)
            host_up, host_down = on_the_host(upstream), on_the_host(downstream)
            for keys in questions(list(below)):
                found = up(mapping, host_down.subset_with_partition_keys(keys), host_down, host_up).partitions_subset
                expected = overlapping([below[key] for key in keys], above)
                assert expected <= set(found.get_partition_keys()), (upstream, downstream, keys)
            # Before its start, the daemon takes ticks that no key can have for partitions of a calendar: see ADR 19.
            begin = min(below.values())[0] if downstream.exclusions else 0.0
            for keys in questions([key for key, window in above.items() if window[0] >= begin]):
                mapped = down(mapping, host_up.subset_with_partition_keys(keys), host_up, host_down)
                assert overlapping([above[key] for key in keys], below) <= mapped, (upstream, downstream, keys)


def test_what_cannot_be_mapped_is_refused_when_it_is_declared() -> None:
    snapshots, static = calendar("day 30"), dg.StaticPartitionsDefinition(["a"])
    with pytest.raises(ScheduleError, match="maps time windows"):
        RefreshPartitionMapping(snapshots, static)  # type: ignore[arg-type]
    with pytest.raises(ScheduleError, match="in the zone UTC and the downstream ones in Europe/Berlin"):
        RefreshPartitionMapping(snapshots, dg.DailyPartitionsDefinition("2024-01-01", timezone="Europe/Berlin"))


@pytest.mark.parametrize("end", ["2026-01-02", "2026-01-31"], ids=["one window", "less than a month"])
def test_a_definition_that_ends_within_its_first_window_can_be_mapped(end: str) -> None:
    snapshots, short = calendar("day 30"), dg.MonthlyPartitionsDefinition("2026-01-01", end_date=end)
    assert RefreshPartitionMapping(snapshots, short).start_offset == -1
    assert RefreshPartitionMapping(short, snapshots).end_offset == 1


def test_inferred_mappings_of_both_directions_are_found_whichever_side_is_the_dataset() -> None:
    snapshots, daily = calendar("second-to-last day"), dg.DailyPartitionsDefinition("2024-01-01")
    mapping = RefreshPartitionMapping(daily, snapshots)

    def asset(name: str, definition: dg.PartitionsDefinition, *deps: str | dg.AssetDep) -> dg.AssetSpec:
        return dg.AssetSpec(name, partitions_def=definition, deps=deps)

    graph = dg.Definitions(
        [
            asset("days", daily),
            asset("weeks", dg.WeeklyPartitionsDefinition("2024-01-01"), "days"),
            asset("months", snapshots, "days"),
            asset("named", snapshots, dg.AssetDep("days", partition_mapping=mapping)),
            asset("equal", snapshots, "months"),
            asset("report", daily, "months"),
        ]
    ).resolve_asset_graph()
    assert inferred_mappings(graph, dg.AssetKey("days")) == [("months", "days")]
    assert inferred_mappings(graph, dg.AssetKey("months")) == [("months", "days"), ("report", "months")]
    assert inferred_mappings(graph, dg.AssetKey("named")) == []


def test_windows_without_an_upstream_partition_are_left_out_on_request() -> None:
    snapshots, daily = calendar("second-to-last day"), dg.DailyPartitionsDefinition("2024-01-01")
    with dg.partition_loading_context(effective_dt=NOW):
        (newest,) = list(snapshots.get_partition_keys())[-1:]
        subset = snapshots.subset_with_partition_keys([newest])
        strict = up(RefreshPartitionMapping(daily, snapshots), subset, snapshots, daily)
        assert "2025-03-12" in strict.required_but_nonexistent_partition_keys
        with pytest.warns(dg.BetaWarning):
            lenient = RefreshPartitionMapping(daily, snapshots, allow_nonexistent_upstream_partitions=True)
        found = up(lenient, subset, snapshots, daily)
        assert found.required_but_nonexistent_partition_keys == []
        assert list(found.partitions_subset.get_partition_keys())[-1] == "2025-03-11"
