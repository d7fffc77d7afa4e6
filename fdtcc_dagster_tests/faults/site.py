"""The dataset of the fault matrix as an asset: runs, the partitions' files, and the spool."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg

from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    Schedule,
)
from fdtcc_dagster_tests.faults.scene import ATTEMPTS, NAME, SCHEMA, Scene, csv_of, rows
from fdtcc_dagster_tests.site import Site

TODAY = datetime.now(timezone.utc).date()
KEYS = [(TODAY - timedelta(days=back)).isoformat() for back in (17, 10, 3)]
"""Partitions a week apart; the last one's window contains today, so it is pulled live."""
LIVE = KEYS[-1]
WEEKLY = Schedule(
    [{"cycle": "weekly", "day": f"{TODAY - timedelta(days=3):%A}", "time": "00:00:00"}], buffer=timedelta(0)
)
DATASET = FoundryDataset(NAME, WEEKLY, TODAY - timedelta(days=30), SCHEMA)
OLD = csv_of(rows(3))
PREVIOUS = b"the partition's previous file"


class FaultySite(Site):
    """Runs of the asset through the proxy.

    Args:
        scene: The container and the proxy in front of it.
        directory: Where the spool and the partitions' files are.
        instance: Keeps the runs.
        dataset: The asset's dataset.
    """

    def __init__(
        self, scene: Scene, directory: Path, instance: dg.DagsterInstance, dataset: FoundryDataset = DATASET
    ) -> None:
        super().__init__(scene.container, directory, instance)
        self.scene, self._dataset = scene, dataset
        self.parquet.mkdir()

    def resources(self, **client: Any) -> dict[str, Any]:
        """The resources of a run, whose client has long limits but does not wait between its attempts."""
        arguments = {
            "host": self.scene.proxy.host,
            "port": self.scene.proxy.port,
            "open_timeout": 20.0,
            "idle_timeout": 20.0,
            "job_timeout": 40.0,
            "attempts": ATTEMPTS,
            "retry_delay": 0.01,
            "max_concurrency": 1,
            "spool_directory": str(self.spool),
            **client,
        }
        return {"foundry_container": FoundryContainerResource(**arguments), "io_manager": self.io_manager}

    def pull(self, keys: Sequence[str], **client: Any) -> dg.ExecuteInProcessResult:
        """Materialize partitions; keyword arguments are those of the container's resource."""
        return self.run(self._dataset, keys, client=client)

    def add_past_versions(self) -> None:
        """Let all partitions but the last have a small version; the last pull gets the fault that is arranged then."""
        for key in KEYS[:-1]:
            self.scene.container.add_version(NAME, datetime.fromisoformat(f"{key}T01:00:00+00:00"), OLD)
        self.scene.skip = len(KEYS) - 1

    def path(self, key: str) -> Path:
        return self.parquet / NAME / f"{key}.parquet"

    def store_previous(self) -> None:
        """Put something in the place of the last partition's file."""
        self.path(LIVE).parent.mkdir()
        self.path(LIVE).write_bytes(PREVIOUS)

    def contents(self) -> dict[Path, bytes]:
        """All files of the store, whatever they are."""
        return {path: path.read_bytes() for path in self.parquet.rglob("*") if path.is_file()}
