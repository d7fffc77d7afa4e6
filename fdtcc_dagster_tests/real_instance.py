"""A real Dagster for tests: `dagster dev` (webserver, daemon and code servers) and the GraphQL that its UI sends."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

Found = TypeVar("Found")

LOCATION = """
from datetime import timedelta

import dagster as dg
from dagster import EnvVar
from dagster_polars import PolarsParquetIOManager

from fdtcc_dagster import (
    FoundryContainerResource, FoundryDataset, FoundryParquetIOManager, Schedule, build_foundry_assets
)

DAILY = Schedule([{{"cycle": "daily", "time": "00:00:00"}}], buffer=timedelta(0), timezone={zone!r})
{assets}
defs = dg.Definitions(
    assets=assets,
    resources={{
        "foundry_container": FoundryContainerResource(
            host="127.0.0.1", port=EnvVar.int("TEST_CONTAINER_PORT"), attempts=1,
            spool_directory=EnvVar("TEST_SPOOL"),
        ),
        "io_manager": FoundryParquetIOManager(base_dir=EnvVar("TEST_PARQUET")),
        "other": PolarsParquetIOManager(base_dir=EnvVar("TEST_PARQUET")),
    }},
    {more}
)
"""
"""A code location: `assets` is code that makes them, with `DAILY` at hand, whose days are those of `zone`; `more` are
arguments of `Definitions`."""


def wait_until(
    check: Callable[[], Found | None], seconds: float = 120.0, *, what: str = "", every: float = 0.1
) -> Found:
    """Wait until something is there, and look for it every so many seconds."""
    deadline = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or check}"
        time.sleep(every)
    return found


@dataclass(frozen=True)
class Backfill:
    """A backfill as its page in the UI shows it; the counts are those of all its assets together."""

    status: str
    runs: Mapping[str, str]
    counts: Mapping[str, int]

    @property
    def over(self) -> bool:
        """Whether it, and so each of its runs, has ended."""
        return self.status.startswith("COMPLETED") or self.status in ("FAILED", "CANCELED")


@dataclass(frozen=True)
class RealInstance:
    """A running Dagster, and where its files are."""

    url: str
    directory: Path
    environment: Mapping[str, str]

    @property
    def spool(self) -> Path:
        return self.directory / "spool"

    @property
    def parquet(self) -> Path:
        return self.directory / "parquet"

    def query(self, text: str, **variables: Any) -> Any:
        answer = httpx.post(f"{self.url}/graphql", json={"query": text, "variables": variables}, timeout=60).json()
        assert "errors" not in answer, answer
        (value,) = answer["data"].values()
        return value

    def materialize(self, location: str, assets: Sequence[str], first: str, last: str | None = None) -> str:
        """Launch a run of a partition, or of a range of partitions, of some assets."""
        keys = {"dagster/partition": first}
        if last is not None:
            keys = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
        result = self.query(
            """mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
                __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }""",
            params={
                "selector": {
                    "repositoryLocationName": location,
                    "repositoryName": "__repository__",
                    "pipelineName": "__ASSET_JOB",
                    "assetSelection": [{"path": [asset]} for asset in assets],
                    "assetCheckSelection": [],
                },
                "mode": "default",
                "runConfigData": {},
                "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in keys.items()]},
            },
        )
        assert result["__typename"] == "LaunchRunSuccess", result
        return str(result["run"]["runId"])

    def status(self, run: str) -> str:
        return str(self.query("query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }", id=run)["status"])

    def ended(self, run: str) -> str | None:
        """The status of a run that has ended."""
        return status if (status := self.status(run)) in ("SUCCESS", "FAILURE", "CANCELED") else None

    def terminate(self, run: str) -> None:
        """Terminate a run as the UI's button does."""
        result = self.query(
            """mutation($id: String!) { terminateRun(runId: $id, terminatePolicy: SAFE_TERMINATE) {
                __typename ... on TerminateRunFailure { message } ... on PythonError { message } } }""",
            id=run,
        )
        assert result["__typename"] == "TerminateRunSuccess", result

    def log(self, run: str) -> list[dict[str, Any]]:
        """The events of a run, as its page shows them."""
        return list(
            self.query(
                """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events { __typename
                    ... on MessageEvent { message timestamp level }
                    ... on ErrorEvent { error { message className } }
                    ... on ExecutionStepFailureEvent { failureMetadata { description metadataEntries { label
                        ... on JsonMetadataEntry { jsonString } ... on TextMetadataEntry { text } } } } } } } }""",
                id=run,
            )["events"]
        )

    def failure(self, run: str) -> dict[str, Any]:
        """The one event of a failed step."""
        (event,) = [event for event in self.log(run) if event["__typename"] == "ExecutionStepFailureEvent"]
        return event

    def backfill(self, assets: str | Sequence[str], keys: Sequence[str]) -> str:
        """Launch a backfill as the UI does."""
        result = self.query(
            """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
                __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }""",
            params={
                "assetSelection": [{"path": [asset]} for asset in ([assets] if isinstance(assets, str) else assets)],
                "partitionNames": list(keys),
            },
        )
        assert result["__typename"] == "LaunchBackfillSuccess", result
        return str(result["backfillId"])

    def show(self, backfill: str) -> Backfill:
        """A backfill's state."""
        node = self.query(
            """query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill {
                status runs(limit: 100) { id status }
                assetBackfillData { assetBackfillStatuses { ... on AssetPartitionsStatusCounts {
                    numPartitionsTargeted numPartitionsMaterialized numPartitionsFailed } } } } } }""",
            id=backfill,
        )
        counts = [
            status
            for status in (node["assetBackfillData"] or {}).get("assetBackfillStatuses", [])
            if "numPartitionsTargeted" in status
        ]
        totals = {name: sum(each[name] for each in counts) for name in (counts[0] if counts else ())}
        return Backfill(node["status"], {run["id"]: run["status"] for run in node["runs"]}, totals)

    def partitions(self, asset: str) -> dict[str, set[str]]:
        """The partitions by status, as the asset's page shows them: MATERIALIZED, FAILED or MISSING."""
        node = self.query(
            """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode { partitionKeys
                assetPartitionStatuses { ... on TimePartitionStatuses { ranges { startKey endKey status } } } } } }""",
            key={"path": [asset]},
        )
        keys: list[str] = node["partitionKeys"]
        found: dict[str, set[str]] = {"MATERIALIZED": set(), "FAILED": set()}
        for each in node["assetPartitionStatuses"]["ranges"]:
            found.setdefault(each["status"], set()).update(
                keys[keys.index(each["startKey"]) : keys.index(each["endKey"]) + 1]
            )
        found["MISSING"] = set(keys).difference(*found.values())
        return found

    def materializations(self, asset: str) -> list[dict[str, Any]]:
        """The materializations of an asset, newest first: `partition`, `run`, `tags`, and metadata of plain types."""
        node = self.query(
            """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
                assetMaterializations(limit: 1000) { partition runId tags { key value } metadataEntries { label
                    ... on TextMetadataEntry { text } ... on BoolMetadataEntry { boolValue }
                    ... on IntMetadataEntry { intValue } ... on JsonMetadataEntry { jsonString } } } } } }""",
            key={"path": [asset]},
        )
        values = ("text", "boolValue", "intValue", "jsonString")
        return [
            {
                "partition": each["partition"],
                "run": each["runId"],
                "tags": {tag["key"]: tag["value"] for tag in each["tags"]},
                **{
                    entry["label"]: next((entry[value] for value in values if value in entry), None)
                    for entry in each["metadataEntries"]
                },
            }
            for each in node["assetMaterializations"]
        ]


