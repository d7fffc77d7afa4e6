"""Backfills on a real instance, launched, watched and relaunched as in the UI; and the history guard there."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from fdtcc_dagster import FoundryDataset, Schedule
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.midday import TODAY, ZONE, midnight
from fdtcc_dagster_tests.real_instance import LOCATION, Backfill, RealInstance, dagster_dev, wait_until

pytestmark = [pytest.mark.real_instance, pytest.mark.timeout(400)]

DAYS = [(TODAY - timedelta(days=back)).isoformat() for back in range(19, -1, -1)]
MISSED, MISFIT, NOW = DAYS[2], DAYS[7], DAYS[19]
FAILING = [MISSED, MISFIT, NOW]
MONDAYS = [{"cycle": "weekly", "day": "Monday", "time": "04:00:00"}]
SLICED: dict[str, Any] = {
    "start": "2025-01-06", "schema": {"id": "Int64", "at": "Datetime(us, UTC)"}, "time_column": "at"
}  # fmt: skip
SLICES = FoundryDataset("slices", Schedule(MONDAYS, timezone="Europe/Berlin"), **SLICED)
WEEKS = list(SLICES.partitions_def.get_partition_keys())[:52]
ASSETS = f"""
def datasets(*names, **arguments):
    return [FoundryDataset(name, DAILY, "{DAYS[0]}", {{"id": "Int64"}}, **arguments) for name in names]

