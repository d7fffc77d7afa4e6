"""The client of the Foundry DevTools Container: a conversation, then a verified download.

It knows nothing of Dagster, and parses no CSV but in `Snapshot.scan`. It imports `pandas_csv` and the ground floor:
`errors`, `window`, `redaction`, `evidence`, `interrupts`.
"""

from fdtcc_dagster.client.callbacks import PullObserver
from fdtcc_dagster.client.client import FDTCC, FoundryDevToolsContainerClient
from fdtcc_dagster.client.snapshot import Snapshot
from fdtcc_dagster.window import Window

__all__ = ["FDTCC", "FoundryDevToolsContainerClient", "PullObserver", "Snapshot", "Window"]
