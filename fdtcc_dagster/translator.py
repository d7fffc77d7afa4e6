"""From a dataset to the asset that represents it in Dagster."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import dagster as dg

from fdtcc_dagster.metadata import column_schema

if TYPE_CHECKING:
    from fdtcc_dagster.dataset import FoundryDataset


_PLAIN_PART = re.compile("[A-Za-z0-9]+(_[A-Za-z0-9]+)*")


class FoundryDatasetTranslator:
    """Says how a dataset appears in Dagster; subclass it to follow conventions of your own."""

    def get_asset_spec(self, dataset: FoundryDataset) -> dg.AssetSpec:
        """Describe a dataset's asset.

        Args:
            dataset: The dataset.

        Returns:
            The spec, without partitions. Its key is the dataset's `asset_key`, or made of its name: a dot or slash
            begins a new part, letters become lower-case, and all but letters, digits and underscores an underscore.
            So "foundry.hr.monthly_closings" is `foundry/hr/monthly_closings`, and "Customer Demographics" is
            `customer_demographics`.

        Raises:
            ValueError: A part of the name has no letter or digit that a key could be made of, or the name has letters
                other than A to Z.
        """
        return dg.AssetSpec(
            key=dataset.asset_key or dg.AssetKey(_key_parts(dataset.name)),
            description=dataset.description or f"The Foundry dataset {dataset.name!r}, one snapshot for each refresh.",
            group_name=dataset.group_name,
            owners=list(dataset.owners or ()),
            tags=dict(dataset.tags or {}),
            kinds={"foundry", "polars"},
            metadata={"dagster/column_schema": column_schema(dataset.schema)} if dataset.schema else None,
        )


def _key_parts(name: str) -> list[str]:
    if any(letter.isalnum() and not letter.isascii() for letter in name):
        raise ValueError(f"the dataset's name {name!r} has letters that an asset key cannot have: give it an asset_key")
    parts = [re.sub(r"[^A-Za-z0-9_]+", "_", part).strip("_").lower() for part in re.split(r"[./]", name)]
    if not all(parts):
        raise ValueError(f"no asset key can be made of the dataset's name {name!r}: give it an asset_key")
    return parts


def step_name(key: dg.AssetKey) -> str:
    """Name the step of an asset.

    Args:
        key: The asset's key.

    Returns:
        `sales__orders` for `sales/orders`; with eight more hex digits where another key would have the same name, as
        `sales__orders` itself.
    """
    name = re.sub(r"[^A-Za-z0-9_]", "_", "__".join(key.path))
    if all(_PLAIN_PART.fullmatch(part) for part in key.path):
        return name
    return f"{name}_{hashlib.sha256(key.to_string().encode()).hexdigest()[:8]}"
