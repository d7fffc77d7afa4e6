"""Conditions over real ticks, by Dagster's own evaluation and by its sensor in a code location."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._serdes import serialize_value

from fdtcc_dagster import build_foundry_assets
from fdtcc_dagster.automation import (
    build_foundry_automation_sensors,
    foundry_automation_condition,
    foundry_freshness_policy,
)
from fdtcc_dagster.calendar.schedule import Refresh, Schedule
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.translator import FoundryDatasetTranslator
from fdtcc_dagster_tests.calendar.test_schedule import FIRST_LAST_AND_FRIDAYS, MONDAYS_AND_FIRST, at
from fdtcc_dagster_tests.fuzz import some_of
from fdtcc_dagster_tests.test_schedules import CALENDARS

# Dagster's own evaluation uses what it calls beta.
pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning")

ORDERS = dg.AssetKey("orders")
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)


class Automated:
    """A dataset's asset, whose condition is evaluated at instants of our choice."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        dataset: FoundryDataset,
        *others: dg.AutomationCondition[dg.AssetKey],
        last: dg.EvaluateAutomationConditionsResult | None = None,
    ) -> None:
        self.instance, self.dataset, self.last = instance, dataset, last
        condition = foundry_automation_condition(dataset)
        for other in others:
            condition &= other

        @dg.asset(key=ORDERS, partitions_def=dataset.partitions_def, automation_condition=condition)
        def stored() -> None: ...

        self.stored = stored
        self.definitions = dg.Definitions(assets=[stored], sensors=build_foundry_automation_sensors([dataset]))

    def evaluate(self, now: dt.datetime | str) -> list[str]:
        moment = at(now) if isinstance(now, str) else now
        self.last = dg.evaluate_automation_conditions(
            self.definitions,
            self.instance,
            evaluation_time=moment,
            cursor=self.last.cursor if self.last else None,
        )
        requested = sorted(str(key) for key in self.last.get_requested_partitions(ORDERS))
        assert all(self.dataset.window(key, moment).from_dt <= moment for key in requested)
        return requested

    def cursor_bytes(self) -> int:
        """What is kept until the next evaluation."""
        assert self.last is not None
        return len(serialize_value(self.last.cursor))

    def evaluation_bytes(self) -> int:
        """What is sent to the daemon where something has changed."""
        assert self.last is not None
        (result,) = self.last.results
        return len(serialize_value(result.serializable_evaluation))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.mark.parametrize("name", some_of(CALENDARS, lambda name: name in list(CALENDARS)[::3]))
def test_each_refresh_is_requested_once_and_never_before_its_window(name: str, instance: dg.DagsterInstance) -> None:
    calendar = CALENDARS[name]
    automated = Automated(instance, FoundryDataset("orders", calendar, "2027-01-01"))
    first, end = at("2028-02-20"), at("2028-04-05")  # a leap day, the end of a quarter, and clocks that go forward
    assert automated.evaluate(first) == []
    availabilities = [
        calendar.available(refresh) for refresh in calendar.refreshes(first - calendar.buffer, end - calendar.buffer)
    ]
    now, requested = first, []
    for instant in [*availabilities, end]:
        # Between refreshes, just before each, and two minutes after it.
        for moment in (now + (instant - now) / 2, instant - dt.timedelta(seconds=1), instant + 2 * HOUR / 60):
            if moment > now:
                now = moment
                requested += automated.evaluate(now)
    expected = [(instant - calendar.buffer).astimezone(instant.tzinfo).date().isoformat() for instant in availabilities]
    assert requested == expected


def test_a_daemon_that_was_down_catches_up(instance: dg.DagsterInstance) -> None:
    automated = Automated(instance, FoundryDataset("orders", FIRST_LAST_AND_FRIDAYS, "2020-01-01"))
    # Nothing of the time before the first evaluation.
    assert automated.evaluate("2026-02-21 01:15") == []
    assert automated.evaluate("2026-03-01 12:00") == ["2026-02-27", "2026-02-28", "2026-03-01"]
    assert automated.evaluate("2026-03-01 12:01") == []
    # At most five, the newest ones.
    assert automated.evaluate("2026-12-01 12:00") == [
        "2026-11-13", "2026-11-20", "2026-11-27", "2026-11-30", "2026-12-01",
    ]  # fmt: skip


