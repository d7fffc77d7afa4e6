"""The code location: what `workspace.yaml` loads. Loading it reads no data and starts no container."""

from __future__ import annotations

from fdtcc_dagster.definitions import build_foundry_definitions
from fdtcc_dagster.demo.container import SandboxContainerResource
from fdtcc_dagster.demo.datasets import demo_datasets, demo_slices

datasets = demo_datasets()
slices = demo_slices()
defs = build_foundry_definitions([*datasets, slices], resource=SandboxContainerResource())
