"""A changed declaration is noticed: by Dagster itself, by the check, and by the sensor, in real runs on a container."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import PythonFileTarget
from dagster_graphql.test.utils import execute_dagster_graphql

from fdtcc_dagster import (
    FoundryDataset,
    Schedule,
    build_foundry_assets,
)
from fdtcc_dagster.checks.declaration_check import declaration_result
from fdtcc_dagster.checks.partition_checks import DECLARATION, build_foundry_checks
from fdtcc_dagster.checks.redeclared import compare
from fdtcc_dagster.declaration import declaration_of
from fdtcc_dagster.ingest.materializations import Recorded, read_recorded
from fdtcc_dagster.metadata import column_schema
from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster.translator import FoundryDatasetTranslator
from fdtcc_dagster.window import Window
from fdtcc_dagster_tests.fuzz import some_of
from fdtcc_dagster_tests.site import Site, materializations

UTC = dt.timezone.utc
KEY = dg.AssetKey("events")
MONDAY = dt.datetime(2026, 1, 5, tzinfo=UTC)
HOURS = [MONDAY + dt.timedelta(hours=hour) for hour in range(-24, 15 * 24)]
ROWS = pl.DataFrame({"id": range(len(HOURS)), "at": HOURS, "made": HOURS})
SCHEMA = {"id": "Int64", "at": "Datetime(us, UTC)", "made": "Datetime(us, UTC)"}
WEEK = [f"2026-01-{day:02}" for day in range(5, 12)]
DAILY = {"cycle": "daily", "time": "00:00:00"}
WEEKLY = {"cycle": "weekly", "day": "Monday", "time": "00:00:00"}
FRESH, STALE, MISSING = StaleStatus.FRESH, StaleStatus.STALE, StaleStatus.MISSING


def declared(
    rule: dict[str, Any] = DAILY, zone: str = "UTC", start: str = "2026-01-01", buffer: int = 0, **more: Any
) -> FoundryDataset:
    schedule = Schedule([rule], dt.timedelta(hours=buffer), zone)
    return FoundryDataset("events", schedule, start, **{"schema": SCHEMA, "time_column": "at", **more})


class Declarations(Site):
    """A container with two weeks of hourly rows, and what Dagster says of the partitions of a declaration."""

    translator = FoundryDatasetTranslator()

    def definitions(self, dataset: FoundryDataset) -> dg.Definitions:
        return dg.Definitions(
            assets=build_foundry_assets([dataset], translator=self.translator, retry_policy=None),
            asset_checks=build_foundry_checks([dataset], translator=self.translator),
            jobs=[dg.define_asset_job("check", selection=dg.AssetSelection.checks(dg.AssetCheckKey(KEY, DECLARATION)))],
            resources=self.resources(),
        )

    def pull(self, dataset: FoundryDataset, keys: Sequence[str]) -> list[dg.AssetMaterialization]:
        """Materialize a partition, or a range, and give what is recorded."""
        result = self.run(dataset, keys, translator=self.translator)
        assert result.success
        return list(materializations(result).values())

    def check(self, dataset: FoundryDataset) -> dg.AssetCheckEvaluation:
        result = self.definitions(dataset).resolve_job_def("check").execute_in_process(instance=self.instance)
        (evaluation,) = result.get_asset_check_evaluations()
        return evaluation

    def status(self, dataset: FoundryDataset, keys: Sequence[str]) -> list[StaleStatus]:
        """What Dagster's UI says of partitions."""
        graph = self.definitions(dataset).resolve_asset_graph()
        resolver = CachingStaleStatusResolver(self.instance, graph, LoadingContextForTest(self.instance))
        return [resolver.get_status(KEY, key) for key in keys]

    def rows(self, keys: Sequence[str]) -> list[int]:
        """How many rows the files of partitions have."""
        return [self.stored(key).height for key in keys]


@pytest.fixture
def site(sandbox_container: SandboxContainer, tmp_path: Path) -> Iterator[Declarations]:
    sandbox_container.set_live("events", ROWS)
    with dg.instance_for_test() as instance:
        yield Declarations(sandbox_container, tmp_path, instance)


