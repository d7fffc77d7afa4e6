"""What is wrong with the rows of a snapshot, on the asset whose partitions are in an object store."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from io import BytesIO

import dagster as dg
import polars as pl
import pytest

from fdtcc_dagster import FoundryParquetIOManager
from fdtcc_dagster.errors import ChecksumMismatchError, RowCountMismatchError, SchemaMismatchError
from fdtcc_dagster_tests.faults.cases import CASES
from fdtcc_dagster_tests.faults.scene import FRAME, NAME, ROWS, Case
from fdtcc_dagster_tests.faults.site import KEYS, LIVE, PREVIOUS, FaultySite
from fdtcc_dagster_tests.fuzz import some_of
from fdtcc_dagster_tests.site import failure_of
from fdtcc_dagster_tests.store_server import StoreServer, holding

WRONG_ROWS = [
    case
    for case in CASES
    if case.error in (RowCountMismatchError, SchemaMismatchError)
    or (case.error is ChecksumMismatchError and re.search(r"pointer|50\.0%|of the middle", case.name))
]
USUAL = {"wrong pointer", "the last row: a word for a number", f"{ROWS + 1} rows announced"}
OBJECT = f"{NAME}/{LIVE}.parquet"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """One for each test: what the event log says of a snapshot must not reach the next one."""
    with dg.instance_for_test() as instance:
        yield instance


@pytest.fixture
def store_site(site: FaultySite, store: StoreServer) -> FaultySite:
    site.io_manager = FoundryParquetIOManager(base_dir=store.base_dir, storage_options=store.options)
    return site


# None of them is sent to the store, so one store shows it.
@pytest.mark.parametrize("store", ["s3"], indirect=True)
@pytest.mark.parametrize("case", some_of(WRONG_ROWS, lambda case: case.name in USUAL), ids=lambda case: case.name)
def test_wrong_rows_leave_the_stored_object_byte_for_byte(
    case: Case, store_site: FaultySite, store: StoreServer
) -> None:
    store.put(OBJECT, PREVIOUS)
    case.arrange(store_site.scene)
    result = store_site.pull([LIVE], transport=case.transport, **case.limits)
    assert case.error is not None
    assert case.error.__name__ in failure_of(result)
    assert store.objects() == {OBJECT: PREVIOUS}
    assert store.uploads() == []


def test_the_other_partitions_of_a_run_are_stored(store_site: FaultySite, store: StoreServer) -> None:
    (case,) = [case for case in WRONG_ROWS if case.name == "wrong pointer"]
    store_site.add_past_versions()
    case.arrange(store_site.scene)
    store.put(OBJECT, PREVIOUS)
    assert not store_site.pull(KEYS).success
    objects = store.objects()
    assert objects.pop(OBJECT) == PREVIOUS
    assert sorted(objects) == [f"{NAME}/{key}.parquet" for key in KEYS[:-1]]
    assert all(pl.read_parquet(BytesIO(content)).height == 3 for content in objects.values())


@pytest.mark.parametrize("keys", [[LIVE], KEYS], ids=["one", "several"])
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_an_upload_in_a_thread_of_the_run(
    store_site: FaultySite, store: StoreServer, keys: list[str]
) -> None:
    began: list[float] = []

    def interrupt() -> None:
        began.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    store_site.add_past_versions()
    objects = {f"{NAME}/{key}.parquet": PREVIOUS for key in KEYS}
    for name, content in objects.items():
        store.put(name, content)
    store.requests.clear()
    with holding(store, "put", interrupt), contextlib.suppress(KeyboardInterrupt):
        assert not store_site.pull(keys).success
    assert len(began) == 1
    assert time.monotonic() - began[0] < 8
    assert store.objects() == objects
    assert list(store_site.spool.iterdir()) == []


def test_what_an_object_store_has_already_is_neither_downloaded_nor_written(
    store_site: FaultySite, store: StoreServer
) -> None:
    assert store_site.pull([LIVE]).success
    before = store.objects()
    assert pl.read_parquet(BytesIO(before[OBJECT])).equals(FRAME)
    store.requests.clear()
    again = store_site.pull([LIVE])
    (materialization,) = again.asset_materializations_for_node(NAME)
    assert materialization.metadata["foundry/unchanged"].value is True
    assert materialization.metadata["dagster/row_count"].value == FRAME.height
    assert materialization.metadata["dagster/size_bytes"].value == len(before[OBJECT])
    assert str(materialization.metadata["dagster/uri"].value).startswith(f"{store.protocol}://")
    assert {kind for kind, _ in store.requests} <= {"HEAD", "GET"}
    assert store.objects() == before
    assert store_site.scene.attempts() == (2, 1)
