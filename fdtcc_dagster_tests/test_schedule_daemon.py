"""Schedules and the sensor, evaluated by a running daemon, and by one that was down."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster_tests.midday import TODAY, ZONE, midnight
from fdtcc_dagster_tests.real_instance import LOCATION, RealInstance, dagster_dev, wait_until

pytestmark = [pytest.mark.real_instance, pytest.mark.timeout(400)]

UTC, DAY, SECOND, MINUTE = timezone.utc, timedelta(days=1), timedelta(seconds=1), timedelta(minutes=1)
YESTERDAY, DAY_BEFORE = TODAY - DAY, TODAY - 2 * DAY
BUFFER = timedelta(minutes=10)
NAMES = ("orders", "events", "staff")
ASSETS = """
from fdtcc_dagster import build_foundry_schedules, build_foundry_sensor

refreshes = Schedule([{{"cycle": "daily", "time": "{time}"}}], buffer=timedelta(minutes=10), timezone="{zone}")
orders = FoundryDataset("orders", refreshes, "{yesterday}", {{"id": "Int64"}})
events = FoundryDataset(
    "events", refreshes, "{yesterday}", {{"id": "Int64", "at": "Datetime(us, UTC)"}}, time_column="at"
)
staff = FoundryDataset("staff", DAILY, "{day_before}", {{"id": "Int64"}})
assets = build_foundry_assets([orders, events, staff])
"""
MORE = """
    schedules=[
        *build_foundry_schedules([orders], default_status=dg.DefaultScheduleStatus.RUNNING),
        *build_foundry_schedules([events]),
    ],
    sensors=[build_foundry_sensor([staff], lookback=3, minimum_interval_seconds=30)],
"""
MINUTES = """
from fdtcc_dagster import build_foundry_schedules

minutes = dg.TimeWindowPartitionsDefinition("{start}", "%Y-%m-%dT%H:%M", cron_schedule="* * * * *")
sales = FoundryDataset("sales", partitions_def=minutes, schema={{"id": "Int64"}})
assets = build_foundry_assets([sales])
"""
START_SCHEDULE = """mutation($selector: ScheduleSelector!) { startSchedule(scheduleSelector: $selector) {
    __typename ... on PythonError { message } } }"""
START_SENSOR = """mutation($selector: SensorSelector!) { startSensor(sensorSelector: $selector) {
    __typename ... on PythonError { message } } }"""
EVALUATIONS = "ticks { status timestamp runKeys runIds skipReason error { message } }"
OF_SCHEDULE = f"""query($selector: ScheduleSelector!) {{ scheduleOrError(scheduleSelector: $selector) {{
    ... on Schedule {{ scheduleState {{ {EVALUATIONS} }} }} }} }}"""
OF_SENSOR = f"""query($selector: SensorSelector!) {{ sensorOrError(sensorSelector: $selector) {{
    ... on Sensor {{ sensorState {{ {EVALUATIONS} }} }} }} }}"""
RUNS = "query { runsOrError { ... on Runs { results { runId status assetSelection { path } tags { key value } } } } }"


def selector(**name: str) -> dict[str, str]:
    return {"repositoryLocationName": "foundry", "repositoryName": "__repository__", **name}


def runs_of(instance: RealInstance, asset: str) -> list[dict[str, str]]:
    """The runs of an asset: `id`, `status`, and their tags."""
    return [
        {"id": run["runId"], "status": run["status"], **{tag["key"]: tag["value"] for tag in run["tags"]}}
        for run in instance.query(RUNS)["results"]
        if run["assetSelection"] == [{"path": [asset]}]
    ]


def have_ended(instance: RealInstance, asset: str, number: int) -> bool:
    runs = runs_of(instance, asset)
    return len(runs) >= number and all(run["status"] in ("SUCCESS", "FAILURE", "CANCELED") for run in runs)


def switch_on(instance: RealInstance, asset: str) -> None:
    started = instance.query(START_SCHEDULE, selector=selector(scheduleName=f"{asset}_schedule"))
    assert started["__typename"] == "ScheduleStateResult", started


def evaluations_of_schedule(instance: RealInstance, asset: str) -> list[dict[str, Any]]:
    state = instance.query(OF_SCHEDULE, selector=selector(scheduleName=f"{asset}_schedule"))["scheduleState"]
    return list(state["ticks"])


def looks_until(instance: RealInstance, instant: float) -> list[dict[str, Any]] | None:
    """The sensor's evaluations, newest first, if there are three at least and the last one was after an instant."""
    state = instance.query(OF_SENSOR, selector=selector(sensorName="foundry_sensor"))["sensorState"]
    looks = [look for look in state["ticks"] if look["status"] != "STARTED"]
    return looks if len(looks) > 2 and looks[0]["timestamp"] > instant else None


