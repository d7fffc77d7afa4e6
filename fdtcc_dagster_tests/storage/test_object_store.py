"""The Parquet store in an object store: whatever happens to an upload, the previous object stays whole."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from polars.io.plugins import register_io_source

from fdtcc_dagster import FoundryParquetIOManager
from fdtcc_dagster.failures import may_pass
from fdtcc_dagster.storage import object_store
from fdtcc_dagster.storage.store_errors import StoreRefusedError
from fdtcc_dagster_tests.conftest import STORES
from fdtcc_dagster_tests.s3_server import S3Server
from fdtcc_dagster_tests.store_server import VARIABLE, StoreServer, holding

PREVIOUS = pl.DataFrame({"id": [42]})
ROWS = 2_500_000
PARTS = 5 << 20
"""The least that S3 takes for a part."""
PHASES = {"s3": ["create", "part 1", "part 2", "complete"]}
PHASES |= {"gs": PHASES["s3"], "az": PHASES["s3"][1:]}


def each_phase(*others: str) -> pytest.MarkDecorator:
    """A test is run for each phase of an upload to each store."""
    cases = [
        pytest.param(kind, phase, marks=marks) for kind, marks in STORES.items() for phase in [*others, *PHASES[kind]]
    ]
    return pytest.mark.parametrize(("store", "phase"), cases, indirect=["store"])


def rows(count: int = ROWS) -> pl.LazyFrame:
    """Rows that no compression makes smaller: some 20 MB."""
    return pl.LazyFrame().select(pl.int_range(count).hash().alias("id"))


@pytest.fixture(autouse=True)
def _temporary_files_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is left in the directory of temporary files, whatever a test did."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    yield
    assert list((tmp_path / "tmp").glob("fdtcc-spool-*")) == []


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts as small as S3 has them, so that a few MB are several."""
    monkeypatch.setattr(object_store, "_PART_BYTES", PARTS)


@pytest.fixture
def stored(store: StoreServer) -> bytes:
    """What is stored before."""
    file = BytesIO()
    PREVIOUS.write_parquet(file)
    store.put("numbers.parquet", file.getvalue())
    store.requests.clear()
    return file.getvalue()


def manager(store: StoreServer, **options: Any) -> FoundryParquetIOManager:
    return FoundryParquetIOManager(base_dir=store.base_dir, storage_options={**store.options, **options})


def materialize(store: StoreServer, frame: pl.LazyFrame | pl.DataFrame, **arguments: Any) -> dg.ExecuteInProcessResult:
    @dg.asset(**arguments)  # type: ignore[untyped-decorator]
    def numbers() -> Any:
        return frame

    return dg.materialize([numbers], resources={"io_manager": manager(store)}, raise_on_error=False)


def failing(rows_before: int = ROWS) -> pl.LazyFrame:
    """A frame whose last rows are wrong."""

    def stream(*_: object) -> Iterator[pl.DataFrame]:
        yield rows(rows_before).collect()
        raise ValueError("the last row does not fit")

    return register_io_source(stream, schema={"id": pl.UInt64})


@pytest.mark.parametrize("count", [10, ROWS])
@pytest.mark.usefixtures("parts")
def test_outputs_are_stored_and_read(store: StoreServer, stored: bytes, count: int) -> None:
    @dg.asset
    def numbers() -> pl.LazyFrame:
        return rows(count)

    @dg.asset
    def eager(numbers: pl.DataFrame) -> pl.DataFrame:
        return numbers.head(7)

    @dg.asset(ins={"numbers": dg.AssetIn(metadata={"columns": ["id"]})})
    def summed(numbers: pl.LazyFrame) -> pl.DataFrame:
        return numbers.filter(pl.col("id") % 2 == 0).select(pl.col("id").sum(), n=pl.len()).collect()

    assert dg.materialize([numbers, eager, summed], resources={"io_manager": manager(store)}).success
    found = {name: pl.read_parquet(BytesIO(content)) for name, content in store.objects().items()}
    expected = rows(count).collect()
    assert found["numbers.parquet"].equals(expected)
    assert found["eager.parquet"].equals(expected.head(7))
    even = expected.filter(pl.col("id") % 2 == 0)
    assert found["summed.parquet"].rows() == [(even["id"].sum(), even.height)]
    assert store.uploads() == []


