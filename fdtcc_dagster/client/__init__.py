"""The client of the Foundry DevTools Container: a conversation, then a verified download.

It knows nothing of Dagster, and parses CSV by `pandas_csv` only. Besides that it imports the ground floor: `errors`,
`window`, `redaction`, `evidence`, `background`.
"""

from fdtcc_dagster.client.callbacks import PullObserver
from fdtcc_dagster.client.check import ContainerCheck
from fdtcc_dagster.client.client import FDTCC, FoundryDevToolsContainerClient
from fdtcc_dagster.client.snapshot import Snapshot
from fdtcc_dagster.window import Window

__all__ = ["FDTCC", "ContainerCheck", "FoundryDevToolsContainerClient", "PullObserver", "Snapshot", "Window"]