def ids(directory: Path, asset: str) -> dict[str, list[int]]:
    """What is stored: key → rows."""
    files = (directory / "parquet" / asset).glob("*.parquet")
    return {file.stem: pl.read_parquet(file)["id"].to_list() for file in files}


def test_the_daemon_requests_what_becomes_available_by_schedules_and_what_is_missing_by_the_sensor(
    tmp_path: Path,
) -> None:
    # Late enough for the daemon, which does so every minute, to have looked at the schedules before.
    tick = (datetime.now(ZoneInfo(ZONE)) + timedelta(seconds=75 + 59)).replace(second=0, microsecond=0)
    # A refresh is requested at the end of the minute in which it becomes available.
    available = tick - 20 * SECOND
    refresh = available - BUFFER
    code = LOCATION.format(
        zone=ZONE,
        assets=ASSETS.format(time=refresh.time(), zone=ZONE, yesterday=YESTERDAY, day_before=DAY_BEFORE),
        more=MORE,
    )
    # Rows 1 to 3 are yesterday's slice.
    times = [refresh - DAY - SECOND, refresh - DAY, refresh - DAY / 2, refresh - SECOND, refresh, available]
    rows = [f"{number},{instant.astimezone(UTC)}\n" for number, instant in enumerate(times)]
    with SandboxContainer() as container:
        # Pulled before the buffer had passed.
        container.add_version("orders", available - SECOND, "id\n0\n")
        container.add_version("events", available - SECOND, f"id,at\n0,{times[3].astimezone(UTC)}\n")
        container.set_live("orders", "id\n1\n2\n")
        container.set_live("events", f"id,at\n{''.join(rows)}")
        # Yesterday, nobody pulled it.
        container.add_version("staff", midnight(DAY_BEFORE) + timedelta(hours=1), "id\n3\n")
        container.set_live("staff", "id\n4\n5\n")
        with dagster_dev(tmp_path, {"foundry": code}, container.port) as instance:
            # That of the orders is on by itself.
            switch_on(instance, "events")
            by_hand = instance.materialize("foundry", ["staff"], str(DAY_BEFORE))
            started = instance.query(START_SENSOR, selector=selector(sensorName="foundry_sensor"))
            assert started["__typename"] == "Sensor", started
            assert datetime.now(UTC) < tick, "Dagster was not there in time"

            wait_until(lambda: have_ended(instance, "staff", 3), 240, what="the runs of the sensor")
            over = time.time()
            wait_until(lambda: have_ended(instance, "orders", 1), 240, what="a run of the orders' schedule")
            wait_until(lambda: have_ended(instance, "events", 1), 240, what="a run of the events' schedule")
            # The sensor has looked again: twice, and once when nothing of its was running any more.
            *later, first = wait_until(lambda: looks_until(instance, over), what="evaluations of the sensor")
            runs = {name: runs_of(instance, name) for name in NAMES}
            ticks = {name: evaluations_of_schedule(instance, name) for name in ("orders", "events")}
            partitions = {name: instance.partitions(name) for name in NAMES}
        requests = {name: [each for each in container.requests if each["names"] == [name]] for name in NAMES}

    # Of each schedule, one evaluation and one run.
    for name, key in (("orders", str(TODAY)), ("events", str(YESTERDAY))):
        run_key = f"{name}:{key}:{refresh.astimezone(UTC).isoformat()}"
        (run,), (evaluation,) = runs[name], ticks[name]
        assert evaluation["status"] == "SUCCESS", evaluation
        assert datetime.fromtimestamp(evaluation["timestamp"], UTC) == tick
        assert (evaluation["runKeys"], evaluation["runIds"]) == ([run_key], [run["id"]])
        assert (run["status"], run["dagster/partition"], run["dagster/run_key"]) == ("SUCCESS", key, run_key)
        assert run["dagster/schedule_name"] == f"{name}_schedule"
        assert partitions[name]["MATERIALIZED"] == {key}
        (request,) = requests[name]
        assert datetime.fromisoformat(request["from_dt"]) == available
    # The window ends at the next refresh, as the container reads it.
    assert datetime.fromisoformat(requests["orders"][0]["to_dt"]) == refresh + DAY - timedelta(microseconds=1)
    assert ids(tmp_path, "orders") == {str(TODAY): [1, 2]}
    assert ids(tmp_path, "events") == {str(YESTERDAY): [1, 2, 3]}

    # Of the sensor, one evaluation that requests what is missing, and what cannot be had not again.
    run_keys = {str(day): f"staff:{day}:{midnight(day).astimezone(UTC).isoformat()}" for day in (TODAY, YESTERDAY)}
    assert first["status"] == "SUCCESS", first
    assert first["runKeys"] == list(run_keys.values())
    assert {(look["status"], *look["runKeys"]) for look in later} == {("SKIPPED",)}, later
    assert later[0]["skipReason"].startswith("All partitions that are due are there, or have been requested;")
    assert {run["dagster/partition"]: run["status"] for run in runs["staff"]} == {
        str(DAY_BEFORE): "SUCCESS",
        str(YESTERDAY): "FAILURE",
        str(TODAY): "SUCCESS",
    }
    requested = [run for run in runs["staff"] if run["id"] != by_hand]
    assert {run["dagster/partition"]: run["dagster/run_key"] for run in requested} == run_keys
    assert {run["dagster/sensor_name"] for run in requested} == {"foundry_sensor"}
    assert sorted(run["id"] for run in requested) == sorted(first["runIds"])
    assert partitions["staff"]["MATERIALIZED"] == {str(DAY_BEFORE), str(TODAY)}
    assert ids(tmp_path, "staff") == {str(DAY_BEFORE): [3], str(TODAY): [4, 5]}
    assert sorted(datetime.fromisoformat(each["from_dt"]) for each in requests["staff"]) == [
        midnight(day) for day in (DAY_BEFORE, YESTERDAY, TODAY)
    ]


