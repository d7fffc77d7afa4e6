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
from fdtcc_dagster_tests.s3_server import S3Server, holding
from fdtcc_dagster_tests.site import failure_of

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
def s3_site(site: FaultySite, s3: S3Server) -> FaultySite:
    site.io_manager = FoundryParquetIOManager(base_dir=s3.base_dir, storage_options=s3.options)
    return site


@pytest.mark.parametrize("case", some_of(WRONG_ROWS, lambda case: case.name in USUAL), ids=lambda case: case.name)
def test_wrong_rows_leave_the_stored_object_byte_for_byte(case: Case, s3_site: FaultySite, s3: S3Server) -> None:
    s3.put(OBJECT, PREVIOUS)
    case.arrange(s3_site.scene)
    result = s3_site.pull([LIVE], transport=case.transport, **case.limits)
    assert case.error is not None
    assert case.error.__name__ in failure_of(result)
    assert s3.objects() == {OBJECT: PREVIOUS}
    assert s3.uploads() == []


def test_the_other_partitions_of_a_run_are_stored(s3_site: FaultySite, s3: S3Server) -> None:
    (case,) = [case for case in WRONG_ROWS if case.name == "wrong pointer"]
    s3_site.add_past_versions()
    case.arrange(s3_site.scene)
    s3.put(OBJECT, PREVIOUS)
    assert not s3_site.pull(KEYS).success
    objects = s3.objects()
    assert objects.pop(OBJECT) == PREVIOUS
    assert sorted(objects) == [f"{NAME}/{key}.parquet" for key in KEYS[:-1]]
    assert all(pl.read_parquet(BytesIO(content)).height == 3 for content in objects.values())


@pytest.mark.parametrize("keys", [[LIVE], KEYS], ids=["one", "several"])
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_ends_an_upload_in_a_thread_of_the_run(s3_site: FaultySite, s3: S3Server, keys: list[str]) -> None:
    began: list[float] = []

    def interrupt() -> None:
        began.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    s3_site.add_past_versions()
    objects = {f"{NAME}/{key}.parquet": PREVIOUS for key in KEYS}
    for name, content in objects.items():
        s3.put(name, content)
    s3.requests.clear()
    with holding(s3, "put", interrupt), contextlib.suppress(KeyboardInterrupt):
        assert not s3_site.pull(keys).success
    assert len(began) == 1
    assert time.monotonic() - began[0] < 8
    assert s3.objects() == objects
    assert list(s3_site.spool.iterdir()) == []


def test_what_an_object_store_has_already_is_neither_downloaded_nor_written(s3_site: FaultySite, s3: S3Server) -> None:
    assert s3_site.pull([LIVE]).success
    before = s3.objects()
    assert pl.read_parquet(BytesIO(before[OBJECT])).equals(FRAME)
    s3.requests.clear()
    again = s3_site.pull([LIVE])
    (materialization,) = again.asset_materializations_for_node(NAME)
    assert materialization.metadata["foundry/unchanged"].value is True
    assert materialization.metadata["dagster/row_count"].value == FRAME.height
    assert materialization.metadata["dagster/size_bytes"].value == len(before[OBJECT])
    assert str(materialization.metadata["dagster/uri"].value).startswith("s3://")
    assert {kind for kind, _ in s3.requests} <= {"HEAD", "GET"}
    assert s3.objects() == before
    assert s3_site.scene.attempts() == (2, 1)
