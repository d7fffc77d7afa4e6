"""Reading stored partitions: one version, whatever is stored in the meantime, and with any path."""

# No postponed annotations here: Dagster reads those of an asset's function.

import contextlib
import gc
import os
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from upath import UPath

from fdtcc_dagster import FoundryParquetIOManager
from fdtcc_dagster_tests.fuzz import some_of

KEY, PARTITION = dg.AssetKey("orders"), "2024-01-02"
DAYS = dg.DailyPartitionsDefinition(start_date="2024-01-01", end_date="2024-02-01")
# Versions of different lengths, so that the footer of one is wrong for another.
HEIGHTS = {1: 20_000, 2: 100, 3: 7_000}
ENGINES = ["in-memory", "streaming"]


def version(value: int) -> pl.DataFrame:
    numbers = pl.int_range(HEIGHTS[value], eager=True)
    return pl.DataFrame({"number": numbers, "value": pl.repeat(value, len(numbers), eager=True)})


def is_whole(rows: pl.DataFrame) -> bool:
    return bool(rows.height) and rows.equals(version(rows["value"][0]))


class Store:
    """A store of one partition, and how an asset's input is read from it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.io_manager = FoundryParquetIOManager(base_dir=str(directory))
        self.io_manager.setup_for_execution(dg.build_init_resource_context())
        self.file = directory / "orders" / f"{PARTITION}.parquet"

    def put(self, value: int) -> None:
        self.io_manager.store_partition(KEY, PARTITION, version(value).lazy())

    def read(self) -> pl.LazyFrame:
        return self.io_manager.scan_df_from_path(UPath(self.file), dg.build_input_context(asset_key=KEY))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(params=["a descriptor", "a link"])
def held_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to keep a version."""
    if request.param == "a link":
        monkeypatch.setattr("fdtcc_dagster.storage.reading._most_held", lambda: 0)
    return str(request.param)


def test_a_frame_whose_schema_was_read_before_the_partition_was_replaced_has_the_rows_from_before(
    store: Store, held_by: str
) -> None:
    for _ in range(10):
        store.put(1)
        rows = store.read()
        assert rows.collect_schema() == version(1).schema
        store.put(2)
        assert rows.select(pl.len(), pl.col("value").sum()).collect().row(0) == (HEIGHTS[1], HEIGHTS[1])
        assert rows.collect().equals(version(1))
        assert store.read().collect().equals(version(2))


def test_readers_of_a_partition_that_is_replaced_all_the_time_see_one_version_each(store: Store, held_by: str) -> None:
    files = {value: store.directory / f"{value}.new" for value in HEIGHTS}
    store.put(1)
    found: Counter[str] = Counter()

    def read() -> None:
        while sum(found.values()) < 60:
            rows = store.read()
            rows.collect_schema()
            found["whole" if is_whole(rows.collect()) else "mixed"] += 1

    with ThreadPoolExecutor(2) as readers:
        readings = [readers.submit(read) for _ in range(2)]
        while not all(reading.done() for reading in readings):
            for value, file in files.items():
                version(value).write_parquet(file)
                file.replace(store.file)
        for reading in readings:
            reading.result()
    assert set(found) == {"whole"}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_frame_is_collected_as_often_as_one_likes_and_in_several_threads(
    store: Store, held_by: str, engine: Any, tmp_path: Path
) -> None:
    store.put(1)
    rows = store.read()
    store.put(2)
    few = rows.filter(pl.col("number") < 5).select("value")
    with ThreadPoolExecutor(4) as threads:
        heights = list(threads.map(lambda _: few.collect(engine=engine).height, range(40)))
    assert set(heights) == {5}
    rows.sink_parquet(tmp_path / "copy.parquet")
    assert pl.read_parquet(tmp_path / "copy.parquet").equals(version(1))


def test_columns_and_rows_that_nobody_asks_for_are_not_read(store: Store, held_by: str) -> None:
    store.put(1)
    plan = store.read().filter(pl.col("number") > 5).select("value").explain()
    assert "SELECTION" in plan
    assert "FILTER" not in plan
    assert "PROJECT 1/2" in store.read().select("value").explain()


def test_nothing_is_open_when_nobody_reads_any_more(store: Store) -> None:
    store.put(1)
    frames = [store.read() for _ in range(50)]
    assert times_open(store.file) == 50
    pl.concat(frames).collect()
    frames.clear()
    gc.collect()
    assert times_open(store.file) == 0


def times_open(file: Path) -> int:
    paths = []
    for each in os.listdir("/proc/self/fd"):
        # Another thread, or the listing itself, may have closed it.
        with contextlib.suppress(FileNotFoundError):
            paths.append(os.readlink(f"/proc/self/fd/{each}"))
    return paths.count(str(file))


