"""A backfill on several hosts completes although one of them is killed, and each partition is right."""

from __future__ import annotations

import io
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster.sandbox.faults import FrameDelay
from fdtcc_dagster_tests.real_instance import RealInstance, wait_until
from fdtcc_dagster_tests.s3_server import S3Server
from fdtcc_dagster_tests.scale.data import DAYS, KEYS, add_version, snapshot, variables
from fdtcc_dagster_tests.scale.deployment import Deployment, deployment
from fdtcc_dagster_tests.scale.location import NAMES
from fdtcc_dagster_tests.test_pools import most_sockets

pytestmark = [pytest.mark.scale, pytest.mark.timeout(300)]

LIMIT = 2
"""Of the pool: the two workers have three processes."""


@pytest.fixture
def container() -> Iterator[SandboxContainer]:
    with SandboxContainer() as container:
        for name in NAMES:
            for day in DAYS:
                add_version(container, name, day)
        container.inject(None, FrameDelay(0.1), times=None)
        yield container


@pytest.fixture
def deployed(container: SandboxContainer, s3: S3Server, tmp_path: Path) -> Iterator[Deployment]:
    with deployment(tmp_path, variables(container, s3), pool_limit=LIMIT) as deployed:
        yield deployed


def executing(instance: RealInstance, backfill: str) -> int | None:
    """A process that executes a step, and has just begun to."""
    for run in instance.show(backfill).runs:
        said = [event["message"] for event in instance.log(run) if event["__typename"] == "LogsCapturedEvent"]
        if said and (process := re.search(r"process \(pid: (\d+)\)", said[-1])):
            return int(process[1])
    return None


def test_a_backfill_completes_although_a_process_and_a_host_are_killed(
    deployed: Deployment, container: SandboxContainer, s3: S3Server
) -> None:
    instance = deployed.instance
    with deployed.workers() as (first, _), most_sockets(container) as sockets:
        backfill = instance.backfill(NAMES, KEYS)
        os.kill(wait_until(lambda: executing(instance, backfill), what="a step begins", every=0.5), signal.SIGKILL)
        wait_until(lambda: [kind for kind, _ in s3.requests].count("put") >= 8, what="some partitions are stored")
        first.kill()
        shown = wait_until(lambda: shown if (shown := instance.show(backfill)).over else None, 200, every=1.0)
    assert (shown.status, set(shown.runs.values())) == ("COMPLETED_SUCCESS", {"SUCCESS"})
    stored = s3.objects()
    assert sorted(stored) == [f"{name}/{key}.parquet" for name in NAMES for key in KEYS]
    for name in NAMES:
        for day in DAYS:
            assert pl.read_parquet(io.BytesIO(stored[f"{name}/{day}.parquet"])).equals(snapshot(name, day))
    assert s3.uploads() == []
    for worker in ("first", "second"):
        assert "Task execute_plan" in (deployed.directory / f"{worker}.log").read_text()
    assert 1 <= sockets[-1] <= LIMIT
    assert set(container.max_conversations.values()) == {1}