assets = [
    *build_foundry_assets(datasets("cached", "gaps", "typed", "guarded"), retry_policy=None),
    *build_foundry_assets(datasets("fives"), retry_policy=None, max_partitions_per_run=5),
    *build_foundry_assets(datasets("accepting", missing_version="accept"), retry_policy=None),
    *build_foundry_assets(
        [FoundryDataset("slices", Schedule({MONDAYS}, timezone="Europe/Berlin"), **{SLICED})], retry_policy=None
    ),
]
"""


def csv_of(name: str, day: str) -> str:
    return f"id\n{int(day.replace('-', ''))}{len(name)}\n"


def sha256(name: str, day: str) -> str:
    return hashlib.sha256(csv_of(name, day).encode()).hexdigest()


def weeks() -> pl.DataFrame:
    """Unordered rows of all weeks: on every bound and beside it, and a different number in each week."""
    times: list[datetime] = []
    for number, key in enumerate(WEEKS):
        window = SLICES.window(key)
        for bound in (window.from_dt, window.to_dt):
            times += [bound.astimezone(timezone.utc) + timedelta(microseconds=step) for step in (-1, 0, 1)]
        times += [window.from_dt.astimezone(timezone.utc) + timedelta(hours=hours) for hours in range(1, number + 2)]
    random.Random(52).shuffle(times)  # noqa: S311 (not for secrets)
    return pl.DataFrame({"id": range(len(times)), "at": times})


def instant(day: str, second: int = 1) -> datetime:
    return midnight(day) + timedelta(seconds=second)


@dataclass(frozen=True)
class Backfills:
    """A container with a version for each day, and the backfills that were launched."""

    container: SandboxContainer
    instance: RealInstance
    backfills: Mapping[str, str]

    def completed(self, backfill: str) -> Backfill:
        return wait_until(lambda: shown if (shown := self.instance.show(backfill)).over else None, 240)

    def backfilled(self, name: str) -> tuple[str, Backfill]:
        return self.backfills[name], self.completed(self.backfills[name])

    def ended(self, run: str) -> str:
        return wait_until(lambda: self.instance.ended(run), 200)

    def failed_and_missing(self, name: str) -> list[str]:
        """The partitions of the days that "Backfill only failed and missing partitions" chooses."""
        statuses = self.instance.partitions(name)
        return [day for day in DAYS if day in statuses["FAILED"] | statuses["MISSING"]]

    def requested(self, name: str) -> list[str]:
        begins = [request["from_dt"] for request in self.container.requests if request["names"] == [name]]
        return [str(datetime.fromisoformat(begin).astimezone(ZoneInfo(ZONE)).date()) for begin in begins]

    def repair(self, name: str) -> None:
        """Let the container have what the failed partitions lacked."""
        self.container.add_version(name, instant(MISSED), csv_of(name, MISSED))
        self.container.set_live(name, csv_of(name, NOW))
        self.container.add_version(name, instant(MISFIT, second=2), csv_of(name, MISFIT))

    def assert_each_day_is_there(self, name: str) -> None:
        newest = {each["partition"]: each for each in reversed(self.instance.materializations(name))}
        assert sorted(newest) == DAYS
        for day in DAYS:
            assert newest[day]["foundry/sha256"] == newest[day]["tags"]["dagster/data_version"] == sha256(name, day)
            stored = pl.read_parquet(self.instance.parquet / name / f"{day}.parquet")
            assert f"id\n{stored['id'].item()}\n" == csv_of(name, day)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backfills]:
    with SandboxContainer() as container:
        for day in DAYS:
            for name in ("cached", "typed"):
                container.add_version(name, instant(day), csv_of(name, day))
            for name in ("gaps", "fives"):
                # Nobody pulled one day, another day's data do not fit, and the newest partition is pulled live.
                if day not in (MISSED, NOW):
                    container.add_version(name, instant(day), "id\nmany\n" if day == MISFIT else csv_of(name, day))
        # A job that fails, and one that has no rows. A run requests its partitions in order.
        container.inject("gaps", faults.JobFailure("Query ran out of memory."), skip=DAYS.index(NOW))
        container.set_live("gaps", csv_of("gaps", NOW))
        container.set_live("fives", "id\n")
        for name in ("guarded", "accepting"):
            container.set_live(name, "id\n1\n")
        container.set_live("slices", weeks())
        directory = tmp_path_factory.mktemp("backfills") / "dagster"
        with dagster_dev(
            directory, {"backfills": LOCATION.format(zone=ZONE, assets=ASSETS, more="")}, container.port
        ) as instance:
            backfills = {name: instance.backfill(name, DAYS) for name in ("cached", "gaps", "fives")}
            yield Backfills(container, instance, backfills)


def test_the_history_guard_reads_well_in_a_run(site: Backfills) -> None:
    run = site.instance.materialize("backfills", ["guarded"], DAYS[0])
    assert site.ended(run) == "FAILURE"
    event = site.instance.failure(run)
    for text in (event["error"]["message"], event["failureMetadata"]["description"]):
        assert "NoVersionInWindowError: dataset 'guarded'" in text
        assert midnight(DAYS[0]).isoformat() in text
        assert midnight(DAYS[1]).isoformat() in text
        assert 'missing_version="accept"' in text
    assert site.instance.partitions("guarded")["FAILED"] == {DAYS[0]}


def test_accepted_data_of_today_are_marked(site: Backfills) -> None:
    run = site.instance.materialize("backfills", ["accepting"], DAYS[0])
    assert site.ended(run) == "SUCCESS"
    (stored,) = site.instance.materializations("accepting")
    assert stored["foundry/origin"] == "fetched"
    assert stored["foundry/outside_window"] is True


def test_a_range_on_the_command_line_is_one_run(site: Backfills) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "dagster", "asset", "materialize", "-f", "backfills.py"),
            *("--select", "typed", "--partition-range", f"{DAYS[3]}...{DAYS[8]}"),
        ],
        cwd=site.instance.directory, env=dict(site.instance.environment), stdin=subprocess.DEVNULL,
        capture_output=True, encoding="utf-8", timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    stored = site.instance.materializations("typed")
    assert {each["partition"]: each["foundry/sha256"] for each in stored} == {
        day: sha256("typed", day) for day in DAYS[3:9]
    }
    assert len(stored) == 6
    assert len({each["run"] for each in stored}) == 1


def test_a_backfill_of_20_cached_partitions_is_one_run(site: Backfills) -> None:
    backfill, shown = site.backfilled("cached")
    assert shown.status == "COMPLETED_SUCCESS"
    assert list(shown.runs.values()) == ["SUCCESS"]
    assert sorted(site.requested("cached")) == DAYS
    site.assert_each_day_is_there("cached")
    stored = site.instance.materializations("cached")
    assert len(stored) == len(DAYS)
    assert {each["run"] for each in stored} == set(shown.runs)
    assert {each["tags"]["dagster/backfill"] for each in stored} == {backfill}


def test_a_backfill_of_52_slices_is_one_run_and_one_pull(site: Backfills) -> None:
    backfill = site.instance.backfill("slices", WEEKS)
    shown = site.completed(backfill)
    assert shown.status == "COMPLETED_SUCCESS"
    assert list(shown.runs.values()) == ["SUCCESS"]
    assert shown.counts == {"numPartitionsTargeted": 52, "numPartitionsMaterialized": 52, "numPartitionsFailed": 0}
    assert len(site.requested("slices")) == 1
    ((_, pulled),) = site.container.versions("slices")
    assert site.container.downloads[pulled] == 1
    assert site.instance.partitions("slices")["MATERIALIZED"] == set(WEEKS)
    assert sorted(path.name for path in (site.instance.parquet / "slices").iterdir()) == [
        f"{key}.parquet" for key in WEEKS
    ]
    recorded = site.instance.materializations("slices")
    assert sorted(each["partition"] for each in recorded) == WEEKS
    whole = weeks()
    for each in recorded:
        window = SLICES.window(each["partition"])
        since, until = window.from_dt.astimezone(timezone.utc), window.to_dt.astimezone(timezone.utc)
        expected = whole.filter((pl.col("at") >= since) & (pl.col("at") < until))
        stored = pl.read_parquet(site.instance.parquet / "slices" / f"{each['partition']}.parquet")
        assert stored.equals(expected)
        of_snapshot = json.loads(each["foundry/snapshot"])
        assert of_snapshot["slice_rows"] == each["dagster/row_count"] == expected.height > 0
        assert of_snapshot["snapshot_rows"] == whole.height
        assert each["foundry/sha256"] == each["tags"]["dagster/data_version"] == pulled
        assert each["tags"]["dagster/backfill"] == backfill
        assert [each["run"]] == list(shown.runs)


def assert_failures_are_named(site: Backfills, name: str, shown: Backfill, cause: str) -> None:
    assert shown.status == "COMPLETED_FAILED"
    assert shown.counts == {"numPartitionsTargeted": 20, "numPartitionsMaterialized": 17, "numPartitionsFailed": 3}
    statuses = site.instance.partitions(name)
    assert statuses["FAILED"] == set(FAILING)
    assert statuses["MATERIALIZED"] == set(DAYS) - set(FAILING)
    text = "".join(
        site.instance.failure(run)["error"]["message"] for run, status in shown.runs.items() if status == "FAILURE"
    )
    assert f"{MISSED}: NoVersionInWindowError: window [{midnight(MISSED).isoformat()}, " in text
    assert f"{MISFIT}: SchemaMismatchError: window [" in text
    assert "column 'id', row 1: 'many' is not an Int64; declare another type" in text
    assert f"{NOW}: {cause}: window [" in text
    count = "3 of 20" if len(shown.runs) == 1 else "1 of 5"
    assert f"dataset '{name}': {count} partitions failed, the others are stored:" in text


def test_what_fails_is_named_and_relaunched_alone(site: Backfills) -> None:
    _, single = site.backfilled("gaps")
    assert len(single.runs) == 1
    assert_failures_are_named(site, "gaps", single, "DatasetRetrievalError")
    _, several = site.backfilled("fives")
    assert len(several.runs) == 4
    assert_failures_are_named(site, "fives", several, "EmptyDatasetError")

    before = {name: len(site.requested(name)) for name in ("gaps", "fives")}
    for name in before:
        site.repair(name)
    again = {name: site.instance.backfill(name, site.failed_and_missing(name)) for name in before}
    for name, backfill in again.items():
        assert site.completed(backfill).status == "COMPLETED_SUCCESS"
        assert sorted(site.requested(name)[before[name] :]) == FAILING
        site.assert_each_day_is_there(name)
        assert len(site.instance.materializations(name)) == len(DAYS)
