"""Windows and subsets of calendars that no cron can say."""

from __future__ import annotations

import datetime as dt

import dagster as dg
import pytest
from dagster._core.definitions.partitions.subset import TimeWindowPartitionsSubset

from fdtcc_dagster import RefreshPartitionMapping
from fdtcc_dagster_tests.calendar.test_partition_mapping import (
    DAY,
    HARD,
    NOW,
    calendar,
    down,
    on_the_host,
    over_the_wire,
    overlapping,
    questions,
    true_windows,
)


@pytest.mark.parametrize("rules", HARD)
def test_subsets_and_windows_reach_to_the_next_key_wherever_the_subset_comes_from(rules: str) -> None:
    definition, daily = calendar(rules), dg.DailyPartitionsDefinition("2024-01-01")
    with dg.partition_loading_context(effective_dt=NOW):
        windows, host = true_windows(definition), on_the_host(definition)
        for keys in questions(list(windows)):
            here, there = definition.subset_with_partition_keys(keys), host.subset_with_partition_keys(keys)
            expected = overlapping([windows[key] for key in keys], true_windows(daily))
            received = definition.deserialize_subset(there.serialize())
            for subset in (here, received, here | received, here & received, here - definition.empty_subset()):
                assert list(subset.get_partition_keys()) == keys
                assert len(subset) == len(keys)
                assert down(dg.TimeWindowPartitionMapping(), subset, definition, daily) == expected
            assert (here - received).is_empty
            # Our mapping also accepts subsets that the daemon made of Dagster's own classes.
            mapping = RefreshPartitionMapping(definition, daily)
            assert down(mapping, over_the_wire(there), host, daily) == expected
            # A subset that is sent has the daemon's windows, because the daemon compares it with its own.
            sent = over_the_wire(here.to_serializable_subset())
            assert type(sent) is TimeWindowPartitionsSubset
            assert (sent - host.subset_with_all_partitions()).included_time_windows == []
            assert list(sent.get_partition_keys()) == list(
                host.deserialize_subset(here.serialize()).get_partition_keys()
            )
        assert list(definition.subset_with_all_partitions().get_partition_keys()) == list(windows)
        last = definition.get_last_partition_window()
        assert last is not None
        assert (last.start.timestamp(), last.end.timestamp()) == windows[next(reversed(windows))]


@pytest.mark.parametrize("rules", HARD)
def test_definitions_survive_serialization_as_dagster_s_own_class(rules: str) -> None:
    definition = calendar(rules)
    received = over_the_wire(definition)
    assert type(received) is dg.TimeWindowPartitionsDefinition
    assert received == definition == on_the_host(definition)
    assert received.get_partition_keys(current_time=NOW) == definition.get_partition_keys(current_time=NOW)
    assert received.get_serializable_unique_identifier() == definition.get_serializable_unique_identifier()


def test_the_window_before_an_instant_reaches_to_the_next_key() -> None:
    definition = calendar("second-to-last day")
    window = definition.get_prev_partition_window(dt.datetime(2024, 7, 5, tzinfo=dt.timezone.utc))
    assert window == definition.time_window_for_partition_key("2024-06-29")
    assert window is not None
    assert window.end - window.start == 31 * DAY