@contextlib.contextmanager
def dagster_dev(
    directory: Path, locations: Mapping[str, str], container_port: int, settings: str = ""
) -> Iterator[RealInstance]:
    """Run `dagster dev` with an instance of its own.

    Args:
        directory: A directory for everything: empty, or that of an instance that has ended and goes on.
        locations: Name → code of each code location.
        container_port: The port of the container, in the code as the environment variable TEST_CONTAINER_PORT.
        settings: What dagster.yaml says besides.
    """
    for name in ("home", "spool", "parquet"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / "home" / "dagster.yaml").write_text(f"telemetry:\n  enabled: false\n{settings}")
    workspace = "load_from:\n"
    for name, code in locations.items():
        (directory / f"{name}.py").write_text(code)
        workspace += f"  - python_file: {{relative_path: {name}.py, location_name: {name}}}\n"
    (directory / "workspace.yaml").write_text(workspace)
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(directory / "home"),
        "TEST_CONTAINER_PORT": str(container_port),
        "TEST_SPOOL": str(directory / "spool"),
        "TEST_PARQUET": str(directory / "parquet"),
        "PYTHONUTF8": "1",
    }
    port = free_port()
    url, log = f"http://127.0.0.1:{port}", directory / "dev.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)],
            cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 100
        while not answers(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield RealInstance(url, directory, environment)
    finally:
        end(process)


def answers(url: str) -> bool:
    """Whether a webserver answers."""
    try:
        return httpx.get(f"{url}/server_info", timeout=5).is_success
    except httpx.TransportError:
        return False


def free_port() -> int:
    """A TCP port of loopback that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, and all that it has started."""
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    # What is left of its group, such as a run that did not heed its termination.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(20)
