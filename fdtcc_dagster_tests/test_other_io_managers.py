"""The assets' output with IO managers of others, one partition per run.

`LazyDuckDBIOManager` and `DeltaTableIOManager` are what a user writes: tables of several partitions need a column that
tells them apart, and DuckDB's manager takes no LazyFrames.
"""

# No postponed annotations here: Dagster reads those of an asset's function.

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from dagster._core.storage.db_io_manager import DbTypeHandler, TableSlice
from dagster._core.storage.fs_io_manager import PickledObjectFilesystemIOManager
from dagster_deltalake import LocalConfig
from dagster_deltalake_polars import DeltaLakePolarsIOManager, DeltaLakePolarsTypeHandler
from dagster_duckdb import DuckDBIOManager
from dagster_duckdb.io_manager import DuckDbClient
from dagster_duckdb_polars import DuckDBPolarsTypeHandler
from dagster_polars import PolarsDeltaIOManager, PolarsParquetIOManager

from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    FoundryDatasetTranslator,
    Schedule,
    build_foundry_assets,
)
from fdtcc_dagster.checks.partition_checks import ROW_COUNT_CHANGE, SCHEMA_CHANGE, SCHEMA_DECLARED, build_foundry_checks
from fdtcc_dagster.sandbox import SandboxContainer

NAME, KEY = "sales.Orders", dg.AssetKey(["sales", "orders"])
SCHEMA = {"id": pl.Int64(), "name": pl.String(), "day": pl.Date()}
DAILY = Schedule([{"cycle": "daily", "time": "00:00:00"}], buffer=timedelta(0))
TODAY = datetime.now(timezone.utc).date()
FIRST, SECOND = ((TODAY - timedelta(days=back)).isoformat() for back in (3, 2))
FRAMES = {
    FIRST: pl.DataFrame({"id": [1, 2], "name": ["ä", None], "day": [None, TODAY]}, schema=SCHEMA),
    SECOND: pl.DataFrame({"id": [1, 2, 3], "name": ["a", "b", "c"], "day": [TODAY] * 3}, schema=SCHEMA),
}
PARTITION = "refresh_date"
DATASET = FoundryDataset(NAME, DAILY, TODAY - timedelta(days=30), SCHEMA)


class Translator(FoundryDatasetTranslator):
    """Tells managers of tables which column holds the partition."""

    def get_asset_spec(self, dataset: FoundryDataset) -> dg.AssetSpec:
        return super().get_asset_spec(dataset).merge_attributes(metadata={"partition_expr": PARTITION})


