"""Each dataset as a partitioned asset."""

# No postponed annotations here: Dagster reads those of an asset's function.

import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone

import dagster as dg
import polars as pl

from fdtcc_dagster.client import Snapshot
from fdtcc_dagster.client.protocol import Message
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.metadata import snapshot_metadata
from fdtcc_dagster.resource import FoundryContainerResource
from fdtcc_dagster.translator import FoundryDatasetTranslator


def build_foundry_assets(
    datasets: Sequence[FoundryDataset],
    *,
    translator: FoundryDatasetTranslator | None = None,
    io_manager_key: str = "io_manager",
) -> list[dg.AssetsDefinition]:
    """Make an asset of each dataset.

    A partition of such an asset is a refresh of the dataset: materializing it pulls the snapshot of the partition's
    window from the container, verifies it, and hands the rows to the IO manager as a `polars.LazyFrame`. Its
    `DataVersion` is the snapshot's SHA-256.

    Args:
        datasets: The datasets. The assets need the resource `foundry_container`.
        translator: Gives the assets' keys, groups, tags and so on.
        io_manager_key: The resource key of an IO manager that stores LazyFrames, such as `FoundryParquetIOManager`.

    Returns:
        The assets, in the order of the datasets.

    Raises:
        ValueError: Two datasets have the same asset key.
    """
    translator = translator or FoundryDatasetTranslator()
    names: dict[dg.AssetKey, str] = {}
    assets = []
    for dataset in datasets:
        spec = translator.get_asset_spec(dataset)
        if spec.key in names:
            raise ValueError(
                f"the datasets {names[spec.key]!r} and {dataset.name!r} have the same asset key "
                f"{spec.key.to_user_string()!r}: give one of them another asset_key"
            )
        names[spec.key] = dataset.name
        assets.append(_build_asset(dataset, spec, io_manager_key))
    return assets


def _build_asset(dataset: FoundryDataset, spec: dg.AssetSpec, io_manager_key: str) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name="__".join(spec.key.path),
        outs={
            "result": dg.AssetOut.from_spec(
                spec.replace_attributes(deps=[]), dagster_type=pl.LazyFrame, io_manager_key=io_manager_key
            )
        },
        deps=list(spec.deps),
        partitions_def=dataset.partitions_def,
    )
    def pull_snapshot(
        context: dg.AssetExecutionContext, foundry_container: FoundryContainerResource
    ) -> Iterator[dg.Output[pl.LazyFrame]]:
        now = datetime.now(timezone.utc)
        window = dataset.window(context.partition_key, now)
        context.log.info(f"Pulling {dataset.name!r}, window {window}")
        # The IO manager reads the spooled CSV after the yield, and this function goes on when it has stored the rows.
        with foundry_container.spool() as directory:
            snapshot = foundry_container.pull(
                dataset.name,
                window,
                directory=directory,
                on_message=_log_to(context),
                missing_version=dataset.missing_version,
                now=now,
            )
            rows = snapshot.scan(dataset.schema)
            yield _output(rows, snapshot, now)

    return pull_snapshot


def _output(rows: pl.LazyFrame, snapshot: Snapshot, now: datetime) -> dg.Output[pl.LazyFrame]:
    with warnings.catch_warnings():
        # Data versions of outputs are marked as beta, which is nothing that a reader of the run's log could act on.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.Output(
            rows,
            metadata=snapshot_metadata(snapshot, rows.collect_schema(), now),
            data_version=dg.DataVersion(snapshot.sha256),
        )


def _log_to(context: dg.AssetExecutionContext) -> Callable[[Message], None]:
    def log(message: Message) -> None:
        kind, text = message.get("type"), f"container: {message.get('message')}"
        if kind == "keepalive":
            context.log.debug(text)
        elif message.get("success") is False and kind != "neutral":
            context.log.warning(text)
        else:
            context.log.info(text)

    return log
