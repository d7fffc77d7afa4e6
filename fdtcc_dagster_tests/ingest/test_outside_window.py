"""Between a refresh and its buffer the source may hold either state: what real runs store then, and what they say."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from fdtcc_dagster import (
    FDTCC,
    FoundryContainerResource,
    FoundryDataset,
    FoundryParquetIOManager,
    NotYetAvailableError,
    NoVersionInWindowError,
    Schedule,
    build_foundry_assets,
)
from fdtcc_dagster.failures import explained
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.midday import NOW, TODAY, ZONE, midnight

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
NAME = "orders"
OLD, NEW = "id\n1\n", "id\n1\n2\n"
# It is between six and eighteen, so today's refresh is there, and its buffer goes on for two hours at least.
DAILY = Schedule([{"cycle": "daily", "time": "00:00:00"}], 20 * HOUR, ZONE)
TODAY_KEY, YESTERDAY, TWO_DAYS_AGO = (str(TODAY - days * DAY) for days in range(3))
EITHER = "what is pulled now may be of this refresh or of the one before it, so it is stored for neither"


def dataset(schedule: Schedule = DAILY, **arguments: Any) -> FoundryDataset:
    return FoundryDataset(NAME, schedule, TODAY - 30 * DAY, {"id": "Int64"}, **arguments)


class OtherIOManager(dg.IOManager):
    """Stores LazyFrames, one per run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / NAME

    def handle_output(self, context: dg.OutputContext, obj: pl.LazyFrame) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        obj.sink_parquet(self.directory / f"{context.partition_key}.parquet")

    def load_input(self, context: dg.InputContext) -> None: ...


class Store:
    """A container, an instance and the files."""

    def __init__(self, container: SandboxContainer, directory: Path, instance: dg.DagsterInstance) -> None:
        self.container, self.directory, self.instance = container, directory, instance

    def run(
        self, *keys: str, of: FoundryDataset | None = None, other: bool = False, **config: object
    ) -> dg.ExecuteInProcessResult:
        first, last = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
        io_manager = OtherIOManager(self.directory) if other else FoundryParquetIOManager(base_dir=str(self.directory))
        return dg.materialize(
            build_foundry_assets([of or dataset()], retry_policy=None),
            resources={
                "foundry_container": FoundryContainerResource(host="127.0.0.1", port=self.container.port, attempts=1),
                "io_manager": io_manager,
            },
            instance=self.instance,
            tags={first: keys[0], last: keys[-1]} if len(keys) > 1 else None,
            partition_key=keys[0] if len(keys) == 1 else None,
            run_config={"ops": {NAME: {"config": config}}} if config else None,
            raise_on_error=False,
        )

    def ids(self, key: str) -> list[int]:
        return pl.read_parquet(self.directory / NAME / f"{key}.parquet")["id"].to_list()

    def pulled_by_somebody(self, csv: str, from_dt: dt.datetime) -> None:
        """Have somebody pull what Foundry has now, as a client of the container does."""
        self.container.set_live(NAME, csv)
        client = FDTCC("127.0.0.1", self.container.port)
        spool = self.directory.parent / "somebody"
        spool.mkdir(exist_ok=True)
        pulled = asyncio.run(client.pull(NAME, from_dt, dt.datetime.now(dt.timezone.utc) + HOUR, directory=spool))
        assert pulled.origin == "fetched"


@pytest.fixture
def store(sandbox_container: SandboxContainer, tmp_path: Path) -> Iterator[Store]:
    with dg.instance_for_test() as instance:
        yield Store(sandbox_container, tmp_path / "store", instance)


def said(result: dg.ExecuteInProcessResult) -> str:
    """What the failure of a run says."""
    assert not result.success
    (event,) = [event for event in result.all_events if event.is_step_failure]
    assert event.step_failure_data.user_failure_data is not None
    return str(event.step_failure_data.user_failure_data.description)


def origin(result: dg.ExecuteInProcessResult, key: str) -> object:
    assert result.success
    (record,) = result.asset_materializations_for_node(NAME)[-1:]
    assert record.partition == key
    return record.metadata["foundry/origin"].value


@pytest.mark.parametrize("other", [False, True], ids=["", "another IO manager"])
def test_yesterday_s_partition_never_gets_what_is_there_since_today_s_refresh(store: Store, other: bool) -> None:
    store.container.add_version(NAME, midnight(YESTERDAY) + 21 * HOUR, OLD)
    assert origin(store.run(YESTERDAY, other=other), YESTERDAY) == "cached"
    # A container that has no version of yesterday, and would pull what Foundry has now.
    with SandboxContainer() as fresh:
        store.container = fresh
        fresh.set_live(NAME, NEW)
        text = said(store.run(YESTERDAY, other=other))
        assert fresh.downloads == {}
    assert store.ids(YESTERDAY) == [1]
    refresh, available = midnight(TODAY).isoformat(), (midnight(TODAY) + 20 * HOUR).isoformat()
    assert text.startswith(f"{NoVersionInWindowError.__name__}: dataset {NAME!r}, window ")
    assert f"between the refresh at {refresh} and the end of its buffer at {available}: {EITHER}" in text
    assert text.endswith(f"Partition {TODAY_KEY!r} can be pulled from {available} on")


@pytest.mark.parametrize("refetch", [False, True])
def test_a_version_that_somebody_pulled_since_does_not_replace_a_stored_partition(store: Store, refetch: bool) -> None:
    store.container.add_version(NAME, midnight(YESTERDAY) + 21 * HOUR, OLD)
    assert origin(store.run(YESTERDAY), YESTERDAY) == "cached"
    store.pulled_by_somebody(NEW, midnight(TODAY))
    assert len(store.container.versions(NAME)) == 2
    assert origin(store.run(YESTERDAY, refetch=refetch), YESTERDAY) == "cached"
    assert store.ids(YESTERDAY) == [1]


