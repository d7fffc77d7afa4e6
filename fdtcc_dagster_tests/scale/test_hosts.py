"""Runs on a host that has little, and with each way to start their processes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from fdtcc_dagster import FoundryContainerResource, FoundryDataset, FoundryParquetIOManager, build_foundry_definitions
from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster_tests.s3_server import S3Server
from fdtcc_dagster_tests.scale.data import DAYS, KEYS, add_version, snapshot, variables
from fdtcc_dagster_tests.scale.deployment import ROOT
from fdtcc_dagster_tests.scale.hosts import USER, WRITABLE, restricted_host
from fdtcc_dagster_tests.scale.location import NAMES, SCHEDULE, SCHEMA, START

pytestmark = [pytest.mark.scale, pytest.mark.timeout(120)]

ROWS = 400_000
_RUN = """
import json, os, sys, tempfile
import dagster as dg, polars as pl
from fdtcc_dagster.client.directories import lock_directory
from fdtcc_dagster_tests.scale.location import NAMES, defs
from fdtcc_dagster_tests.site import partitions

try:
    tempfile.gettempdir()
except FileNotFoundError:
    with dg.DagsterInstance.get() as instance:
        result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey(NAMES[0])], **partitions(sys.argv[1:])
        )
    told = {"user": os.getuid(), "threads": pl.thread_pool_size(), "locks": str(lock_directory())}
    print(json.dumps(told))
"""


def test_a_run_needs_only_its_spool_directory(s3: S3Server, tmp_path: Path) -> None:
    with SandboxContainer() as container:
        for day in DAYS[:2]:
            add_version(container, NAMES[0], day, ROWS)
        with restricted_host(tmp_path / "writable", files=64) as beginning:
            for name in ("home", "spool"):
                (tmp_path / "writable" / name).mkdir()
                os.chown(tmp_path / "writable" / name, USER, USER)
            # Dagster's telemetry needs a home.
            (tmp_path / "writable" / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}")
            command = [*beginning, sys.executable, "-W", "ignore", "-c", _RUN, *KEYS[:2]]
            environment = {
                **os.environ,
                **variables(container, s3),
                "PYTHONPATH": str(ROOT),
                "DAGSTER_HOME": str(WRITABLE / "home"),
                "TEST_SPOOL": str(WRITABLE / "spool"),
            }
            ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert ended.returncode == 0, ended.stderr[-3000:]
    told = json.loads(ended.stdout.splitlines()[-1])
    assert (told["user"], told["threads"]) == (USER, 1)
    assert told["locks"].startswith(str(WRITABLE / "spool"))
    for day in DAYS[:2]:
        assert pl.read_parquet(io.BytesIO(s3.objects()[f"{NAMES[0]}/{day}.parquet"])).equals(
            snapshot(NAMES[0], day, ROWS)
        )


def forked_job() -> dg.JobDefinition:
    """Materializes datasets in processes that are forked from one that has loaded the code location."""
    method = {"forkserver": {"preload_modules": ["fdtcc_dagster_tests.scale.location"]}}
    definitions = build_foundry_definitions(
        [FoundryDataset(name, SCHEDULE, START, SCHEMA) for name in NAMES[:2]],
        resource=FoundryContainerResource(host="127.0.0.1", port=dg.EnvVar.int("TEST_CONTAINER_PORT")),
        io_manager=FoundryParquetIOManager(base_dir=dg.EnvVar("TEST_PARQUET")),
        executor=dg.multiprocess_executor.configured({"start_method": method}),
    )
    jobs = dg.Definitions(jobs=[dg.define_asset_job("both", NAMES[:2])])
    return dg.Definitions.merge(definitions, jobs).resolve_job_def("both")


def test_steps_are_forked_from_a_loaded_code_location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SandboxContainer() as container, dg.instance_for_test() as instance:
        for name in NAMES[:2]:
            add_version(container, name, DAYS[0])
        monkeypatch.setenv("TEST_CONTAINER_PORT", str(container.port))
        monkeypatch.setenv("TEST_PARQUET", str(tmp_path))
        result = dg.execute_job(
            dg.reconstructable(forked_job), instance, tags={"dagster/partition": KEYS[0]}, raise_on_error=True
        )
    assert result.success
    for name in NAMES[:2]:
        assert pl.read_parquet(tmp_path / name / f"{KEYS[0]}.parquet").equals(snapshot(name, DAYS[0]))