def test_a_second_refresh_on_a_date_is_requested_although_the_key_is_there(instance: dg.DagsterInstance) -> None:
    twice = Schedule([Refresh("daily", None, "06:00:00"), Refresh("daily", None, "18:00:00")])
    automated = Automated(instance, FoundryDataset("orders", twice, "2020-01-01"))
    assert automated.evaluate("2026-03-01 07:59") == []
    assert automated.evaluate("2026-03-01 08:00") == ["2026-03-01"]
    assert dg.materialize([automated.stored], instance=instance, partition_key="2026-03-01").success
    assert automated.evaluate("2026-03-01 19:59") == []
    assert automated.evaluate("2026-03-01 20:00") == ["2026-03-01"]
    assert automated.evaluate("2026-03-01 20:01") == []


def test_a_partition_in_progress_waits(instance: dg.DagsterInstance) -> None:
    automated = Automated(instance, FoundryDataset("orders", MONDAYS_AND_FIRST, "2020-01-01"))
    assert automated.evaluate("2026-03-02 03:59") == []
    run = instance.create_run_for_job(
        automated.definitions.resolve_implicit_global_asset_job_def(),
        status=dg.DagsterRunStatus.STARTED,
        tags={"dagster/partition": "2026-03-02"},
        asset_selection=frozenset([ORDERS]),
    )
    assert automated.evaluate("2026-03-02 04:00") == []
    instance.report_run_failed(run)
    assert automated.evaluate("2026-03-02 04:01") == ["2026-03-02"]
    assert automated.evaluate("2026-03-02 04:02") == []


def test_slices_are_requested_when_they_are_complete(instance: dg.DagsterInstance) -> None:
    automated = Automated(instance, FoundryDataset("orders", MONDAYS_AND_FIRST, "2020-01-01", time_column="at"))
    dataset = automated.dataset
    assert automated.evaluate("2026-03-02 04:00") == []
    assert automated.evaluate("2026-03-09 03:59") == []
    # A slice is named after the date on which it begins; its rows are complete a refresh later.
    assert dataset.complete_at("2026-03-02") == at("2026-03-09 04:00")
    assert automated.evaluate("2026-03-09 04:00") == ["2026-03-02"]


@pytest.mark.parametrize("others", [[], [~dg.AutomationCondition.missing()]], ids=["alone", "combined"])
def test_500_hard_calendars_fit_into_one_answer_of_grpc(
    others: list[dg.AutomationCondition[dg.AssetKey]], instance: dg.DagsterInstance
) -> None:
    # Each set of partitions that Dagster keeps or reports has the whole definition in it, with all its exclusions.
    rules = [Refresh("monthly", -2, "12:00:00"), Refresh("weekly", "Friday", "12:00:00")]
    dataset = FoundryDataset("orders", Schedule(rules), "1990-01-01")
    calendar: Any = dataset.partitions_def.empty_subset().to_serializable_subset()
    assert len(serialize_value(calendar)) > 100_000
    automated = Automated(instance, dataset, *others)
    for moment in ("2026-03-01 12:00", "2026-03-30 14:00", "2026-03-30 14:01", "2026-03-30 14:02"):
        automated.evaluate(moment)
        # Of the 100 MB that gRPC takes by default.
        assert 500 * (automated.cursor_bytes() + automated.evaluation_bytes()) < 10_000_000


@pytest.mark.parametrize("as_assets", [True, False])
def test_a_condition_that_does_not_begin_with_ours_is_named(caplog: pytest.LogCaptureFixture, as_assets: bool) -> None:
    easy, hard = (Schedule([Refresh("monthly", day, "12:00:00")]) for day in (1, -2))
    stored = ~dg.AutomationCondition.missing()

    class Combined(FoundryDatasetTranslator):
        def get_asset_spec(self, dataset: FoundryDataset) -> dg.AssetSpec:
            ours: Any = foundry_automation_condition(dataset)
            combined = {"left": ours & stored, "right": stored & ours, "either": ours | stored, "none": stored}
            spec = super().get_asset_spec(dataset)
            return spec.replace_attributes(automation_condition=combined[dataset.name.split()[0]])

    names = [("right easy", easy), *((name, hard) for name in ("left", "right", "either", "none"))]
    datasets = [FoundryDataset(name, schedule, "2020-01-01") for name, schedule in names]
    if as_assets:
        build_foundry_automation_sensors(build_foundry_assets(datasets, translator=Combined()))
    else:
        build_foundry_automation_sensors(datasets, translator=Combined())
    assert "the automation conditions of right, either are evaluated slowly" in caplog.text


