"""The digest of what decides a dataset's rows: what changes it, what does not, and that it is the same everywhere."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from typing import Any

import dagster as dg
import polars as pl
import pytest

from fdtcc_dagster import FoundryDataset, Schedule, build_foundry_assets
from fdtcc_dagster.declaration import declaration_of
from fdtcc_dagster.translator import FoundryDatasetTranslator

RULES: list[dict[str, Any]] = [
    {"cycle": "weekly", "day": "Monday", "time": "04:00:00"},
    {"cycle": "monthly", "day": -2, "time": "02:00:00"},
]
SCHEMA = {"id": "Int64", "at": "Datetime(us, UTC)", "size": "Enum(low, high)", "price": "Decimal(10, 2)"}
RID = "ri.foundry.main.dataset.0f0f0f0f-1111-4222-8333-444444444444"


def dataset(
    rules: list[dict[str, Any]] = RULES, buffer: int = 120, zone: str = "UTC", start: str = "2026-01-01", **more: Any
) -> FoundryDataset:
    schedule = Schedule(rules, dt.timedelta(minutes=buffer), zone)
    return FoundryDataset("orders", schedule, start, **{"schema": SCHEMA, **more})


def own(cron: str = "0 0 * * *", zone: str = "UTC", fmt: str = "%Y-%m-%d", **more: Any) -> FoundryDataset:
    windows = {"start": "2026-01-01", **more}
    definition = dg.TimeWindowPartitionsDefinition(cron_schedule=cron, timezone=zone, fmt=fmt, **windows)
    return FoundryDataset("orders", partitions_def=definition)


def digest(dataset: FoundryDataset) -> str:
    return declaration_of(dataset).digest


@pytest.mark.parametrize(
    "changed",
    [
        FoundryDataset("returns", dataset().schedule, "2026-01-01", SCHEMA),
        dataset(RULES[:1]),
        dataset([RULES[1], {**RULES[0], "time": "06:00:00"}]),
        dataset([RULES[0], {**RULES[1], "day": -3}]),
        dataset([RULES[0], {"cycle": "yearly", "day": -2, "time": "02:00:00", "month": 1}]),
        dataset(buffer=0),
        dataset(zone="America/New_York"),
        dataset(schema=None),
        dataset(schema={**SCHEMA, "id": "Int32"}),
        dataset(schema={**SCHEMA, "at": "Datetime(ms, UTC)"}),
        dataset(schema={**SCHEMA, "at": "Datetime(us)"}),
        dataset(schema={**SCHEMA, "size": pl.Enum(["low, high"])}),
        dataset(schema={**SCHEMA, "price": "Decimal(10, 3)"}),
        dataset(schema={"at": SCHEMA["at"], **SCHEMA}),
        dataset(time_column="at"),
        dataset(time_column="at", allow_null_times=True),
        dataset(missing_version="accept"),
        own(),
        own(zone="Europe/Berlin"),
        own(cron="0 6 * * *"),
        own(fmt="%Y-%d-%m"),
    ],
)
def test_what_decides_the_rows_changes_the_digest(changed: FoundryDataset) -> None:
    others = [dataset(), own(cron="0 1 * * *")]
    assert digest(changed) not in {digest(other) for other in others}


@pytest.mark.parametrize(
    "same",
    [
        dataset(RULES[::-1]),
        dataset([*RULES, RULES[0]]),
        dataset([{**RULES[0], "day": "MONDAY"}, RULES[1]], zone="utc"),
        dataset(start="2020-05-01"),
        dataset(description="Orders", group_name="sales", owners=["team:sales"], tags={"a": "b"}, asset_key="x/y"),
        dataset(schema=dataset().schema),
    ],
)
def test_what_does_not_decide_the_rows_leaves_it(same: FoundryDataset) -> None:
    assert digest(same) == digest(dataset())


def test_of_partitions_of_ones_own_only_the_windows_count() -> None:
    others = [
        FoundryDataset("orders", partitions_def=dg.DailyPartitionsDefinition("2019-01-01", end_offset=1)),
        own(cron="0  0 * * *", end="2027-01-01", exclusions=[dt.datetime(2026, 5, 1)]),
    ]
    assert {digest(other) for other in others} == {digest(own())}


def test_slices_do_not_depend_on_what_is_done_for_past_windows_of_snapshots() -> None:
    assert digest(dataset(time_column="at", missing_version="accept")) == digest(dataset(time_column="at"))


def test_windows_of_a_class_of_ones_own_are_told_by_its_name_and_exclusions() -> None:
    class Shifted(dg.TimeWindowPartitionsDefinition):
        def time_window_for_partition_key(self, partition_key: str) -> dg.TimeWindow:  # type: ignore[override]
            window = super().time_window_for_partition_key(partition_key)
            return dg.TimeWindow(window.start, window.end + dt.timedelta(hours=1))

    def shifted(**more: Any) -> str:
        definition = Shifted(start="2026-01-01", fmt="%Y-%m-%d", cron_schedule="0 0 * * *", **more)
        return digest(FoundryDataset("orders", partitions_def=definition))

    excluded = shifted(exclusions=["0 0 * * 6", dt.datetime(2026, 5, 1)])
    assert len({shifted(), excluded, digest(own())}) == 3
    assert excluded == shifted(exclusions=[dt.datetime(2026, 5, 1), "0 0 * * 6"])


def test_the_digests_are_these_in_every_version_of_python_polars_and_dagster() -> None:
    # Stored partitions record these digests, so a different digest makes all of them stale.
    datasets = [dataset(), dataset(time_column="at", zone="Europe/Berlin"), dataset(schema=None), own()]
    assert [digest(each) for each in datasets] == [
        "a80093887cb7a5d1",
        "40ff117a9bb212eb",
        "edd9eb5950c25f18",
        "043a1137ae25d6ba",
    ]


def test_the_zone_of_dates_counts_where_dates_are_declared() -> None:
    declared = [{"at": "Date"}, {"at": "String"}, None]
    rows = [
        declaration_of(dataset(zone="Europe/Berlin", schema=schema, time_column="at")).parts["rows"]
        for schema in declared
    ]
    words = "slice by 'at', dates in {}, rows without a time refused"
    assert rows == [words.format(zone) for zone in ("Europe/Berlin", "UTC", "UTC")]


@pytest.mark.parametrize("seed", ["1", "2"])
def test_the_digest_is_the_same_in_another_process(seed: str) -> None:
    code = "from fdtcc_dagster_tests.test_declaration import *; print(digest(dataset()))"
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert printed.stdout.strip() == digest(dataset())


def test_the_parts_say_it_in_words_without_rids() -> None:
    parts = declaration_of(dataset(schema=None, time_column=f"at {RID}")).parts
    assert dict(parts) == {
        "dataset": "6b93dcf0ea823702",
        "partitions": "monthly -2 02:00:00, weekly Monday 04:00:00 in UTC",
        "rows": "slice by 'at <rid>', dates in UTC, rows without a time refused",
        "schema": "inferred",
        "buffer": "2:00:00",
    }
    assert declaration_of(own()).parts["partitions"] == "cron '0 0 * * *' in UTC, keys '%Y-%m-%d'"


def test_the_digest_is_the_code_version_of_the_asset_unless_the_translator_gives_one() -> None:
    class Versioned(FoundryDatasetTranslator):
        def get_asset_spec(self, dataset: FoundryDataset) -> dg.AssetSpec:
            return super().get_asset_spec(dataset).replace_attributes(code_version="7")

    key = dg.AssetKey("orders")
    (plain,), (versioned,) = (
        build_foundry_assets([dataset()]),
        build_foundry_assets([dataset()], translator=Versioned()),
    )
    assert plain.specs_by_key[key].code_version == digest(dataset())
    assert versioned.specs_by_key[key].code_version == "7"
