"""The translator: from a dataset to the asset that represents it in Dagster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from fdtcc_dagster.metadata import COLUMN_SCHEMA, column_schema
from fdtcc_dagster.names import asset_key_of

if TYPE_CHECKING:
    from fdtcc_dagster.dataset import FoundryDataset


class FoundryDatasetTranslator:
    """Says how a dataset appears in Dagster; subclass it to follow conventions of your own."""

    def get_asset_spec(self, dataset: FoundryDataset) -> dg.AssetSpec:
        """Describe a dataset's asset.

        Args:
            dataset: The dataset.

        Returns:
            The spec, without partitions. Its key is the dataset's `asset_key`, or made of its name: a dot or slash
            begins a new part, letters become lower-case and are written with A to Z, and all but letters, digits and
            underscores an underscore. So "foundry.hr.monthly_closings" is `foundry/hr/monthly_closings`, and
            "Größe (raw)" is `groesse_raw`. If that leaves something out, as for "数据", eight hex digits follow.
        """
        return dg.AssetSpec(
            key=dataset.asset_key or asset_key_of(dataset.name),
            description=dataset.description or f"The Foundry dataset {dataset.name!r}, one snapshot for each refresh.",
            group_name=dataset.group_name,
            owners=list(dataset.owners or ()),
            tags=dict(dataset.tags or {}),
            kinds={"foundry", "polars"},
            metadata={COLUMN_SCHEMA: column_schema(dataset.schema)} if dataset.schema else None,
        )
