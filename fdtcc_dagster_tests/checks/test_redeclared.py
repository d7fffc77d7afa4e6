"""How a stored partition is compared with a declaration."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest

from fdtcc_dagster import (
    FoundryDataset,
    Schedule,
)
from fdtcc_dagster.checks.declaration_check import declaration_result
from fdtcc_dagster.checks.redeclared import compare
from fdtcc_dagster.window import Window
from fdtcc_dagster_tests.checks.test_declaration_check import DAILY, SCHEMA, WEEK, WEEKLY, declared, hours, record
from fdtcc_dagster_tests.fuzz import some_of


def test_of_what_older_versions_stored_the_windows_are_compared() -> None:
    day = record(hours(0, 24))
    assert compare(declared(), {WEEK[0]: day}).differences == {}
    assert WEEK[0] in compare(declared(WEEKLY), {WEEK[0]: day}).differences
    assert WEEK[0] in compare(declared(zone="America/New_York"), {WEEK[0]: day}).differences
    assert WEEK[0] in compare(declared(schema={**SCHEMA, "id": "Int8"}), {WEEK[0]: day}).differences
    # Nor do they say whether their types were declared, and by which column they were cut.
    assert compare(declared(schema=None), {WEEK[0]: day}).differences == {}
    assert compare(declared(time_column="made"), {WEEK[0]: day}).differences == {}


@pytest.mark.parametrize("end", [24, 26], ids=["up to the refresh", "up to its buffer"])
def test_the_end_of_a_pull_s_window_alone_makes_no_snapshot_of_an_older_version_differ(end: int) -> None:
    snapshot = record(hours(2, end), is_slice=False)
    assert compare(declared(buffer=2, time_column=None), {WEEK[0]: snapshot}).differences == {}
    assert WEEK[0] in compare(declared(buffer=3, time_column=None), {WEEK[0]: snapshot}).differences
    week = record(hours(2, end + 6 * 24), is_slice=False)
    assert WEEK[0] in compare(declared(buffer=2, time_column=None), {WEEK[0]: week}).differences


def test_a_pull_that_began_later_in_its_window_fits() -> None:
    dataset = declared(time_column=None)
    assert compare(dataset, {WEEK[0]: record(hours(7, 24), dataset)}).differences == {}
    other = declared(time_column=None, schema=None)
    assert compare(other, {WEEK[0]: record(hours(7, 24), declared(schema=None, time_column=None))}).differences == {}


def test_a_snapshot_of_any_refresh_of_its_date_fits() -> None:
    twice = Schedule([DAILY, {**DAILY, "time": "12:00:00"}], dt.timedelta(0))
    dataset = FoundryDataset("events", twice, "2026-01-01", SCHEMA)
    for of in (dataset, None, declared(time_column=None)):
        for window in (hours(0, 12), hours(12, 24)):
            assert compare(dataset, {WEEK[0]: record(window, of, is_slice=False)}).differences == {}
        assert WEEK[0] in compare(dataset, {WEEK[0]: record(hours(0, 24), of, is_slice=False)}).differences


def test_a_slice_that_is_not_stored_is_no_gap_and_what_lies_before_the_start_is_left_alone() -> None:
    stored = {WEEK[0]: record(hours(0, 24)), WEEK[1]: record(hours(24, 48)), WEEK[4]: record(hours(96, 120))}
    assert declaration_result(declared(), stored).text == "As declared: 3 of 3 partitions."
    later = declaration_result(declared(start=WEEK[1]), stored)
    assert (later.passed, later.text) == (True, "As declared: 2 of 3 partitions.")
    assert later.metadata["foundry/before_start_or_after_end"] == WEEK[0]


def test_nothing_can_be_told_of_what_others_recorded() -> None:
    found = declaration_result(declared(), {WEEK[0]: replace(record(hours(0, 24)), window=None)})
    assert (found.passed, found.certain) == (False, False)
    assert found.text == "No window is recorded of 2026-01-05."
    assert not declaration_result(declared(), {}).certain


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_partitions_of_ones_own_are_compared_by_their_bounds(zone: str) -> None:
    def own(**more: Any) -> FoundryDataset:
        arguments: dict[str, Any] = {"cron_schedule": "0 0 * * *", "timezone": zone, "fmt": "%Y-%m-%d", **more}
        definition = dg.TimeWindowPartitionsDefinition(**{"start": "2026-01-01", **arguments})
        return FoundryDataset("events", partitions_def=definition, schema=SCHEMA, time_column="at")

    stored = {key: record(own().window(key), own()) for key in WEEK}
    assert compare(own(), stored).differences == {}
    assert compare(own(start="2026-01-07"), stored).beyond == WEEK[:2]
    assert compare(own(end="2026-01-08"), stored).beyond == WEEK[3:]
    assert len(compare(own(cron_schedule="0 6 * * *"), stored).differences) == 7
    weekly = compare(own(cron_schedule="0 0 * * 1"), stored)
    assert (list(weekly.differences), weekly.former) == (WEEK[:1], WEEK[1:])
    monthly = compare(own(cron_schedule="0 0 1 * *", fmt="%Y-%m", start="2026-01"), stored)
    assert (monthly.differences, monthly.former) == ({}, WEEK)


@pytest.mark.parametrize("time_column", [None, "at"])
@pytest.mark.parametrize(
    "zone", some_of(["UTC", "Europe/Berlin", "America/New_York"], lambda zone: zone == "Europe/Berlin")
)
@pytest.mark.parametrize(
    "rules",
    [[WEEKLY, {"cycle": "monthly", "day": -2, "time": "02:30:00"}], [DAILY, {**DAILY, "time": "02:30:00"}]],
    ids=["weekly and monthly", "twice a day"],
)
def test_over_years_each_window_of_the_dataset_fits_and_another_does_not(
    rules: list[dict[str, Any]], zone: str, time_column: str | None
) -> None:
    dataset = FoundryDataset("events", Schedule(rules, timezone=zone), "2024-01-01", SCHEMA, time_column=time_column)
    keys = [key for key in dataset.partitions_def.get_partition_keys() if key < "2026"][:400]
    stored = {key: record(dataset.window(key), dataset) for key in keys}
    assert compare(dataset, stored).differences == {}
    minute = dt.timedelta(minutes=1)
    moved = {key: replace(each, window=Window(each.window.from_dt - minute, each.window.to_dt - minute))
             for key, each in stored.items() if each.window}  # fmt: skip
    assert compare(dataset, moved).differences.keys() == set(keys)