def test_a_daemon_that_was_down_over_two_ticks_requests_the_partitions_of_both(tmp_path: Path) -> None:
    def key(number: int) -> str:
        return f"{start + number * MINUTE:%Y-%m-%dT%H:%M}"

    start = datetime.now(UTC).replace(second=0, microsecond=0)
    code = LOCATION.format(
        zone=ZONE,
        assets=MINUTES.format(start=key(0)),
        more="schedules=build_foundry_schedules([sales])",
    )
    with SandboxContainer() as container:
        for number in range(20):
            container.add_version("sales", start + number * MINUTE + SECOND, f"id\n{number}\n")
        with dagster_dev(tmp_path, {"foundry": code}, container.port) as instance:
            # Late in a minute its tick could come before Dagster is down.
            wait_until(lambda: datetime.now(UTC).second < 30)
            now = datetime.now(UTC)
            switch_on(instance, "sales")
            first = (now - start) // MINUTE  # its tick is at its end
            assert runs_of(instance, "sales") == []
        back = start + (first + 2) * MINUTE + SECOND
        assert datetime.now(UTC) < back - MINUTE - SECOND, "Dagster did not end in time"
        time.sleep((back - datetime.now(UTC)).total_seconds())
        with dagster_dev(tmp_path, {"foundry": code}, container.port) as instance:
            wait_until(lambda: have_ended(instance, "sales", 2), what="the runs of what was missed")
            # The next tick may come any time and request more.
            runs, evaluations = runs_of(instance, "sales"), evaluations_of_schedule(instance, "sales")
            materialized = instance.partitions("sales")["MATERIALIZED"]

    # Of the two ticks Dagster evaluates the last, or one after it; later ones may have followed.
    evaluation = evaluations[-1]
    assert evaluation["status"] == "SUCCESS", evaluation
    assert datetime.fromtimestamp(evaluation["timestamp"], UTC) >= start + (first + 2) * MINUTE
    missed = {key(first), key(first + 1)}
    assert missed <= {run["dagster/partition"] for run in runs if run["id"] in evaluation["runIds"]}
    assert {run["status"] for run in runs if run["dagster/partition"] in missed} == {"SUCCESS"}
    keys = [run["dagster/partition"] for run in runs]
    assert sorted(keys) == [key(number) for number in range(first, first + len(keys))]
    assert missed <= materialized
    stored = ids(tmp_path, "sales")
    assert [stored[key(number)] for number in (first, first + 1)] == [[first], [first + 1]]
    asked = [datetime.fromisoformat(request["from_dt"]) for request in container.requests]
    assert sorted(asked) == [start + number * MINUTE for number in range(first, first + len(asked))]
