"""Datasets declared in YAML: the components of this package for `dg`."""

from fdtcc_dagster.components.foundry_datasets import FoundryDatasetsComponent

__all__ = ["FoundryDatasetsComponent"]