def test_weekly_becomes_daily_and_no_row_stays_stored_twice_unnoticed(site: Declarations) -> None:
    weekly, daily = declared(WEEKLY), declared()
    site.pull(weekly, WEEK[:1])
    assert site.check(weekly).passed
    site.pull(daily, WEEK[1:])
    assert site.rows(WEEK) == [168, *[24] * 6]  # 144 rows twice
    assert site.status(daily, WEEK) == [STALE, *[FRESH] * 6]
    found = site.check(daily)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert found.description is not None
    assert found.description.startswith(
        "Not as declared: 1 of 7 partitions: 2026-01-05 holds "
        "[2026-01-05T00:00:00+00:00, 2026-01-12T00:00:00+00:00) and not "
        "[2026-01-05T00:00:00+00:00, 2026-01-06T00:00:00+00:00). Rows that are stored twice: "
        "[2026-01-06T00:00:00+00:00, 2026-01-07T00:00:00+00:00) in 2026-01-05 and 2026-01-06; "
    )
    assert found.description.count(" in 2026-01-05 and ") == 6
    assert found.metadata["foundry/failed_partitions"].value == WEEK[:1]
    site.pull(daily, WEEK[:1])
    assert site.rows(WEEK) == [24] * 7
    assert site.status(daily, WEEK) == [FRESH] * 7
    assert site.check(daily).description == "As declared: 7 of 7 partitions."


def test_daily_becomes_weekly_and_no_row_is_gone_unnoticed(site: Declarations) -> None:
    weekly, daily = declared(WEEKLY), declared()
    site.pull(daily, WEEK)
    site.pull(weekly, ["2026-01-12"])
    assert site.rows(WEEK[:1]) == [24]  # of 168
    assert site.status(weekly, [WEEK[0], "2026-01-12"]) == [STALE, FRESH]
    found = site.check(weekly)
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.ERROR
    former = f"Keys that no longer exist, remove their files: {', '.join(WEEK[1:])}."
    assert found.description == (
        "Not as declared: 1 of 8 partitions: 2026-01-05 holds "
        "[2026-01-05T00:00:00+00:00, 2026-01-06T00:00:00+00:00) and not "
        "[2026-01-05T00:00:00+00:00, 2026-01-12T00:00:00+00:00). Gaps between the slices: "
        f"[2026-01-06T00:00:00+00:00, 2026-01-12T00:00:00+00:00) after 2026-01-05 before 2026-01-12. {former}"
    )
    site.pull(weekly, WEEK[:1])
    assert site.rows(WEEK[:1]) == [168]
    # Dagster never forgets partitions, so the check always names keys that no longer exist, without failing.
    for _ in range(2):
        found = site.check(weekly)
        assert (found.passed, found.description) == (True, f"As declared: 2 of 8 partitions. {former}")
        assert found.metadata["foundry/former_partitions"].value == WEEK[1:]


def test_columns_in_another_order_are_told_from_another_schema(site: Declarations) -> None:
    site.pull(declared(), WEEK[:1])
    reordered = declared(schema=dict(reversed(SCHEMA.items())))
    assert "2026-01-05 has its columns in another order" in (site.check(reordered).description or "")


@pytest.mark.parametrize(
    ("after", "why"),
    some_of(
        [
            (declared(zone="America/New_York"), "[2026-01-05T05:00:00+00:00, 2026-01-06T05:00:00+00:00)"),
            (declared({**DAILY, "time": "06:00:00"}), "[2026-01-05T06:00:00+00:00, 2026-01-06T06:00:00+00:00)"),
            (declared(time_column="made"), "rows was slice by 'at'"),
            (declared(allow_null_times=True), "rows was slice by 'at'"),
            (declared(time_column=None, missing_version="accept"), "is a slice and not a snapshot"),
            (declared(buffer=3), "buffer was 0:00:00, is 3:00:00"),
            (declared(schema={**SCHEMA, "id": "Int32"}), "'id' is Int64 instead of Int32"),
            (declared(schema=None), "was stored with another schema"),
        ],
        # A window, the kind of rows, and the schema.
        lambda case: any(part in case[1] for part in ("T05:00", "is a slice", "Int32")),
    ),
    ids=["zone", "time", "time column", "nulls", "no time column", "buffer", "schema", "inferred"],
)
def test_another_declaration_is_noticed_and_mended_by_another_run(
    site: Declarations, after: FoundryDataset, why: str
) -> None:
    before = declared()
    site.pull(before, WEEK[:3])
    assert site.check(before).passed
    assert site.status(before, WEEK[:4]) == [*[FRESH] * 3, MISSING]
    assert site.status(after, WEEK[:4]) == [*[STALE] * 3, MISSING]
    found = site.check(after)
    assert not found.passed
    assert found.metadata["foundry/failed_partitions"].value == WEEK[:3]
    assert why in (found.description or "")
    recorded = site.pull(after, WEEK[:2])
    assert not any("foundry/unchanged" in each.metadata for each in recorded)
    assert site.status(after, WEEK[:3]) == [FRESH, FRESH, STALE]
    assert site.check(after).metadata["foundry/failed_partitions"].value == WEEK[2:3]


