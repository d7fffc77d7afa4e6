"""Checks that read stored files to their end: has their content changed since it was stored?"""

# No postponed annotations here: Dagster reads those of a check's function.

from collections.abc import Sequence

import dagster as dg

from fdtcc_dagster.arguments import flag
from fdtcc_dagster.checks.results import Result, altogether, missing
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.ingest.materializations import Materializations
from fdtcc_dagster.metadata import FILE_CHECKSUM
from fdtcc_dagster.names import step_name
from fdtcc_dagster.storing import VerifiesPartitions
from fdtcc_dagster.translator import FoundryDatasetTranslator, described

FILE_INTACT = "foundry_file_intact"

_DESCRIPTION = "The files of the partitions have the checksums with which they were stored."


def build_foundry_file_checks(
    datasets: Sequence[FoundryDataset],
    *,
    translator: FoundryDatasetTranslator | None = None,
    io_manager_key: str = "io_manager",
    blocking: bool = False,
) -> list[dg.AssetChecksDefinition]:
    """Make checks that read stored partitions to their end.

    Each dataset gets the check `foundry_file_intact`. It fails as an error if the checksum of a partition's file is not
    the one with which it was stored, or not the one that the latest materialization recorded, and if the file is gone.
    So it finds each bit that has changed on the disk, and files that something else has written. A file of an earlier
    version, which has no checksum, is at least read to its end.

    In a run for partitions of the asset it reads these. In any other run it reads all stored partitions, which takes as
    long as reading that many bytes: give such a run a schedule of its own.

    Args:
        datasets: The datasets.
        translator: The translator of the assets.
        io_manager_key: The resource key of the assets' IO manager: a `FoundryParquetIOManager`, or another one that is
            a `fdtcc_dagster.storing.VerifiesPartitions`. `build_foundry_definitions` names it `foundry_io_manager`.
        blocking: Whether a failure keeps downstream assets in the same run from being materialized.

    Returns:
        The checks, one definition for each dataset, in the order of the datasets.

    Raises:
        ValueError: Two datasets have the same asset key, or an argument is not one of these.
    """
    flag("blocking", blocking)
    return [
        _build_check(dataset, spec.key, io_manager_key, blocking) for dataset, spec in described(datasets, translator)
    ]


def _build_check(
    dataset: FoundryDataset, key: dg.AssetKey, io_manager_key: str, blocking: bool
) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name=f"foundry_file_check__{step_name(key)}",
        specs=[dg.AssetCheckSpec(FILE_INTACT, asset=key, description=_DESCRIPTION, blocking=blocking)],
        required_resource_keys={io_manager_key},
    )
    def check_files(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        # Not the key from above: with a prefix before its asset's key, a check gets it, too.
        (check,) = context.selected_asset_check_keys
        materializations = Materializations(context.instance, check.asset_key, dataset)
        partitions = materializations.asked_for(context.run.tags) or materializations.ordered
        io_manager = getattr(context.resources, io_manager_key)
        results = {}
        for partition in partitions:
            result = _verify(io_manager, materializations, check.asset_key, partition)
            if result.certain and not result.passed:
                # Meanwhile, another run may have stored or recorded it.
                newer = Materializations(context.instance, check.asset_key, dataset)
                result = _verify(io_manager, newer, check.asset_key, partition)
            results[partition] = result
        result = altogether(results, f"All {len(results)} files are as they were stored.")
        return result.reported(check.asset_key, FILE_INTACT, is_error=True)

    return check_files


def _verify(io_manager: object, materializations: Materializations, key: dg.AssetKey, partition: str) -> Result:
    if partition not in materializations.stored:
        return missing(partition, "not stored")
    if not isinstance(io_manager, VerifiesPartitions):
        return missing(partition, f"{type(io_manager).__name__} cannot verify what it has stored")
    try:
        checksum = io_manager.verify_partition(key, partition)
    except FileNotFoundError:
        return Result(passed=False, text=f"{partition}: its file is gone; materialize it again")
    except (ValueError, OSError) as error:
        return Result(passed=False, text=f"{partition}: {error}; materialize it again")
    recorded = materializations.value(partition, FILE_CHECKSUM)
    if recorded not in (None, checksum):
        text = f"the file is not the one that was recorded: its checksum is {checksum}, and not {recorded}"
        return Result(passed=False, text=f"{partition}: {text}; materialize it again")
    what = "it was read to its end, and has no checksum" if checksum is None else f"its checksum is {checksum}"
    return Result(passed=True, text=f"{partition}: {what}")
