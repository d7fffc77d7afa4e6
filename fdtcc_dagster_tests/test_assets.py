"""Partitioned assets in real runs against a real container."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    FoundryParquetIOManager,
    NotYetAvailableError,
    NoVersionInWindowError,
    RowCountMismatchError,
    Schedule,
    SchemaMismatchError,
    build_foundry_assets,
    build_foundry_definitions,
)
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster.storage.checksums import read_to_end
from fdtcc_dagster_tests.midday import TODAY, ZONE, midnight

NAME = "foundry.sales.Orders"
OLD, NEW = "id,name\n1,one\n", "id,name\n1,one\n2,two\n"
SCHEMA = {"id": "Int64", "name": "String"}
# At midnight and without a buffer, so that a key's data are available from the moment it exists.
DAILY = Schedule([{"cycle": "daily", "time": "00:00:00"}], buffer=timedelta(0), timezone=ZONE)
TWO_DAYS_AGO, LONG_AGO = (TODAY - timedelta(days=2)).isoformat(), (TODAY - timedelta(days=20)).isoformat()


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Store:
    """One dataset as an asset, with its container, its instance and its files."""

    def __init__(self, container: SandboxContainer, directory: Path, instance: dg.DagsterInstance) -> None:
        self.container, self.instance = container, instance
        self.parquet, self.spool = directory / "parquet", directory / "spool"
        self.spool.mkdir()

    @property
    def resource(self) -> FoundryContainerResource:
        return FoundryContainerResource(
            host=self.container.host,
            port=self.container.port,
            idle_timeout=5.0,
            spool_directory=str(self.spool),
            attempts=1,
        )

    def materialize(self, dataset: FoundryDataset, key: str) -> dg.ExecuteInProcessResult:
        definitions = build_foundry_definitions(
            [dataset], resource=self.resource, io_manager=FoundryParquetIOManager(base_dir=str(self.parquet))
        )
        job = definitions.resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(instance=self.instance, partition_key=key, raise_on_error=False)
        # Whatever happened, nothing stays in the spool, and no half-written file in the store.
        assert list(self.spool.iterdir()) == []
        assert [path for path in self.parquet.rglob("*") if path.is_file() and path.suffix != ".parquet"] == []
        return result

    def stored(self, key: str) -> pl.DataFrame:
        return pl.read_parquet(self.parquet / "foundry" / "sales" / "orders" / f"{key}.parquet")

    def add_version(self, key: str, csv: str) -> None:
        self.container.add_version(NAME, midnight(key) + timedelta(hours=1), csv)


@pytest.fixture
def store(sandbox_container: SandboxContainer, tmp_path: Path) -> Iterator[Store]:
    sandbox_container.set_live(NAME, NEW)
    with dg.instance_for_test() as instance:
        yield Store(sandbox_container, tmp_path, instance)


def dataset(**arguments: Any) -> FoundryDataset:
    return FoundryDataset(
        NAME, **{"schedule": DAILY, "start": TODAY - timedelta(days=30), "schema": SCHEMA, **arguments}
    )


def materialization(result: dg.ExecuteInProcessResult) -> dg.AssetMaterialization:
    assert result.success
    (event,) = result.get_asset_materialization_events()
    return event.step_materialization_data.materialization


def cause(result: dg.ExecuteInProcessResult) -> str:
    """The whole chain of the failure, as the run page shows it."""
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    error = failure.step_failure_data.error
    assert error is not None
    return error.to_string()


def test_a_cached_past_partition_is_stored_with_its_metadata(store: Store) -> None:
    store.add_version(TWO_DAYS_AGO, OLD)
    recorded = materialization(store.materialize(dataset(), TWO_DAYS_AGO))
    assert store.stored(TWO_DAYS_AGO).equals(pl.DataFrame({"id": [1], "name": ["one"]}))
    window = dataset().window(TWO_DAYS_AGO)
    metadata: dict[str, Any] = {key: value.value for key, value in recorded.metadata.items()}
    # The order in which the UI shows them.
    assert list(metadata)[:4] == ["dagster/row_count", "foundry/origin", "dagster/size_bytes", "foundry/size_bytes"]
    assert list(metadata)[-2:] == ["foundry/sha256", "foundry/file_checksum"]
    assert metadata.pop("foundry/conversation_seconds") > 0
    assert metadata.pop("foundry/download_seconds") > 0
    assert metadata.pop("foundry/declaration")["digest"] == (recorded.tags or {})["dagster/code_version"]
    assert metadata.pop("foundry/store_seconds") > 0
    path = store.parquet / "foundry" / "sales" / "orders" / f"{TWO_DAYS_AGO}.parquet"
    assert (metadata.pop("path"), metadata.pop("dagster/uri")) == (str(path), path.as_uri())
    assert metadata.pop("dagster/size_bytes") == path.stat().st_size
    with path.open("rb") as file:
        assert read_to_end(file) == (metadata["foundry/file_checksum"], metadata.pop("foundry/file_checksum"))
    assert metadata == {
        "foundry/window_from": window.from_dt.timestamp(),
        "foundry/window_to": window.to_dt.timestamp(),
        "foundry/origin": "cached",
        "foundry/rows_counted": False,
        "foundry/sha256": sha256(OLD),
        "foundry/size_bytes": len(OLD),
        "dagster/row_count": 1,
        "dagster/column_schema": dg.TableSchema(
            columns=[dg.TableColumn("id", "Int64"), dg.TableColumn("name", "String")]
        ),
    }
    assert recorded.partition == TWO_DAYS_AGO
    assert recorded.tags is not None
    assert recorded.tags["dagster/data_version"] == sha256(OLD)


def test_the_current_partition_is_pulled_live(store: Store) -> None:
    store.add_version(TWO_DAYS_AGO, OLD)
    metadata = materialization(store.materialize(dataset(), TODAY.isoformat())).metadata
    assert metadata["foundry/origin"].value == "fetched"
    assert metadata["foundry/announced_rows"].value == 2
    assert store.stored(TODAY.isoformat()).height == 2


def test_a_past_partition_is_never_filled_with_today_s_data(store: Store) -> None:
    failed = store.materialize(dataset(), LONG_AGO)
    text = cause(failed)
    assert NoVersionInWindowError.__name__ in text
    assert repr(NAME) in text
    assert "no version that was pulled in this window" in text
    assert store.container.downloads == {}
    assert not store.parquet.exists() or not list(store.parquet.rglob("*.parquet"))


def test_today_s_data_are_accepted_for_a_past_partition_knowingly_and_marked(store: Store) -> None:
    metadata = materialization(store.materialize(dataset(missing_version="accept"), LONG_AGO)).metadata
    assert metadata["foundry/outside_window"].value is True
    assert metadata["foundry/origin"].value == "fetched"


def test_a_partition_whose_window_has_not_begun_says_when_it_does(store: Store) -> None:
    late = Schedule([{"cycle": "daily", "time": "00:00:00"}], buffer=timedelta(hours=48), timezone=ZONE)
    text = cause(store.materialize(dataset(schedule=late), TODAY.isoformat()))
    assert NotYetAvailableError.__name__ in text
    assert midnight(TODAY + timedelta(days=2)).isoformat() in text
    assert store.container.requests == []


@pytest.mark.parametrize(
    ("csv", "fault", "error"),
    [
        ("id,name\n1,one\nx,two\n", None, SchemaMismatchError),
        ("id\n1\n", None, SchemaMismatchError),
        (NEW, faults.AnnouncedRows(3), RowCountMismatchError),
    ],
)
def test_a_failure_while_storing_leaves_the_previous_partition_as_it_was(
    store: Store, csv: str, fault: faults.Fault | None, error: type[Exception]
) -> None:
    key = TODAY.isoformat()
    materialization(store.materialize(dataset(), key))
    before = store.stored(key)
    # A sandbox of its own has no version of the window yet, so that this pull is live again.
    with SandboxContainer() as fresh:
        fresh.set_live(NAME, csv)
        if fault is not None:
            fresh.inject(NAME, fault)
        store.container = fresh
        text = cause(store.materialize(dataset(), key))
    assert error.__name__ in text
    assert repr(NAME) in text
    assert store.stored(key).equals(before)


def test_the_container_s_messages_are_in_the_run_s_log_as_they_arrive(store: Store) -> None:
    store.container.inject(NAME, faults.FrameDelay(0.2))
    result = store.materialize(dataset(), TODAY.isoformat())
    logged = [
        (record.timestamp, record.user_message)
        for record in store.instance.all_logs(result.run_id)
        if record.user_message.startswith("container: ")
    ]
    texts = [text for _, text in logged]
    assert texts[0].startswith("container: Connection established")
    assert any(text.startswith("container: Downloading all 2 rows") for text in texts)
    assert texts[-1].endswith("Calculating checksum...")
    assert logged[-1][0] - logged[0][0] > 0.2 * (len(logged) - 2)


def test_no_row_of_the_data_and_no_rid_reaches_the_event_log(store: Store) -> None:
    private = "a name nobody may read"
    store.container.set_live(NAME, f"id,name\n1,{private}\n")
    rid = store.container.rid(NAME).rsplit(".", 1)[-1]
    store.add_version(TWO_DAYS_AGO, f"id,name\n1,{private}\n")
    for key in (TODAY.isoformat(), TWO_DAYS_AGO):
        result = store.materialize(dataset(schema=None), key)
        assert result.success
        log = "\n".join(dg.serialize_value(entry) for entry in store.instance.all_logs(result.run_id))
        assert "container: Found 1 versions" in log or "fetched" in log
        assert private not in log
        assert rid not in log


def test_a_definition_of_one_s_own_gives_the_download_s_bounds(store: Store) -> None:
    weekly = dg.WeeklyPartitionsDefinition(start_date="2024-01-01", timezone="Europe/Berlin", end_offset=1)
    store.container.add_version(NAME, datetime(2024, 3, 27, 12, tzinfo=timezone.utc), OLD)
    own = FoundryDataset(NAME, partitions_def=weekly, schema=SCHEMA)
    materialization(store.materialize(own, "2024-03-24"))
    (request,) = store.container.requests
    # The week in which clocks go forward begins at midnight in Berlin.
    assert request["from_dt"] == "2024-03-23T23:00:00+00:00"
    assert request["to_dt"] == "2024-03-30T22:59:59.999999+00:00"


def test_downstream_assets_get_lazy_frames_frames_and_several_partitions(store: Store) -> None:
    days = [(TODAY - timedelta(days=back)).isoformat() for back in (3, 2)]
    for day, csv in zip(days, (OLD, NEW), strict=True):
        store.add_version(day, csv)
        materialization(store.materialize(dataset(), day))
    heights: dict[str, Any] = {}
    source = dg.AssetKey(["foundry", "sales", "orders"])
    io_manager = FoundryParquetIOManager(base_dir=str(store.parquet))

    @dg.asset(
        ins={"orders": dg.AssetIn(source)}, partitions_def=dataset().partitions_def, io_manager_key="foundry_io_manager"
    )
    def per_day(orders: pl.LazyFrame) -> pl.DataFrame:
        heights["lazy"] = orders.collect().height
        return orders.collect()

    @dg.asset(
        ins={
            "orders": dg.AssetIn(
                source,
                metadata={"columns": ["id"]},
                partition_mapping=dg.SpecificPartitionsPartitionMapping(days),
            )
        },
        io_manager_key="foundry_io_manager",
    )
    def all_days(orders: dict[str, pl.DataFrame]) -> None:
        heights["all"] = {day: frame.shape for day, frame in orders.items()}

    assets = build_foundry_assets([dataset()], io_manager_key="foundry_io_manager")
    resources = {"foundry_container": store.resource, "foundry_io_manager": io_manager}
    assert dg.materialize(
        [*assets, per_day], selection=[per_day], partition_key=days[1], resources=resources, instance=store.instance
    ).success
    assert dg.materialize(
        [*assets, all_days], selection=[all_days], resources=resources, instance=store.instance
    ).success
    assert heights == {"lazy": 2, "all": {days[0]: (1, 1), days[1]: (2, 1)}}


def test_a_key_that_is_no_refresh_fails_before_any_request(store: Store) -> None:
    weekly = Schedule([{"cycle": "weekly", "day": "monday", "time": "00:00:00"}])
    with pytest.raises(dg.DagsterUnknownPartitionError):
        store.materialize(dataset(schedule=weekly, start=date(2026, 1, 1)), "2026-01-06")
    assert store.container.requests == []


def test_two_datasets_with_one_key_are_an_error() -> None:
    with pytest.raises(ValueError, match="foundry/sales/orders"):
        build_foundry_assets([dataset(), FoundryDataset("foundry/sales/orders", DAILY, TODAY)])


def test_specs_carry_what_the_dataset_declares() -> None:
    described = dataset(
        description="All orders.", group_name="sales", owners=["team:sales"], tags={"tier": "gold"}, asset_key="a/b"
    )
    (asset,) = build_foundry_assets([described, *()])
    spec = asset.specs_by_key[dg.AssetKey(["a", "b"])]
    assert (spec.description, spec.group_name, list(spec.owners)) == ("All orders.", "sales", ["team:sales"])
    assert spec.tags["tier"] == "gold"
    assert spec.kinds == {"foundry", "parquet"}
    assert spec.metadata["dagster/column_schema"].columns[0] == dg.TableColumn("id", "Int64")
    assert spec.partitions_def == described.partitions_def
    assert spec.metadata["dagster/table_name"] == described.name
    assert spec.metadata["foundry/refreshes"] == "every day 00:00 (UTC)"
    assert spec.tags["dagster/storage_kind"] == "parquet"