def test_a_time_column_that_is_added_is_noticed(site: Declarations) -> None:
    site.container.add_version("events", MONDAY + dt.timedelta(hours=1), ROWS)
    before, after = declared(time_column=None), declared()
    site.pull(before, WEEK[:1])
    assert site.check(before).passed
    assert site.status(after, WEEK[:1]) == [STALE]
    assert "2026-01-05 is a snapshot and not a slice" in (site.check(after).description or "")


@pytest.mark.parametrize(
    ("after", "fits"),
    [
        (declared(WEEKLY, time_column=None), True),
        (declared(zone="America/New_York", time_column=None), False),
        (declared({**DAILY, "time": "06:00:00"}, time_column=None), False),
        (declared(buffer=1, time_column=None), False),
        (declared(missing_version="accept", time_column=None), True),
    ],
    ids=["weekly", "zone", "time", "buffer", "missing_version"],
)
def test_a_snapshot_fits_where_it_was_pulled_within_a_window_of_today(
    site: Declarations, after: FoundryDataset, fits: bool
) -> None:
    site.container.add_version("events", MONDAY + dt.timedelta(hours=1), ROWS)
    site.pull(declared(time_column=None), WEEK[:1])
    # Dagster compares the digest alone, and so is the more cautious of the two.
    assert site.status(after, WEEK[:1]) == [STALE]
    assert site.check(after).passed is fits


def test_a_snapshot_of_a_week_is_not_taken_for_that_of_a_day(site: Declarations) -> None:
    site.container.add_version("events", MONDAY + dt.timedelta(days=3), ROWS)
    site.pull(declared(WEEKLY, time_column=None), WEEK[:1])
    assert "holds [2026-01-05T00:00:00+00:00, 2026-01-12T00:00:00+00:00) and not" in (
        site.check(declared(time_column=None)).description or ""
    )


def test_data_of_today_do_not_fit_where_they_are_not_accepted_any_more(site: Declarations) -> None:
    accepted = declared(time_column=None, missing_version="accept")
    site.pull(accepted, WEEK[:1])
    assert site.check(accepted).passed
    refused = declared(time_column=None)
    assert site.status(refused, WEEK[:1]) == [STALE]
    assert "pulled outside of its window" in (site.check(refused).description or "")


def test_what_is_unchanged_becomes_fresh_when_it_is_recorded_again(site: Declarations) -> None:
    class Versioned(FoundryDatasetTranslator):
        version = "1"

        def get_asset_spec(self, dataset: FoundryDataset) -> dg.AssetSpec:
            return super().get_asset_spec(dataset).replace_attributes(code_version=self.version)

    site.translator = translator = Versioned()
    site.pull(declared(), WEEK)
    assert site.status(declared(), WEEK) == [FRESH] * 7
    translator.version = "2"
    assert site.status(declared(), WEEK) == [STALE] * 7
    recorded = [*site.pull(declared(), WEEK[:3]), *site.pull(declared(), WEEK[3:4])]
    assert all("foundry/unchanged" in each.metadata for each in recorded)
    assert site.status(declared(), WEEK) == [*[FRESH] * 4, *[STALE] * 3]


def test_partitions_of_another_dataset_under_the_same_key_are_noticed_and_replaced(site: Declarations) -> None:
    site.pull(declared(), WEEK[:2])
    site.container.set_live("visits", ROWS.filter(pl.col("id") % 2 == 0))
    daily = Schedule([DAILY], dt.timedelta(0))
    visits = FoundryDataset("visits", daily, "2026-01-01", SCHEMA, time_column="at", asset_key="events")
    found = site.check(visits)
    assert found.description is not None
    assert found.description.startswith(
        "Not as declared: 2 of 2 partitions: 2026-01-05 is of another Foundry dataset; "
    )
    assert site.status(visits, WEEK[:2]) == [STALE] * 2
    site.pull(visits, WEEK[:1])  # although it has fewer rows
    assert site.rows(WEEK[:2]) == [12, 24]
    site.file(WEEK[1]).unlink()  # now only the event log knows
    site.pull(visits, WEEK[1:2])
    assert site.check(visits).description == "As declared: 2 of 2 partitions."


