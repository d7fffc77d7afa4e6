"""The client of the Foundry DevTools Container. It knows nothing of Dagster."""

from fdtcc_dagster.client.client import FDTCC, FoundryDevToolsContainerClient
from fdtcc_dagster.client.snapshot import Snapshot
from fdtcc_dagster.window import Window

__all__ = ["FDTCC", "FoundryDevToolsContainerClient", "Snapshot", "Window"]
