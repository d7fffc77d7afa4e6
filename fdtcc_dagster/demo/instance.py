"""The demo's own Dagster instance, which `make demo` and `make dev` share."""

from __future__ import annotations

import os
from pathlib import Path

from fdtcc_dagster.demo.container import demo_home

_SETTINGS = """\
# Written by the demo. Runs, events and the Parquet files of this instance are in this directory.
telemetry:
  enabled: false
nux:
  enabled: false
"""


def use_demo_instance() -> Path:
    """Make the demo's instance that of this process and its children; its settings send nothing to anybody.

    Returns:
        Its directory, `dagster` in the demo's.
    """
    home = demo_home() / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    if not settings.exists():
        settings.write_text(_SETTINGS, encoding="utf-8")
    os.environ["DAGSTER_HOME"] = str(home)
    return home