def run(program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(program), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


MANY = """
    import resource, sys
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[3]),) * 2)
    import dagster as dg, polars as pl
    from fdtcc_dagster import FoundryParquetIOManager

    base_dir, count = sys.argv[1], int(sys.argv[2])
    keys = [f"k{number}" for number in range(count)]
    orders = dg.AssetSpec("orders", partitions_def=dg.StaticPartitionsDefinition(keys))
    io_manager = FoundryParquetIOManager(base_dir=base_dir)
    io_manager.setup_for_execution(dg.build_init_resource_context())
    path = io_manager._partition_path(orders.key, keys[0]).parent
    path.mkdir(parents=True)
    for key in keys:
        pl.DataFrame({"value": [1, 1]}).write_parquet(f"{path}/{key}.parquet")

    @dg.asset
    def total(orders: dict[str, pl.LazyFrame]) -> pl.DataFrame:
        # All of them are replaced when they have been loaded, and before a row of them is read.
        for key in keys:
            pl.DataFrame({"value": [2] * 9}).write_parquet(f"{path}/new")
            import os
            os.replace(f"{path}/new", f"{path}/{key}.parquet")
        return pl.concat(orders.values()).select(pl.len(), pl.col("value").sum().alias("sum")).collect()

    dg.materialize([total, orders], resources={"io_manager": io_manager}, selection=[total])
    print(*pl.read_parquet(f"{base_dir}/total.parquet").row(0))
"""


@pytest.mark.parametrize(("count", "descriptors"), some_of([(400, 200), (2000, 1024)], lambda case: case == (400, 200)))
def test_more_partitions_are_read_than_there_are_descriptors(tmp_path: Path, count: int, descriptors: int) -> None:
    assert run(MANY, str(tmp_path), str(count), str(descriptors)).split() == [str(2 * count)] * 2
    # The links have gone with the process.
    assert {path.name for path in (tmp_path / "orders").iterdir()} == {f"k{number}.parquet" for number in range(count)}


def test_where_links_are_not_allowed_descriptors_are_used_up_before_anything_fails(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("fdtcc_dagster.storage.reading._most_held", lambda: 0)
    monkeypatch.setattr("os.link", refuse)
    store.put(1)
    rows = store.read()
    store.put(2)
    assert rows.collect().equals(version(1))


def test_too_many_open_files_say_what_helps(store: Store) -> None:
    store.put(1)
    program = """
        import resource, sys
        from pathlib import Path
        from fdtcc_dagster.storage import reading

        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        held = []
        try:
            while True:
                held.append(open(sys.argv[1]))
        except OSError:
            pass
        try:
            reading.scan(Path(sys.argv[1]))
        except OSError as error:
            held.clear()
            print(error)
    """
    said = run(program, str(store.file))
    assert "raise the limit of open files (ulimit -n), or read fewer partitions" in said
    assert str(store.file) in said


@pytest.mark.parametrize("name", ["a*", "a?", "[ab]", "{a,b}", "**", "x=1"])
def test_paths_are_literal(tmp_path: Path, name: str) -> None:
    """Beside others that a pattern would match; in a directory whose name would be one."""
    names = [name, "ab", "a", "ac"]
    directory = tmp_path / "[store]*"

    def stored(number: int, each: str) -> dg.AssetsDefinition:
        @dg.multi_asset(name=f"stored_{number}", outs={"one": dg.AssetOut(key=dg.AssetKey(each))})
        def one() -> pl.DataFrame:
            return pl.DataFrame({"name": [each]})

        return one

    @dg.asset(partitions_def=dg.StaticPartitionsDefinition(names))
    def parts(context: dg.AssetExecutionContext) -> pl.DataFrame:
        return pl.DataFrame({"key": [context.partition_key]})

    @dg.asset(ins={"one": dg.AssetIn(dg.AssetKey(name)), "parts": dg.AssetIn()})
    def read(one: pl.LazyFrame, parts: dict[str, pl.LazyFrame]) -> pl.DataFrame:
        return pl.concat([one.collect(), *(frame.collect().rename({"key": "name"}) for frame in parts.values())])

    resources = {"io_manager": FoundryParquetIOManager(base_dir=str(directory))}
    for key in names:
        assert dg.materialize([parts], resources=resources, partition_key=key).success
    assets = [stored(number, each) for number, each in enumerate(names)]
    assert dg.materialize([*assets, parts, read], resources=resources, selection=[*assets, read]).success
    assert pl.read_parquet(directory / "read.parquet", glob=False)["name"].to_list() == [name, *names]
    found = FoundryParquetIOManager(base_dir=str(directory))
    found.setup_for_execution(dg.build_init_resource_context())
    partition = found.stored_partition(dg.AssetKey("parts"), name)
    assert partition is not None
    assert partition.rows == 1


def test_what_is_said_of_a_stored_partition_is_of_one_file(store: Store) -> None:
    """A run that asks whether a partition is there may meet another one that replaces it."""
    ends = threading.Event()

    def replace() -> None:
        while not ends.is_set():
            for value in HEIGHTS:
                store.io_manager.store_partition(KEY, PARTITION, version(value).lazy(), {"foundry/sha256": str(value)})

    store.put(1)
    replaced = threading.Thread(target=replace)
    replaced.start()
    try:
        found = [store.io_manager.stored_partition(KEY, PARTITION) for _ in range(200)]
    finally:
        ends.set()
        replaced.join()
    pairs = {(each.provenance.get("foundry/sha256"), each.rows) for each in found if each}
    assert None not in found
    assert pairs <= {(None, HEIGHTS[1]), *((str(value), height) for value, height in HEIGHTS.items())}
