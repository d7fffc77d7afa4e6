"""The component that declares Foundry datasets."""

from fdtcc_dagster.components.foundry_datasets.component import FoundryDatasetsComponent

__all__ = ["FoundryDatasetsComponent"]
