"""Which asset represents a dataset: the one that the translator names, or one that was built and may have a new key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias, get_args
from weakref import WeakKeyDictionary

import dagster as dg

from fdtcc_dagster.arguments import instance_of, members
from fdtcc_dagster.calendar.words import in_words
from fdtcc_dagster.dagster_internals import AssetLoaderTypes
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.metadata import COLUMN_SCHEMA, REFRESHES, STORAGE_KIND, TABLE_NAME, column_schema
from fdtcc_dagster.names import asset_key_of, check_asset_key

FoundryTarget: TypeAlias = FoundryDataset | AssetLoaderTypes
"""A dataset; or an asset, of whatever kind `load_assets_from_modules` finds."""

Target = tuple[FoundryDataset, dg.AssetKey]

# An asset that Dagster makes of another one, with a prefix before its key, still has the same op.
_datasets: WeakKeyDictionary[object, FoundryDataset] = WeakKeyDictionary()


class FoundryDatasetTranslator:
    """Says how a dataset appears in Dagster; subclass it to follow conventions of your own.

    Attributes:
        upstream: Whether each asset depends on an external asset `foundry/<name of the dataset>`, so that lineage
            begins in Foundry. Set it in a subclass.
    """

    upstream: bool = False

    def get_asset_spec(self, dataset: FoundryDataset) -> dg.AssetSpec:
        """Describe a dataset's asset.

        Args:
            dataset: The dataset.

        Returns:
            The spec, without partitions. Its key is the dataset's `asset_key`, or made of its name: a dot or slash
            begins a new part, letters become lower-case and are written with A to Z, and all but letters, digits and
            underscores an underscore. So "foundry.hr.monthly_closings" is `foundry/hr/monthly_closings`, and
            "Größe (raw)" is `groesse_raw`. If that leaves something out, as for "数据", eight hex digits follow.

        Raises:
            ValueError: The asset's key is that of its `upstream`.
        """
        key = dataset.asset_key or asset_key_of(dataset.name)
        upstream = [upstream_key(dataset)] if self.upstream else []
        if key in upstream:
            raise ValueError(
                f"dataset {dataset.name!r}: its asset has the key {key.to_user_string()!r} of the dataset in Foundry, "
                "its upstream asset: give it another asset_key"
            )
        what = "snapshot" if dataset.time is None else "slice"
        metadata: dict[str, Any] = {TABLE_NAME: dataset.name}
        if dataset.schedule is not None:
            metadata[REFRESHES] = in_words(dataset.schedule)
        if dataset.schema is not None:
            metadata[COLUMN_SCHEMA] = column_schema(dataset.schema, dataset.column_descriptions)
        return dg.AssetSpec(
            key=key,
            deps=upstream,
            description=dataset.description or f"The Foundry dataset {dataset.name!r}, one {what} in each partition.",
            group_name=dataset.group_name,
            owners=list(dataset.owners or ()),
            tags={STORAGE_KIND: "parquet", **(dataset.tags or {})},
            kinds={"foundry", "parquet"},
            metadata=metadata,
        )


def upstream_specs(
    datasets: Iterable[FoundryDataset], translator: FoundryDatasetTranslator, taken: Iterable[dg.AssetKey]
) -> list[dg.AssetSpec]:
    """Describe the external assets in which lineage begins; Dagster's UI shows none that is only depended on.

    They say nothing that differs between assets of one dataset: definitions are merged only if their specs are equal.
    """
    assets = set(taken)
    specs = {
        key: dg.AssetSpec(
            key,
            description=f"The dataset {dataset.name!r} in Foundry.",
            group_name="foundry",
            kinds={"foundry"},
        )
        for dataset in (datasets if translator.upstream else ())
        if (key := upstream_key(dataset)) not in assets
    }
    return list(specs.values())


def upstream_key(dataset: FoundryDataset) -> dg.AssetKey:
    """The key of the external asset that is a dataset in Foundry."""
    return dg.AssetKey(["foundry", dataset.name])


def remember(asset: dg.AssetsDefinition, dataset: FoundryDataset) -> None:
    """Note which dataset an asset represents, whatever key it gets later."""
    _datasets[asset.node_def] = dataset


def described(
    datasets: object, translator: FoundryDatasetTranslator | None
) -> list[tuple[FoundryDataset, dg.AssetSpec]]:
    """Find the specs of the datasets' assets.

    Raises:
        ValueError: Something is no dataset, two have the same asset key, or a part of a key cannot be a file's name.
    """
    translator = checked_translator(translator)
    found = []
    for number, dataset in enumerate(members("datasets", datasets, "FoundryDataset")):
        _check_dataset(number, dataset)
        found.append((dataset, translator.get_asset_spec(dataset)))
    check_distinct_keys((dataset, check_asset_key(spec.key)) for dataset, spec in found)
    return found


def _check_dataset(number: int, value: object, kinds: type | tuple[type, ...] = FoundryDataset) -> None:
    """Check that a member of a list of datasets is one."""
    name = f"datasets[{number}]"
    if isinstance(value, str):
        raise ValueError(f"{name}={value!r} is no FoundryDataset: give FoundryDataset({value!r}, schedule, start)")
    if isinstance(value, Mapping):
        raise ValueError(f"{name} is a dictionary, and no FoundryDataset: give FoundryDataset(**it)")
    instance_of(name, value, kinds, "FoundryDataset")


def checked_translator(translator: FoundryDatasetTranslator | None) -> FoundryDatasetTranslator:
    """The translator, or the default one; refuses what is not a translator, such as a class."""
    if translator is None:
        return FoundryDatasetTranslator()
    instance_of("translator", translator, FoundryDatasetTranslator, "FoundryDatasetTranslator")
    return translator


def targets_of(targets: Iterable[FoundryTarget], translator: FoundryDatasetTranslator | None) -> list[Target]:
    """Find the datasets and the keys of their assets; assets that `build_foundry_assets` did not make are left out.

    Raises:
        ValueError: Something is neither; there are assets, but none of `build_foundry_assets`; or a part of a key
            cannot be a file's name.
    """
    translator = checked_translator(translator)
    given = members("datasets", targets, "FoundryDataset")
    found = []
    for number, target in enumerate(given):
        _check_dataset(number, target, (FoundryDataset, *get_args(AssetLoaderTypes)))
        if isinstance(target, FoundryDataset):
            found.append((target, check_asset_key(translator.get_asset_spec(target).key)))
        elif isinstance(target, dg.AssetsDefinition) and (dataset := dataset_of(target)) is not None:
            found.append((dataset, check_asset_key(target.key)))
    if given and not found:
        raise ValueError("none of these is a FoundryDataset or an asset that build_foundry_assets has made")
    return found


def check_distinct_keys(targets: Iterable[Target]) -> None:
    """Make sure that no two datasets are represented by one asset.

    Raises:
        ValueError: Two have the same asset key.
    """
    names: dict[dg.AssetKey, str] = {}
    for dataset, key in targets:
        if key in names:
            if names[key] == dataset.name:
                raise ValueError(
                    f"the dataset {dataset.name!r} is declared twice with the asset key {key.to_user_string()!r}: "
                    "leave one of them out, or give it another asset_key"
                )
            raise ValueError(
                f"the datasets {names[key]!r} and {dataset.name!r} have the same asset key "
                f"{key.to_user_string()!r}: give one of them another asset_key"
            )
        names[key] = dataset.name


def check_assets_exist(repository: dg.RepositoryDefinition | None, targets: Iterable[Target]) -> None:
    """Check that the code location has assets with the keys that a sensor or check was built with.

    Raises:
        dagster.DagsterInvalidDefinitionError: A dataset's asset has another key.
    """
    if repository is None:
        return
    keys = {dataset_of(asset): key for key, asset in repository.assets_defs_by_key.items()}
    for dataset, key in targets:
        if key not in repository.assets_defs_by_key and (present := keys.get(dataset)) is not None:
            raise dg.DagsterInvalidDefinitionError(
                f"dataset {dataset.name!r}: there is no asset {key.to_user_string()!r}; its asset got the key "
                f"{present.to_user_string()!r} after it was built. Give the assets instead of the datasets to "
                "build_foundry_checks, build_foundry_schedules and build_foundry_sensor"
            )


def dataset_of(asset: dg.AssetsDefinition) -> FoundryDataset | None:
    """The dataset of an asset that `build_foundry_assets` has made; None for another asset."""
    return _datasets.get(asset.node_def) if asset.is_executable else None