@pytest.mark.usefixtures("parts")
def test_memory_does_not_grow_with_an_upload(store: StoreServer) -> None:
    assert materialize(store, rows()).success
    # Google completes an upload by its last part.
    sizes = [size for what, size in store.requests if what.startswith(("part", "complete"))]
    assert len(sizes) > 3
    assert max(sizes) < PARTS * 1.01


@pytest.mark.parametrize("rows_before", [10, ROWS])
def test_a_frame_that_fails_in_its_last_row_leaves_the_object(
    store: StoreServer, stored: bytes, rows_before: int
) -> None:
    assert not materialize(store, failing(rows_before)).success
    assert store.objects() == {"numbers.parquet": stored}
    assert store.uploads() == []
    # Nothing was sent that would have to be aborted.
    assert {what for what, _ in store.requests} <= {"GET"}


@each_phase()
@pytest.mark.usefixtures("parts")
def test_an_upload_that_is_refused_leaves_the_object_and_no_parts(
    store: StoreServer, stored: bytes, phase: str
) -> None:
    store.answer = lambda environ: 403 if store.kind(environ) == phase else None
    assert not materialize(store, rows()).success
    assert store.objects() == {"numbers.parquet": stored}
    assert store.uploads() == []


def test_an_object_in_one_request_that_is_refused_leaves_the_object(store: StoreServer, stored: bytes) -> None:
    store.answer = lambda environ: 403 if store.kind(environ) == "put" else None
    assert not materialize(store, rows(10)).success
    store.answer = lambda _: None
    assert store.objects() == {"numbers.parquet": stored}


@each_phase("put")
@pytest.mark.usefixtures("parts", "interruptible")
def test_an_interrupt_ends_an_upload_that_is_not_answered(store: StoreServer, stored: bytes, phase: str) -> None:
    began: list[float] = []

    def interrupt() -> None:
        began.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    before = store.objects()
    with holding(store, phase, interrupt), contextlib.suppress(KeyboardInterrupt):
        # Dagster reports an interrupt by an exception, or as the run's failure.
        assert not materialize(store, rows(10 if phase == "put" else ROWS)).success
    assert began
    assert time.monotonic() - began[0] < 8
    assert store.objects() == before
    assert store.uploads() == []


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_rows_are_written_sends_nothing(store: StoreServer, stored: bytes) -> None:
    def stream(*_: object) -> Iterator[pl.DataFrame]:
        yield rows(10).collect()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        yield rows(10).collect()

    with contextlib.suppress(KeyboardInterrupt):
        assert not materialize(store, register_io_source(stream, schema={"id": pl.UInt64})).success
    assert store.requests == []
    assert store.objects() == {"numbers.parquet": stored}