def test_what_an_older_version_stored_is_stored_again_and_then_says_its_declaration(site: Declarations) -> None:
    dataset = declared()
    site.pull(dataset, WEEK[:1])
    file = site.file(WEEK[0])
    provenance = pl.read_parquet_metadata(file)
    assert provenance.pop("foundry/declaration") == declaration_of(dataset).digest
    old = {name: value for name, value in provenance.items() if name.startswith("foundry/")}
    pl.read_parquet(file).write_parquet(file, metadata=old)
    (recorded,) = site.pull(dataset, WEEK[:1])
    assert "foundry/unchanged" not in recorded.metadata
    (recorded,) = site.pull(dataset, WEEK[:1])
    assert "foundry/unchanged" in recorded.metadata
    said = recorded.metadata["foundry/declaration"].value
    assert said == {"digest": declaration_of(dataset).digest, **declaration_of(dataset).parts}


def test_partitions_of_an_asset_with_dependencies_are_fresh_until_those_change(site: Declarations) -> None:
    class Dependent(FoundryDatasetTranslator):
        def get_asset_spec(self, dataset: FoundryDataset) -> dg.AssetSpec:
            return super().get_asset_spec(dataset).replace_attributes(deps=["licence", "absent"])

    site.translator = Dependent()

    def licence(version: str) -> None:
        tags = {"dagster/data_version": version}
        site.instance.report_runless_asset_event(dg.AssetMaterialization("licence", tags=tags))

    licence("1")
    site.pull(declared(), WEEK[:3])
    site.pull(declared(), WEEK[3:4])
    tags = [each.tags for each in site.pull(declared(), WEEK[:1])] + [
        each.tags for each in site.pull(declared(), WEEK[:2])
    ]
    names = [{name for name in each or {} if name.startswith("dagster/")} for each in tags]
    assert names[0] == names[1] == names[2]
    assert site.status(declared(), WEEK[:4]) == [FRESH] * 4


def record(window: Window, of: FoundryDataset | None = None, **more: Any) -> Recorded:
    """What a materialization recorded; without a declaration if an older version made it."""
    parts = {} if of is None else {**declaration_of(of).parts}
    digest = None if of is None else declaration_of(of).digest
    is_slice = of is None or of.time is not None
    values = {"is_slice": is_slice, "outside_window": False, "columns": column_schema(SCHEMA), **more}
    return Recorded(1, 0.0, window=window, digest=digest, parts=parts, **values)


def hours(first: float, last: float) -> Window:
    return Window(MONDAY + dt.timedelta(hours=first), MONDAY + dt.timedelta(hours=last))


@pytest.mark.parametrize("cron", ["0 0 * * *", "0 0 * * 1-5"], ids=["daily", "weekdays"])
def test_an_excluded_tick_is_no_gap(cron: str) -> None:
    def own(*exclusions: dt.datetime) -> FoundryDataset:
        definition = dg.TimeWindowPartitionsDefinition(
            start="2026-01-01", cron_schedule=cron, fmt="%Y-%m-%d", exclusions=exclusions or None
        )
        return FoundryDataset("events", partitions_def=definition, schema=SCHEMA, time_column="at")

    holiday = own(dt.datetime(2026, 1, 6))
    for before in (holiday, own()):  # excluded from the beginning, or later
        keys = before.partitions_def.get_partition_keys()[:7]
        found = declaration_result(holiday, {key: record(before.window(key), before) for key in keys})
        assert (found.passed, found.metadata.get("foundry/former_partitions", [])) == (
            True,
            [key for key in keys if key == "2026-01-06"],
        )
        assert "Gaps" not in found.text
    # What is stored with another window still leaves a gap.
    stored = {key: record(holiday.window(key), holiday) for key in holiday.partitions_def.get_partition_keys()[:7]}
    short = Window(MONDAY, MONDAY + dt.timedelta(hours=6))
    assert "Gaps" in declaration_result(holiday, stored | {WEEK[0]: record(short, holiday)}).text