def test_nor_does_it_become_a_partition_when_the_buffer_has_passed(store: Store) -> None:
    # Two days ago, nobody pulled before yesterday's refresh, and somebody did within its buffer.
    store.container.add_version(NAME, midnight(YESTERDAY) + 2 * HOUR, OLD)
    text = said(store.run(TWO_DAYS_AGO))
    assert "NoVersionInWindowError" in text
    assert "buffer" not in text, "that window is over for longer, whatever the time is"
    assert not (store.directory / NAME).exists()


def test_neither_key_is_pulled_and_each_says_why(store: Store) -> None:
    store.container.add_version(NAME, midnight(TWO_DAYS_AGO) + 21 * HOUR, OLD)
    store.container.set_live(NAME, NEW)
    result = store.run(TWO_DAYS_AGO, YESTERDAY, TODAY_KEY)
    first, *lines = said(result).splitlines()
    assert first == f"dataset {NAME!r}: 2 of 3 partitions failed, the others are stored:"
    assert [line.split(":")[:2] for line in lines] == [
        [YESTERDAY, " NoVersionInWindowError"],
        [TODAY_KEY, " NotYetAvailableError"],
    ]
    assert all(EITHER in line for line in lines)
    assert store.ids(TWO_DAYS_AGO) == [1]
    assert store.container.downloads.keys() == {store.container.versions(NAME)[0][1]}


def test_a_partition_whose_refresh_has_been_says_that_its_buffer_has_not_passed(store: Store) -> None:
    text = said(store.run(TODAY_KEY))
    assert text.startswith("NotYetAvailableError: ")
    assert EITHER in text
    assert store.container.requests == []


def test_between_two_refreshes_of_a_date_it_is_the_same(store: Store) -> None:
    local = NOW.astimezone(midnight(TODAY).tzinfo)
    times = [f"{local - back:%H:%M:%S}" for back in (5 * HOUR, HOUR)]
    twice = Schedule([{"cycle": "daily", "time": time} for time in times], 2 * HOUR, ZONE)
    store.pulled_by_somebody(NEW, NOW - HOUR)
    text = said(store.run(TODAY_KEY, of=dataset(twice)))
    assert "NoVersionInWindowError" in text
    assert EITHER in text
    store.container.add_version(NAME, NOW - 2 * HOUR, OLD)
    assert origin(store.run(TODAY_KEY, of=dataset(twice)), TODAY_KEY) == "cached"
    assert store.ids(TODAY_KEY) == [1]


def test_a_pull_that_the_next_refresh_overtakes_says_the_same(store: Store) -> None:
    store.container.set_live(NAME, NEW)
    store.container.inject(NAME, faults.FrameDelay(1.5))
    local = dt.datetime.now(midnight(TODAY).tzinfo)
    times = [f"{local + later:%H:%M:%S}" for later in (-3 * HOUR, dt.timedelta(seconds=4))]
    twice = Schedule([{"cycle": "daily", "time": time} for time in times], 2 * HOUR, ZONE)
    text = said(store.run(TODAY_KEY, of=dataset(twice)))
    assert "NoVersionInWindowError" in text
    assert EITHER in text
    assert not (store.directory / NAME).exists()


def test_with_a_buffer_longer_than_the_gap_a_window_begins_after_the_next_refresh_and_is_pulled_live(
    store: Store,
) -> None:
    longer = Schedule(DAILY.refreshs, 30 * HOUR, ZONE)
    store.container.set_live(NAME, NEW)
    window = dataset(longer).window(YESTERDAY)
    assert (window.from_dt, window.to_dt) == (midnight(TODAY) + 6 * HOUR, midnight(TODAY) + 30 * HOUR)
    assert origin(store.run(YESTERDAY, of=dataset(longer)), YESTERDAY) == "fetched"


def test_what_is_accepted_all_the_same_is_marked(store: Store) -> None:
    store.container.set_live(NAME, NEW)
    result = store.run(YESTERDAY, of=dataset(missing_version="accept"))
    assert origin(result, YESTERDAY) == "fetched"
    (record,) = result.asset_materializations_for_node(NAME)
    assert record.metadata["foundry/outside_window"].value is True


@pytest.mark.parametrize(
    "of",
    [
        FoundryDataset(NAME, DAILY, TODAY - 30 * DAY, time_column="at"),
        FoundryDataset(NAME, partitions_def=dg.DailyPartitionsDefinition("2024-01-01", timezone=ZONE)),
    ],
    ids=["a slice", "own partitions"],
)
def test_where_there_is_no_buffer_of_a_snapshot_errors_stay_as_they_are(of: FoundryDataset) -> None:
    error = NoVersionInWindowError("said", dataset=NAME, window=of.window(YESTERDAY))
    assert explained(error, of, NOW) is error


def test_an_explained_error_is_what_it_was_and_says_more() -> None:
    window = dataset().window(TODAY_KEY)
    errors: Sequence[NotYetAvailableError | NoVersionInWindowError] = [
        NotYetAvailableError("said", dataset=NAME, window=window, available_at=window.from_dt),
        NoVersionInWindowError("said", dataset=NAME, window=dataset().window(YESTERDAY)),
    ]
    for error in errors:
        more = explained(error, dataset(), NOW)
        assert type(more) is type(error)
        assert vars(more) == vars(error)
        assert str(more).startswith("said. It is ")
        assert str(error) == "said"
    other = ValueError("said")
    assert explained(other, dataset(), NOW) is other