def test_options_come_from_the_environment_at_any_depth(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE", s3.base_dir)
    monkeypatch.setenv("STORE_ENDPOINT", s3.endpoint)
    inner = {"endpoint_url": dg.EnvVar("STORE_ENDPOINT"), "aws_session_token": dg.EnvVar(VARIABLE)}
    options = {name: s3.options[name] for name in ("key", "secret")}
    io_manager = FoundryParquetIOManager(
        base_dir=dg.EnvVar("STORE"), storage_options={**options, "client_kwargs": inner}
    )

    @dg.asset
    def numbers() -> pl.DataFrame:
        return PREVIOUS

    assert dg.materialize([numbers], resources={"io_manager": io_manager}).success
    assert list(s3.objects()) == ["numbers.parquet"]
    monkeypatch.delenv("STORE_ENDPOINT")
    with pytest.raises(dg.DagsterResourceFunctionError) as caught:
        dg.materialize([numbers], resources={"io_manager": io_manager})
    assert "'STORE_ENDPOINT', which 'endpoint_url' is to come from, is not set" in str(caught.value.__cause__)


PROCESS = """
import json, sys, tempfile
import dagster as dg, polars as pl
from fdtcc_dagster import FoundryParquetIOManager
from fdtcc_dagster.storage import object_store

base_dir, plain, secret, tempfile.tempdir = sys.argv[1:]
object_store._PART_BYTES = 5 << 20
options = {**json.loads(plain), **{name: dg.EnvVar(variable) for name, variable in json.loads(secret).items()}}

@dg.asset
def numbers() -> pl.LazyFrame:
    return pl.LazyFrame().select(pl.int_range(2_500_000).hash().alias("id"))

io_manager = FoundryParquetIOManager(base_dir=base_dir, storage_options=options)
dg.materialize([numbers], resources={"io_manager": io_manager})
"""


@contextlib.contextmanager
def process_in(store: StoreServer, phase: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that stores, and waits for the server's answer in a phase of its upload."""
    reached = threading.Event()
    with holding(store, phase, reached.set):
        options = [json.dumps(store.plain), json.dumps(store.secret)]
        arguments = [sys.executable, "-c", PROCESS, store.base_dir, *options, str(tmp_path / "tmp")]
        with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                assert reached.wait(60)
                yield process
            finally:
                process.kill()


def test_a_terminated_process_leaves_the_object_and_nothing_else(
    store: StoreServer, stored: bytes, tmp_path: Path
) -> None:
    with process_in(store, "part 2", tmp_path) as process:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert store.objects() == {"numbers.parquet": stored}
    assert store.uploads() == []


def test_a_killed_process_leaves_the_object_and_the_next_one_tidies_up(
    store: StoreServer, stored: bytes, tmp_path: Path
) -> None:
    with process_in(store, "complete", tmp_path) as process:
        process.kill()
        process.wait()
    assert store.objects() == {"numbers.parquet": stored}
    assert list((tmp_path / "tmp").glob("fdtcc-spool-*")) != []
    assert materialize(store, PREVIOUS).success
    assert pl.read_parquet(BytesIO(store.objects()["numbers.parquet"])).equals(PREVIOUS)


def test_a_reader_keeps_the_version_of_an_object_that_it_opened(store: StoreServer) -> None:
    assert materialize(store, rows(1000)).success
    with manager(store).process_config_and_initialize_cm() as ready:
        path = ready._get_path(dg.build_output_context(asset_key=dg.AssetKey("numbers")))
        frame = ready.scan_df_from_path(path, dg.build_input_context())
        assert frame.collect().equals(rows(1000).collect())
        assert materialize(store, rows(2000)).success
        assert frame.collect().equals(rows(1000).collect())
        again = ready.scan_df_from_path(path, dg.build_input_context())
        assert again.select(pl.len()).collect().item() == 2000


@pytest.mark.timeout(60)
def test_many_objects_are_read_at_once_and_their_copies_go_with_them(
    store: StoreServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    assert materialize(store, rows(1000)).success
    with manager(store).process_config_and_initialize_cm() as ready:
        path = ready._get_path(dg.build_output_context(asset_key=dg.AssetKey("numbers")))
        frames = [ready.scan_df_from_path(path, dg.build_input_context()) for _ in range(40)]
    assert pl.concat(frames).collect().height == 40_000
    assert list(copies.iterdir()) == []


def test_an_object_that_is_replaced_while_it_is_copied_is_an_error_and_no_mixture(s3: S3Server) -> None:
    s3.put("numbers.parquet", b"1" * (20 << 20))
    replaced = False

    def replace(request: dict[str, Any]) -> int | None:
        nonlocal replaced
        if request["REQUEST_METHOD"] == "GET" and not replaced:
            replaced = True
            s3.put("numbers.parquet", b"2" * (20 << 20))
        return None

    with manager(s3).process_config_and_initialize_cm() as ready:
        path = ready._get_path(dg.build_output_context(asset_key=dg.AssetKey("numbers")))
        s3.answer = replace
        with pytest.raises(OSError):  # noqa: PT011  what s3fs says depends on its version
            ready.scan_df_from_path(path, dg.build_input_context())


def test_an_object_whose_bytes_are_of_two_versions_is_an_error_in_any_store(store: StoreServer) -> None:
    """Such a copy is made if a store does not report that the object was replaced."""
    with manager(store).process_config_and_initialize_cm() as ready:
        key, day = dg.AssetKey("numbers"), "2026-01-01"
        contents = []
        for first in (0, 1):
            ready.store_partition(key, day, pl.LazyFrame({"id": pl.int_range(first, first + 999, eager=True)}))
            contents.append(store.objects()[f"numbers/{day}.parquet"])
        half = 500
        store.put(f"numbers/{day}.parquet", contents[0][:half] + contents[1][half:])
        path = ready._partition_path(key, day)
        with pytest.raises(OSError, match="was replaced while it was copied; read it again"):
            ready.scan_df_from_path(path, dg.build_input_context())
        store.put(f"numbers/{day}.parquet", contents[0])
        assert ready.scan_df_from_path(path, dg.build_input_context()).collect()["id"].to_list() == list(range(999))


def test_a_partition_that_another_process_has_stored_is_seen_where_its_directory_was_listed(store: StoreServer) -> None:
    key, days = dg.AssetKey("numbers"), ["2026-01-01", "2026-01-02"]
    other = manager(store, skip_instance_cache=True)
    with (
        manager(store).process_config_and_initialize_cm() as ready,
        other.process_config_and_initialize_cm() as another,
    ):
        ready.store_partition(key, days[0], PREVIOUS.lazy())
        path = ready._partition_path(key, days[1])
        assert [each.name for each in path.parent.iterdir()] == [f"{days[0]}.parquet"]
        another.store_partition(key, days[1], rows(9))
        another.store_partition(key, days[0], rows(2000))
        assert ready.scan_df_from_path(path, dg.build_input_context()).collect().height == 9
        found = ready.stored_partition(key, days[0])
        assert found is not None
        assert found.rows == 2000
        assert ready.verify_partition(key, days[0]) is not None


def test_an_object_that_is_not_there_is_named(store: StoreServer) -> None:
    with manager(store).process_config_and_initialize_cm() as ready:
        path = ready._get_path(dg.build_output_context(asset_key=dg.AssetKey("numbers")))
        with pytest.raises(FileNotFoundError, match=r"numbers\.parquet; materialize it first"):
            ready.scan_df_from_path(path, dg.build_input_context())
        assert ready.stored_partition(dg.AssetKey("numbers"), "2026-01-01") is None


def retried(result: dg.ExecuteInProcessResult) -> bool:
    return any(event.event_type == dg.DagsterEventType.STEP_UP_FOR_RETRY for event in result.all_events)


def error_of(result: dg.ExecuteInProcessResult) -> str:
    (event,) = result.get_step_failure_events()
    return str(event.step_failure_data.error)


@pytest.mark.parametrize("status", [401, 403])
def test_a_store_that_refuses_access_is_not_asked_again(store: StoreServer, status: int) -> None:
    store.answer = lambda environ: status if store.kind(environ) == "put" else None
    result = materialize(store, rows(10), retry_policy=dg.RetryPolicy(max_retries=1))
    assert not result.success
    assert not retried(result)
    expected = (
        rf"numbers\.parquet: the object store refuses access \({status}.*check the credentials in storage_options"
    )
    assert re.search(expected, error_of(result))


def test_a_store_that_fails_is_asked_again(store: StoreServer) -> None:
    # A status that botocore does not retry itself, for seconds.
    store.answer = lambda environ: 409 if store.kind(environ) == "put" else None
    assert retried(materialize(store, rows(10), retry_policy=dg.RetryPolicy(max_retries=1)))
    with manager(store).process_config_and_initialize_cm() as ready, pytest.raises(OSError) as caught:  # noqa: PT011
        ready.store_partition(dg.AssetKey("numbers"), "2026-01-01", PREVIOUS.lazy())
    assert may_pass(caught.value)


def test_access_that_is_refused_does_not_count_as_nothing_stored(store: StoreServer) -> None:
    with manager(store).process_config_and_initialize_cm() as ready:
        key, day = dg.AssetKey("numbers"), "2026-01-01"
        ready.store_partition(key, day, PREVIOUS.lazy())
        store.answer = lambda _: 403
        path = ready._partition_path(key, day)
        calls: list[Callable[[], object]] = [
            lambda: ready.check_writable(key, day),
            lambda: ready.stored_partition(key, day),
            lambda: ready.scan_df_from_path(path, dg.build_input_context()),
        ]
        for call in calls:
            with pytest.raises(StoreRefusedError, match="the object store refuses access"):
                call()
        store.answer = lambda _: 409
        ready.check_writable(key, day)


def test_credentials_that_are_missing_are_a_refusal(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nonexistent")
    options = {"endpoint_url": s3.endpoint}
    io_manager = FoundryParquetIOManager(base_dir=s3.base_dir, storage_options=options)
    with (
        io_manager.process_config_and_initialize_cm() as ready,
        pytest.raises(StoreRefusedError, match=r"NoCredentialsError.*check the credentials in storage_options"),
    ):
        ready.check_writable(dg.AssetKey("numbers"), "2026-01-01")


@pytest.mark.parametrize("store", [pytest.param(kind, marks=STORES[kind]) for kind in ("gs", "az")], indirect=True)
def test_credentials_that_the_store_refuses_are_a_refusal(store: StoreServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where gcsfs computes how long it waits before it asks again, half a minute in all.
    with contextlib.suppress(ImportError):
        monkeypatch.setattr("gcsfs.retry.min", lambda *_: 0, raising=False)
    io_manager = FoundryParquetIOManager(base_dir=store.base_dir, storage_options={**store.options, **store.refused})
    key, day = dg.AssetKey("numbers"), "2026-01-01"
    with io_manager.process_config_and_initialize_cm() as ready:
        for call in (ready.check_writable, ready.stored_partition, ready.verify_partition):
            with pytest.raises(StoreRefusedError, match="check the credentials in storage_options"):
                call(key, day)
        with pytest.raises(StoreRefusedError, match="check the credentials in storage_options"):
            ready.store_partition(key, day, PREVIOUS.lazy())
    assert store.objects() == {}


def test_a_bucket_that_is_not_there_is_not_created(store: StoreServer) -> None:
    store.bucket = "mistyped-bucket"
    result = materialize(store, rows(10), retry_policy=dg.RetryPolicy(max_retries=1))
    assert not result.success
    assert not retried(result)
    assert "does not exist, and is not created: create it, or correct base_dir" in error_of(result)
    with (
        manager(store).process_config_and_initialize_cm() as ready,
        pytest.raises(StoreRefusedError, match="does not exist, and is not created"),
    ):
        ready.check_writable(dg.AssetKey("numbers"), "2026-01-01")
    assert "mistyped-bucket" not in store.buckets()


@pytest.mark.parametrize(
    ("base_dir", "options", "named"),
    [
        ("s3://bucket", {"account_name": "a"}, "account_name"),
        ("s3://bucket", {"aws_access_key_id": "a", "aws_endpoint_url": "http://x"}, "aws_access_key_id, aws_endpoint"),
        ("s3://bucket", {"endpoint": "http://x"}, "endpoint"),
        ("/tmp/fdtcc-none", {"key": "a"}, "key"),  # noqa: S108
    ],
)
def test_options_that_are_not_known_are_refused(base_dir: str, options: dict[str, str], named: str) -> None:
    io_manager = FoundryParquetIOManager(base_dir=base_dir, storage_options=options)
    with pytest.raises(ValueError, match=f"storage_options {named}"), io_manager.process_config_and_initialize_cm():
        raise AssertionError("it was taken")


@pytest.mark.parametrize(
    "options",
    [
        {"profile": "a", "use_ssl": False, "client_kwargs": {"region_name": "eu-central-1"}},
        {"token": "a", "anon": True, "config_kwargs": {}, "use_listings_cache": False, "max_concurrency": 2},
    ],
)
def test_options_of_fsspec_are_taken(options: dict[str, Any]) -> None:
    io_manager = FoundryParquetIOManager(base_dir="s3://bucket", storage_options=options)
    with io_manager.process_config_and_initialize_cm():
        pass


@pytest.mark.parametrize("name", ["client_kwargs", "config_kwargs"])
def test_options_within_options_that_are_not_known_send_nothing(s3: S3Server, name: str) -> None:
    with manager(s3, **{name: {"endpoint": "http://x"}}).process_config_and_initialize_cm() as ready:
        for _ in range(2):
            with pytest.raises(TypeError, match="unexpected keyword argument 'endpoint'"):
                ready.store_partition(dg.AssetKey("numbers"), "2026-01-01", PREVIOUS.lazy())
            with pytest.raises(TypeError, match="unexpected keyword argument 'endpoint'"):
                ready.stored_partition(dg.AssetKey("numbers"), "2026-01-01")
    assert s3.requests == []


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    io_manager = FoundryParquetIOManager(base_dir="gs://bucket/x")
    with (
        pytest.raises(ImportError, match=r"gs:// needs a package: pip install 'fdtcc-dagster\[gcs\]'"),
        io_manager.process_config_and_initialize_cm(),
    ):
        raise AssertionError("it was taken")


@pytest.mark.parametrize("base_dir", ["memory://x", "sftp://host/x", "simplecache::s3://bucket", "http://host/x"])
def test_a_place_in_which_nothing_is_replaced_as_a_whole_is_refused_when_it_is_built(base_dir: str) -> None:
    with pytest.raises(ValueError, match="cannot be replaced as a whole: give a directory, or"):
        FoundryParquetIOManager(base_dir=base_dir)


@pytest.mark.parametrize(
    "base_dir",
    [
        "s3://id:hidden@bucket/x",
        "s3://id:with/hidden@bucket/x",
        "s3://id:hid:den/hidden/@bucket",
        "az://container/x?sv=2024&sig=hidden",
        "abfss://container@account.dfs.core.windows.net/x?sig=hidden",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_shown(base_dir: str) -> None:
    with pytest.raises(ValueError, match="use storage_options") as caught:
        FoundryParquetIOManager(base_dir=base_dir)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("base_dir", ["s3://bucket/a:b@c", "abfss://container@account.dfs.core.windows.net/x"])
def test_urls_without_credentials_are_taken(base_dir: str) -> None:
    FoundryParquetIOManager(base_dir=base_dir)


@pytest.mark.parametrize("base_dir", ["s3://bucket/a::b", "s3://bucket/a?versionId=b"])
def test_a_url_of_something_else_than_a_place_is_refused(base_dir: str) -> None:
    with pytest.raises(ValueError, match=r"base_dir has '.*', which has a meaning of its own"):
        FoundryParquetIOManager(base_dir=base_dir)


@pytest.mark.parametrize("key", ["a?versionId=b", "a?versionid=b", "a::b"])
def test_keys_that_could_lead_to_the_object_of_another_one_are_refused(s3: S3Server, key: str) -> None:
    numbers = dg.AssetKey("numbers")
    with manager(s3).process_config_and_initialize_cm() as ready:
        calls: list[Callable[[], object]] = [
            lambda: ready.store_partition(numbers, key, PREVIOUS.lazy()),
            lambda: ready.stored_partition(numbers, key),
            lambda: ready.store_partition(dg.AssetKey(["x", key]), "b", PREVIOUS.lazy()),
            lambda: ready._get_path(dg.build_output_context(asset_key=dg.AssetKey(key))),
        ]
        for call in calls:
            with pytest.raises(ValueError, match=r"key .* which has a meaning of its own in the paths of an object"):
                call()
    assert s3.objects() == {}


@pytest.mark.parametrize("protocol", ["file", "local"])
def test_urls_of_directories_are_directories(protocol: str, tmp_path: Path) -> None:
    @dg.asset
    def numbers() -> pl.DataFrame:
        return PREVIOUS

    @dg.asset
    def copy(numbers: pl.LazyFrame) -> pl.LazyFrame:
        return numbers

    io_manager = FoundryParquetIOManager(base_dir=f"{protocol}://{tmp_path}/store")
    result = dg.materialize([numbers, copy], resources={"io_manager": io_manager})
    assert pl.read_parquet(tmp_path / "store" / "copy.parquet").equals(PREVIOUS)
    (materialization,) = result.asset_materializations_for_node("copy")
    assert materialization.metadata["path"].value == str(tmp_path / "store" / "copy.parquet")


def test_no_credential_is_in_the_events_of_a_run(store: StoreServer) -> None:
    results = [materialize(store, rows(10)), materialize(store, failing(10))]
    store.answer = lambda environ: 403 if store.kind(environ) == "put" else None
    results.append(materialize(store, rows(10)))
    assert [result.success for result in results] == [True, False, False]
    for result in results:
        events = "".join(str(event) for event in result.all_events)
        assert [secret for secret in store.secrets if secret in events] == []