def limits_of_queries(site: Declarations, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many materializations each query asks for, from now on."""
    asked: list[int] = []
    fetch = site.instance.event_log_storage.fetch_materializations

    def counted(records_filter: Any, limit: int, *more: Any, **named: Any) -> Any:
        asked.append(limit)
        return fetch(records_filter, limit, *more, **named)

    monkeypatch.setattr(site.instance.event_log_storage, "fetch_materializations", counted)
    return asked


def test_what_was_recorded_after_runs_were_deleted_is_compared(
    site: Declarations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite gives the ids of the deleted events to the next ones."""
    monkeypatch.setattr("fdtcc_dagster.ingest.materializations._LATECOMERS", 0)
    site.pull(declared(), WEEK)
    assert site.check(declared()).passed
    for run in site.instance.get_runs():
        site.instance.delete_run(run.run_id)
    site.pull(declared(time_column="made"), WEEK[:3])
    found = site.check(declared())
    assert (found.passed, found.metadata["foundry/failed_partitions"].value) == (False, WEEK[:3])


def test_what_lay_before_the_start_is_compared_as_soon_as_it_does_not(
    site: Declarations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fdtcc_dagster.ingest.materializations._LATECOMERS", 0)
    site.pull(declared(time_column="made"), WEEK[:2])
    later = declared(start=WEEK[2])
    site.pull(later, WEEK[2:4])
    asked = limits_of_queries(site, monkeypatch)
    for expected in ([4], [1], [1]):  # the first reads all of them
        asked.clear()
        assert site.check(later).passed
        assert asked == expected
    assert site.check(declared()).metadata["foundry/failed_partitions"].value == WEEK[:2]


GRAPHQL = """query($key: AssetKeyInput!, $keys: [String!]!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
    staleStatusByPartition(partitions: $keys) staleCausesByPartition(partitions: $keys) { category reason } } } }"""


@pytest.mark.slow
def test_the_ui_shows_which_partitions_are_stale_and_why(site: Declarations, tmp_path: Path) -> None:
    site.pull(declared(WEEKLY), WEEK[:1])
    site.pull(declared(), WEEK[1:3])
    location = tmp_path / "location.py"
    location.write_text(
        "import dagster as dg\n"
        "from fdtcc_dagster import FoundryContainerResource, FoundryParquetIOManager, build_foundry_assets\n"
        "from fdtcc_dagster_tests.checks.test_redeclared import declared\n"
        "resources = {'foundry_container': FoundryContainerResource(), 'io_manager': FoundryParquetIOManager()}\n"
        "defs = dg.Definitions(build_foundry_assets([declared()]), resources=resources)\n"
    )
    target = PythonFileTarget(str(location), None, None, "location")
    with create_test_daemon_workspace_context(target, site.instance) as workspace:
        request = workspace.create_request_context()
        answer = execute_dagster_graphql(request, GRAPHQL, {"key": {"path": ["events"]}, "keys": WEEK[:4]})
    assert answer.data["assetNodeOrError"] == {
        "staleStatusByPartition": ["STALE", "FRESH", "FRESH", "MISSING"],
        "staleCausesByPartition": [[{"category": "CODE", "reason": "has a new code version"}], [], [], []],
    }


def test_only_the_latest_materialization_of_each_partition_is_read_in_few_queries(
    site: Declarations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fdtcc_dagster.ingest.materializations._LATECOMERS", 0)
    days = [(MONDAY + dt.timedelta(days=day)).date().isoformat() for day in range(120)]
    for _ in range(3):
        for number, day in enumerate(days):
            window = hours(24 * number, 24 * number + 24)
            metadata: dict[str, dg.MetadataValue] = {
                "foundry/window_from": dg.MetadataValue.timestamp(window.from_dt),
                "foundry/window_to": dg.MetadataValue.timestamp(window.to_dt),
                "foundry/slice_rows": dg.MetadataValue.int(24),
            }
            site.instance.report_runless_asset_event(dg.AssetMaterialization(KEY, partition=day, metadata=metadata))
    asked = limits_of_queries(site, monkeypatch)
    recorded = read_recorded(site.instance, KEY)
    assert sorted(recorded) == days
    assert asked == [120]
    assert compare(declared(), recorded).differences == {}
    assert read_recorded(site.instance, KEY, [days[1], "2020-01-01"]) == {days[1]: recorded[days[1]]}
    # Where the check has passed, only what is newer is read.
    assert site.check(declared()).description == "As declared: 120 of 120 partitions."
    site.pull(declared(), days[:2])
    asked.clear()
    assert site.check(declared()).description == "As declared: 120 of 120 partitions."
    assert 2 in asked
    assert not any(limit > 2 for limit in asked)
    asked.clear()
    assert "'made', dates" in (site.check(declared(time_column="made")).description or "")
    assert 120 in asked
    asked.clear()
    assert not site.check(declared(WEEKLY)).passed
    assert site.check(declared()).passed