def test_a_condition_goes_on_where_another_version_or_calendar_left_off(instance: dg.DagsterInstance) -> None:
    hard = Schedule([Refresh("monthly", -2, "12:00:00")], dt.timedelta(0))
    automated = Automated(instance, FoundryDataset("orders", hard, "2020-01-01"))
    assert automated.evaluate("2026-02-26 12:00") == []
    run = instance.create_run_for_job(
        automated.definitions.resolve_implicit_global_asset_job_def(),
        status=dg.DagsterRunStatus.STARTED,
        tags={"dagster/partition": "2026-02-27"},
        asset_selection=frozenset([ORDERS]),
    )
    # While the partition waits, the cursor keeps the request for it.
    assert automated.evaluate("2026-02-27 12:01") == []
    later = Automated(instance, FoundryDataset("orders", hard, "2021-01-01"), last=automated.last)
    instance.report_run_failed(run)
    assert later.evaluate("2026-02-27 12:02") == ["2026-02-27"]
    assert later.evaluate("2026-02-27 12:03") == []


def test_the_condition_is_evaluated_in_the_code_location() -> None:
    datasets = [FoundryDataset(f"dataset {number}", MONDAYS_AND_FIRST, "2020-01-01") for number in range(501)]
    sensors = build_foundry_automation_sensors(datasets)
    assert [sensor.name for sensor in sensors] == ["foundry_automation", "foundry_automation_2"]
    assert not foundry_automation_condition(datasets[0]).is_serializable
    with dg.instance_for_test() as instance:
        automated = Automated(instance, FoundryDataset("orders", MONDAYS_AND_FIRST, "2020-01-01"))
        repository_def = automated.definitions.get_repository_def()
        # No default sensor beside ours, which could not evaluate it.
        assert [sensor.name for sensor in repository_def.sensor_defs] == ["foundry_automation"]
        (sensor,) = repository_def.sensor_defs
        with dg.build_sensor_context(instance, repository_def=repository_def) as context:
            assert not sensor.evaluate_tick(context).run_requests


@pytest.mark.parametrize(
    ("schedule", "cron", "timezone"),
    [
        (Schedule([Refresh("weekly", "Monday", "02:00:00")]), "0 5 * * 1", "UTC"),
        (Schedule([Refresh("monthly", -1, "23:30:00")]), "30 2 1 * *", "UTC"),
        (Schedule([Refresh("monthly", -2, "21:00:00")]), "0 0 L * *", "UTC"),
        (Schedule([Refresh("quarterly", 31, "12:00:00", 2)]), "0 15 L 2,5,8,11 *", "UTC"),
        (Schedule([Refresh("daily", None, "12:00:00")], timezone="Europe/Berlin"), "0 15 * * *", "Europe/Berlin"),
    ],
)
def test_one_cron_that_says_all_deadlines_makes_a_policy_of_deadlines(
    schedule: Schedule, cron: str, timezone: str
) -> None:
    policy = foundry_freshness_policy(FoundryDataset("orders", schedule, "2020-01-01"))
    bound = HOUR + HOUR / 60
    assert policy == dg.FreshnessPolicy.cron(cron, lower_bound_delta=bound, timezone=timezone)


@pytest.mark.parametrize(
    ("schedule", "longest"),
    [
        (MONDAYS_AND_FIRST, 7 * DAY),
        (Schedule([Refresh("monthly", -3, "12:00:00")]), 31 * DAY),
        (Schedule([Refresh("yearly", 30, "12:00:00", 2), Refresh("weekly", "Monday", "02:00:00")]), 7 * DAY),
        (Schedule([Refresh("daily", None, "01:00:00")], timezone="Europe/Berlin"), DAY + HOUR),
    ],
)
def test_other_calendars_get_their_longest_wait(schedule: Schedule, longest: dt.timedelta) -> None:
    policy = foundry_freshness_policy(FoundryDataset("orders", schedule, "2020-01-01"), grace=2 * HOUR)
    assert policy == dg.FreshnessPolicy.time_window(fail_window=longest + 2 * HOUR)


def test_slices_are_as_old_as_dates_are_apart() -> None:
    twice = Schedule([Refresh("weekly", "Monday", "02:00:00"), Refresh("weekly", "Monday", "20:00:00")])
    policy = foundry_freshness_policy(FoundryDataset("orders", twice, "2020-01-01", time_column="at"))
    assert policy == dg.FreshnessPolicy.time_window(fail_window=7 * DAY + HOUR)


def test_own_partitions_have_no_policy_and_a_grace_has_a_minute() -> None:
    own = FoundryDataset("orders", partitions_def=dg.DailyPartitionsDefinition("2026-01-01"))
    assert foundry_freshness_policy(own) is None
    with pytest.raises(ValueError, match="give a minute or more"):
        foundry_freshness_policy(own, grace=dt.timedelta(0))
