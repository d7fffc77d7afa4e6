"""All parts of Dagster that this package uses and that are not public, and why there is no other way.

No other module imports from `dagster._core`, `dagster._utils` or `dagster._config`; Ruff checks that (TID251).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import dagster as dg

# `ConfigurableResource.configure_at_launch` and similar functions return these, and a run's resources may be such.
from dagster._config.pythonic_config.io_manager import (
    ConfigurableIOManagerFactory,
    ConfigurableIOManagerFactoryResourceDefinition,
)
from dagster._config.pythonic_config.resource import ConfigurableResourceFactoryResourceDefinition, PartialResource

# `&` makes the first, and evaluations keep the others: `AllOf` writes less of them.
from dagster._core.definitions.declarative_automation.operators import AndAutomationCondition
from dagster._core.definitions.declarative_automation.serialized_objects import (
    AutomationConditionEvaluation,
    AutomationConditionNodeCursor,
)

# What `load_assets_from_modules` returns.
from dagster._core.definitions.module_loaders.load_assets_from_modules import AssetLoaderTypes

# What the public `PartitionMapping` takes and returns, and what the public partitions definitions are given.
from dagster._core.definitions.partitions.mapping import UpstreamPartitionsResult
from dagster._core.definitions.partitions.subset import (
    AllPartitionsSubset,
    DefaultPartitionsSubset,
    PartitionsSubset,
    TimeWindowPartitionsSubset,
)
from dagster._core.definitions.partitions.utils.time_window import PersistedTimeWindow

# Reserved words, which cannot be names of ops, inputs and outputs, and so not of an asset's step.
from dagster._core.definitions.utils import DISALLOWED_NAMES

# An interrupt of a run: public code can only catch every `BaseException`.
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

# The statuses that the public `RunsFilter` is given, which new versions may add to.
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._utils import interrupts

# What the public `repository_def` of a context raises where there is none.
from dagster_shared.check import CheckError
from dagster_shared.serdes.serdes import _WHITELIST_MAP

__all__ = [
    "DISALLOWED_NAMES",
    "EVENTS_ARE_LOGGED",
    "NOT_FINISHED_STATUSES",
    "AllPartitionsSubset",
    "AndAutomationCondition",
    "AssetLoaderTypes",
    "AutomationConditionEvaluation",
    "AutomationConditionNodeCursor",
    "CheckError",
    "ConfigurableIOManagerFactory",
    "ConfigurableIOManagerFactoryResourceDefinition",
    "ConfigurableResourceFactoryResourceDefinition",
    "DagsterExecutionInterruptedError",
    "DefaultPartitionsSubset",
    "PartialResource",
    "PartitionsSubset",
    "PersistedTimeWindow",
    "TimeWindowPartitionsSubset",
    "UpstreamPartitionsResult",
    "check_nodes",
    "last_passed",
    "latest_materializations",
    "note_interrupt",
    "retry_policy_of",
    "schedule_started",
    "sent_as_its_base",
    "version_tags",
]

_T = TypeVar("_T")

EVENTS_ARE_LOGGED = "__source_asset_observation__"
"""The key in an output's metadata by which Dagster's converted source assets say that their events are logged already.
"""

_NOTHING = "NULL"
_UNVERSIONED = "INITIAL"


def note_interrupt() -> None:
    """Let Dagster end the run before its next step, although this step ends with a plain failure."""
    interrupts._received_interrupt["received"] = True


def retry_policy_of(context: dg.AssetExecutionContext | dg.OutputContext) -> dg.RetryPolicy | None:
    """The retry policy of a step, which may also be that of its job."""
    step: Any = context.step_context if isinstance(context, dg.OutputContext) else context.get_step_execution_context()
    policy: dg.RetryPolicy | None = step.op_retry_policy
    return policy


def sent_as_its_base(cls: type[_T]) -> type[_T]:
    """Let Dagster serialize a class as its base class, for processes that do not know it."""
    base = cls.__mro__[1]
    _WHITELIST_MAP.object_serializers[cls.__name__] = _WHITELIST_MAP.object_serializers[base.__name__]
    return cls


def latest_materializations(
    instance: dg.DagsterInstance, asset_key: dg.AssetKey, partitions: set[str] | None
) -> Mapping[str, int]:
    """The storage id of each partition's latest materialization, by the query of Dagster's UI.

    Public functions would read every materialization that ever was.
    """
    materialization = dg.DagsterEventType.ASSET_MATERIALIZATION
    return instance.event_log_storage.get_latest_storage_id_by_partition(asset_key, materialization, partitions)


def last_passed(instance: dg.DagsterInstance, check: dg.AssetCheckKey) -> dg.AssetCheckEvaluation | None:
    """The latest evaluation of a check that passed, by the query of Dagster's UI; there is no public one."""
    history = instance.event_log_storage.get_asset_check_execution_history(
        check, limit=1, status={AssetCheckExecutionRecordStatus.SUCCEEDED}
    )
    event = history[0].event.dagster_event if history and history[0].event else None
    return None if event is None else event.asset_check_evaluation_data


def check_nodes(context: dg.AssetExecutionContext) -> Mapping[dg.AssetCheckKey, object]:
    """The checks of a step's asset in the same run, with the node of each: no public way leads from one to another."""
    graph = context.job_def.asset_layer.asset_graph
    mine = (check for check in graph.asset_check_keys if check.asset_key == context.asset_key)
    return {check: graph.assets_def_for_key(check).node_def for check in mine}


def version_tags(context: dg.AssetExecutionContext, asset_key: dg.AssetKey, data_version: str) -> dict[str, str]:
    """Make the tags of a materialization that a step records itself; without them, a partition would never be stale.

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
        # Dagster reads it once in a step, and in the same way for its own outputs.
        version = step.maybe_fetch_and_get_input_asset_version_info(dependency.asset_key)
        data = None if version is None else version.data_version
        tags[f"dagster/input_data_version/{name}"] = _UNVERSIONED if data is None else data.value
        tags[f"dagster/input_event_pointer/{name}"] = _NOTHING if version is None else str(version.storage_id)
    return tags


def schedule_started(instance: dg.DagsterInstance, name: str) -> Sequence[float]:
    """The timestamps at which the running schedules of a name were switched on."""
    # Here, because importing it takes long, and loading a code location does not need it.
    from dagster._core.definitions.run_request import InstigatorType
    from dagster._core.scheduler.instigation import ScheduleInstigatorData

    states = instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)
    running = [state.instigator_data for state in states if state.instigator_name == name and state.is_running]
    started = [data.start_timestamp for data in running if isinstance(data, ScheduleInstigatorData)]
    return [instant for instant in started if instant]