def with_partition(context: dg.OutputContext, rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(pl.lit(context.partition_key).str.to_date("%Y-%m-%d").alias(PARTITION))


class LazyDuckDBHandler(DuckDBPolarsTypeHandler):
    """Takes and gives LazyFrames, too."""

    def handle_output(self, context: dg.OutputContext, table_slice: TableSlice, obj: Any, connection: Any) -> None:
        super().handle_output(context, table_slice, with_partition(context, obj.lazy()).collect(), connection)

    def load_input(self, context: dg.InputContext, table_slice: TableSlice, connection: Any) -> Any:
        # The inherited method needs DuckDB 1.
        rows: Any = pl.from_arrow(connection.sql(DuckDbClient.get_select_statement(table_slice)).to_arrow_table())
        return rows.lazy() if context.dagster_type.typing_type is pl.LazyFrame else rows

    @property
    def supported_types(self) -> Sequence[type[object]]:
        return [pl.DataFrame, pl.LazyFrame]


class LazyDuckDBIOManager(DuckDBIOManager):
    @staticmethod
    def type_handlers() -> Sequence[DbTypeHandler[Any]]:
        return [LazyDuckDBHandler()]


class DeltaTableHandler(DeltaLakePolarsTypeHandler):
    def handle_output(self, context: dg.OutputContext, table_slice: TableSlice, obj: Any, connection: Any) -> None:
        super().handle_output(context, table_slice, with_partition(context, obj.lazy()), connection)


class DeltaTableIOManager(DeltaLakePolarsIOManager):
    @staticmethod
    def type_handlers() -> Sequence[DbTypeHandler[Any]]:
        return [DeltaTableHandler()]


def duckdb_manager(directory: Path) -> Any:
    return LazyDuckDBIOManager(database=str(directory / "foundry.duckdb"))


def delta_table_manager(directory: Path) -> Any:
    return DeltaTableIOManager(root_uri=str(directory), storage_options=LocalConfig())


def delta_manager(directory: Path) -> Any:
    return PolarsDeltaIOManager(base_dir=str(directory))


def parquet_manager(directory: Path) -> Any:
    return PolarsParquetIOManager(base_dir=str(directory))


ALL = [duckdb_manager, delta_table_manager, delta_manager, parquet_manager]
# dagster-polars passes `rechunk` to `scan_parquet`, which has lost it in Polars 2; what it wrote, others can read.
READABLE = [
    *ALL[:-1],
    pytest.param(
        parquet_manager,
        marks=pytest.mark.xfail(
            int(pl.__version__.split(".")[0]) >= 2,
            raises=getattr(pl.exceptions, "ArgumentRemovedError", None),
            reason="PolarsParquetIOManager of dagster-polars 0.27.12 cannot read with Polars 2",
            strict=False,
        ),
    ),
]

MakeManager = Callable[[Path], Any]


class Pipeline:
    """The dataset's asset on a container with a version for each of two days, and its checks."""

    def __init__(self, container: SandboxContainer, instance: dg.DagsterInstance, io_manager: Any) -> None:
        for day, frame in FRAMES.items():
            container.add_version(NAME, datetime.fromisoformat(f"{day}T01:00:00+00:00"), frame.write_csv())
        self.instance = instance
        self.assets = build_foundry_assets([DATASET], translator=Translator(), max_partitions_per_run=1)
        self.resources = {
            "foundry_container": FoundryContainerResource(host=container.host, port=container.port),
            "io_manager": io_manager,
            "memory": dg.mem_io_manager,
        }

    def materialize(self, *days: str) -> list[dg.ExecuteInProcessResult]:
        checks = build_foundry_checks([DATASET], translator=Translator())
        return [
            dg.materialize([*self.assets, *checks], partition_key=day, resources=self.resources, instance=self.instance)
            for day in days
        ]

    def load(self, day: str, annotation: type[pl.DataFrame] | type[pl.LazyFrame]) -> pl.DataFrame:
        """Read a partition as a downstream asset does."""
        found: list[pl.DataFrame] = []

        def keep(rows: Any) -> None:
            assert isinstance(rows, annotation)
            found.append(rows.lazy().collect())

        keep.__annotations__["rows"] = annotation
        reader = dg.asset(
            name="reader", ins={"rows": dg.AssetIn(KEY)}, partitions_def=DATASET.partitions_def, io_manager_key="memory"
        )(keep)
        dg.materialize(
            [*self.assets, reader],
            selection=[reader],
            partition_key=day,
            resources=self.resources,
            instance=self.instance,
        )
        (frame,) = found
        return frame


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def rows(frame: pl.DataFrame) -> pl.DataFrame:
    """The dataset's own columns."""
    return frame.select(list(SCHEMA)).sort("id")


@pytest.mark.parametrize("annotation", [pl.DataFrame, pl.LazyFrame])
@pytest.mark.parametrize("make_manager", READABLE)
def test_partitions_are_stored_run_by_run_and_read_back(
    sandbox_container: SandboxContainer,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    make_manager: MakeManager,
    annotation: type[pl.DataFrame] | type[pl.LazyFrame],
) -> None:
    pipeline = Pipeline(sandbox_container, instance, make_manager(tmp_path))
    # In any order, and the second time instead of the first.
    pipeline.materialize(SECOND, FIRST, SECOND)
    for day, frame in FRAMES.items():
        assert rows(pipeline.load(day, annotation)).equals(frame)


@pytest.mark.parametrize("make_manager", ALL)
def test_the_checks_use_what_the_manager_recorded(
    sandbox_container: SandboxContainer, instance: dg.DagsterInstance, tmp_path: Path, make_manager: MakeManager
) -> None:
    first, second = Pipeline(sandbox_container, instance, make_manager(tmp_path)).materialize(FIRST, SECOND)
    assert first.success
    found = {evaluation.check_name: evaluation for evaluation in second.get_asset_check_evaluations()}
    assert found[SCHEMA_DECLARED].passed
    assert found[SCHEMA_CHANGE].passed
    if make_manager is duckdb_manager:
        assert found[ROW_COUNT_CHANGE].description == (
            f"{SECOND}: 3 rows, and {FIRST} has 2 (+50.0%; allowed are ±50.0%)"
        )
    else:
        assert found[ROW_COUNT_CHANGE].description == f"{SECOND}: the IO manager recorded no number of rows"
        assert found[ROW_COUNT_CHANGE].severity == dg.AssetCheckSeverity.WARN


def test_plain_parquet_files_hold_the_rows(
    sandbox_container: SandboxContainer, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    Pipeline(sandbox_container, instance, parquet_manager(tmp_path)).materialize(FIRST, SECOND)
    for day, frame in FRAMES.items():
        assert pl.read_parquet(tmp_path / "sales" / "orders" / f"{day}.parquet").equals(frame)


class OwnPickling(PickledObjectFilesystemIOManager):
    """Somebody's own, with another place."""

    def __init__(self) -> None:
        super().__init__("place")  # type: ignore[no-untyped-call]  # Dagster's own


class CollectsInMemory(dg.InMemoryIOManager):
    """A double of a test, which takes the rows."""

    stored: pl.DataFrame

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Dagster's own

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        self.stored = obj.collect()


def test_a_manager_in_memory_that_takes_the_rows_is_allowed(
    sandbox_container: SandboxContainer, instance: dg.DagsterInstance
) -> None:
    store = CollectsInMemory()
    Pipeline(sandbox_container, instance, store).materialize(FIRST)
    assert store.stored.equals(FRAMES[FIRST])


@pytest.mark.parametrize(
    ("io_manager", "name"),
    [
        (dg.mem_io_manager, "InMemoryIOManager"),
        (dg.fs_io_manager, "PickledObjectFilesystemIOManager"),
        (dg.IOManagerDefinition(lambda _: OwnPickling(), {}), "OwnPickling"),
    ],
)
def test_a_manager_that_would_lose_the_rows_fails_before_anything_is_pulled(
    sandbox_container: SandboxContainer, instance: dg.DagsterInstance, io_manager: Any, name: str
) -> None:
    with pytest.raises(dg.Failure, match=f"dataset '{NAME}': {name} stores a LazyFrame without its rows") as caught:
        Pipeline(sandbox_container, instance, io_manager).materialize(FIRST)
    assert caught.value.allow_retries is False
    assert sandbox_container.requests == []


class TerminatedIOManager(dg.IOManager):
    """Its run is terminated while it stores."""

    def __init__(self) -> None:
        self.calls = 0

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        self.calls += 1
        if self.calls == 1:
            context.step_context.instance.report_run_canceling(context.step_context.dagster_run)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    def load_input(self, context: dg.InputContext) -> None: ...


class WrappingIOManager(TerminatedIOManager):
    """Raises its own error when it is interrupted."""

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        try:
            super().handle_output(context, obj)
        except BaseException as error:
            raise RuntimeError("not stored") from error


class OwnRetryPolicy(dg.RetryPolicy):
    """Somebody's own."""


@pytest.mark.parametrize(
    ("retry_policy_type", "io_manager_type"),
    [
        (dg.RetryPolicy, TerminatedIOManager),
        (OwnRetryPolicy, TerminatedIOManager),
        (dg.RetryPolicy, WrappingIOManager),
    ],
)
def test_a_terminated_run_is_not_retried_in_the_process_of_the_executor(
    retry_policy_type: type[dg.RetryPolicy], io_manager_type: type[TerminatedIOManager]
) -> None:
    io_manager = io_manager_type()
    with SandboxContainer() as container, dg.instance_for_test() as instance:
        container.add_version(NAME, datetime.fromisoformat(f"{FIRST}T01:00:00+00:00"), "id,name,day\n1,a,\n")
        dg.materialize(
            build_foundry_assets([DATASET], retry_policy=retry_policy_type(max_retries=2)),
            resources={
                "foundry_container": FoundryContainerResource(host=container.host, port=container.port),
                "io_manager": io_manager,
            },
            instance=instance,
            partition_key=FIRST,
            raise_on_error=False,
        )
        (run,) = instance.get_runs()
    assert run.status == dg.DagsterRunStatus.CANCELED
    assert io_manager.calls == 1
