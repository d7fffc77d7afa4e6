"""Runs of datasets' assets: a container, Dagster, a store and a spool, which most tests of runs share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from fdtcc_dagster import FoundryContainerResource, FoundryDataset, FoundryParquetIOManager, build_foundry_assets
from fdtcc_dagster.sandbox import SandboxContainer


class Site:
    """A container, an instance, and a directory for what runs store.

    Args:
        container: The container; its client makes one attempt.
        directory: An empty directory.
        instance: Keeps the runs.
    """

    def __init__(self, container: SandboxContainer, directory: Path, instance: dg.DagsterInstance) -> None:
        self.container, self.instance = container, instance
        self.parquet, self.spool = directory / "parquet", directory / "spool"
        self.spool.mkdir()
        self._folder = self.parquet
        self.io_manager: Any = FoundryParquetIOManager(base_dir=str(self.parquet))

    def resources(self, **client: Any) -> dict[str, Any]:
        """The resources of a run; keyword arguments are those of the container's resource."""
        address = {"host": self.container.host, "port": self.container.port}
        arguments = {**address, "attempts": 1, "spool_directory": str(self.spool), **client}
        return {"foundry_container": FoundryContainerResource(**arguments), "io_manager": self.io_manager}

    def run(
        self,
        dataset: FoundryDataset,
        keys: str | Sequence[str],
        *others: dg.AssetsDefinition | dg.AssetChecksDefinition,
        config: Mapping[str, Any] | None = None,
        client: dict[str, Any] | None = None,
        **arguments: Any,
    ) -> dg.ExecuteInProcessResult:
        """Materialize a partition or a range of them, and see to it that the spool is empty afterwards.

        Args:
            dataset: The dataset.
            keys: Its partition, or the partitions of a range.
            others: Assets and checks of the same run.
            config: The run's configuration.
            client: Arguments of the container's resource.
            **arguments: Arguments of `build_foundry_assets`; there are no retries by default.
        """
        (asset,) = build_foundry_assets([dataset], **{"retry_policy": None, **arguments})
        self._folder = self.parquet.joinpath(*asset.key.path)
        result = dg.materialize(
            [asset, *others],
            resources=self.resources(**client or {}),
            instance=self.instance,
            run_config=config,
            raise_on_error=False,
            **partitions(keys),
        )
        assert list(self.spool.iterdir()) == []
        return result

    def file(self, key: str) -> Path:
        """The file of a partition of the asset that was materialized last."""
        return self._folder / f"{key}.parquet"

    def stored(self, key: str) -> pl.DataFrame:
        """The rows of a partition's file."""
        return pl.read_parquet(self.file(key))

    def stored_keys(self) -> list[str]:
        """The partitions that have a file."""
        return sorted(path.stem for path in self.parquet.rglob("*.parquet"))

    def files(self) -> dict[str, tuple[int, int]]:
        """Partition → what tells its file from one that has replaced it."""
        stats = {path.stem: path.stat() for path in self.parquet.rglob("*.parquet")}
        return {key: (stat.st_ino, stat.st_mtime_ns) for key, stat in stats.items()}

    @property
    def downloads(self) -> int:
        """How many downloads the container has answered."""
        return sum(self.container.downloads.values())


def partitions(keys: str | Sequence[str]) -> dict[str, Any]:
    """What has a run materialize one partition, or the range of several."""
    if isinstance(keys, str):
        return {"partition_key": keys}
    if len(keys) == 1:
        return {"partition_key": keys[0]}
    return {"tags": {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}}


def refetch(name: str) -> dict[str, Any]:
    """The configuration of a run that pulls a dataset's partitions although they are stored."""
    return {"ops": {name: {"config": {"refetch": True}}}}


def materializations(result: dg.ExecuteInProcessResult, asset: str | None = None) -> dict[str, dg.AssetMaterialization]:
    """Partition → what a run has recorded of it, for the asset of a name or the only one; in the order of the keys."""
    found = [event.step_materialization_data.materialization for event in result.get_asset_materialization_events()]
    ours = [each for each in found if asset is None or each.asset_key.to_user_string() == asset]
    assert len({each.partition for each in ours}) == len(ours), "a partition was recorded twice"
    return {str(each.partition): each for each in sorted(ours, key=lambda each: str(each.partition))}


def step_failure(result: dg.ExecuteInProcessResult) -> Any:
    """What Dagster keeps of the one step of a run that has failed."""
    assert not result.success
    (event,) = [event for event in result.all_events if event.is_step_failure]
    return event.step_failure_data


def failure_of(result: dg.ExecuteInProcessResult) -> str:
    """What a user reads of a failed run: the errors of its step, down to the cause."""
    data = step_failure(result)
    texts, error = [], data.error
    while error is not None:
        texts.append(error.message)
        error = error.cause
    text = "\n".join(texts)
    said = data.user_failure_data.description if data.user_failure_data else None
    return text if not said or said in text else f"{text}\n{said}"
