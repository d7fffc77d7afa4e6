"""The tags by which Dagster tells a stale partition from a fresh one."""

from __future__ import annotations

import dagster as dg

_NOTHING = "NULL"
_UNVERSIONED = "INITIAL"


def version_tags(context: dg.AssetExecutionContext, asset_key: dg.AssetKey, data_version: str) -> dict[str, str]:
    """Make the tags of a materialization that a step records itself; without them, a partition would be fresh for ever.

    Returns:
        The partition's data version, the asset's code version, and the data versions of the assets that it depends on:
        with a code version alone, Dagster would take each of them for a new dependency.
    """
    spec = context.assets_def.specs_by_key[asset_key]
    tags = {
        "dagster/data_version": data_version,
        "dagster/data_version_is_user_provided": "true",
        "dagster/code_version": spec.code_version or context.run.run_id,
    }
    step = context.get_step_execution_context()
    for dependency in spec.deps:
        name = dependency.asset_key.to_user_string()
        # Read once in a step, and for Dagster's own outputs just so.
        version = step.maybe_fetch_and_get_input_asset_version_info(dependency.asset_key)
        data = None if version is None else version.data_version
        tags[f"dagster/input_data_version/{name}"] = _UNVERSIONED if data is None else data.value
        tags[f"dagster/input_event_pointer/{name}"] = _NOTHING if version is None else str(version.storage_id)
    return tags
