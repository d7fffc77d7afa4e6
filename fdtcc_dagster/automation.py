"""Declarative automation and freshness, derived from a dataset's calendar."""

from __future__ import annotations

import datetime as dt
import logging
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

import dagster as dg

from fdtcc_dagster.arguments import instance_of, members, whole_number
from fdtcc_dagster.calendar.schedule import Schedule
from fdtcc_dagster.calendar.ticks import exact_cron, waits
from fdtcc_dagster.dagster_internals import (
    AndAutomationCondition,
    AutomationConditionEvaluation,
    AutomationConditionNodeCursor,
    DefaultPartitionsSubset,
    TimeWindowPartitionsSubset,
)
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.due import newest_due
from fdtcc_dagster.redaction import shortened
from fdtcc_dagster.translator import (
    FoundryDatasetTranslator,
    FoundryTarget,
    checked_translator,
    targets_of,
)

logger = logging.getLogger(__name__)

_ONE_MINUTE = dt.timedelta(minutes=1)
_ASSETS_OF_A_SENSOR = 500  # Dagster's limit
_MOST_KEYS = 500
"""Beyond them, windows are shorter than keys."""
_T = TypeVar("_T")


class RefreshBecameAvailable(dg.AutomationCondition[dg.AssetKey]):
    """True for the partitions of a dataset whose refresh became available since the previous evaluation.

    It asks the calendar itself. Conditions made of crons cannot do that: a cron may tick on other days than the
    calendar, and at its tick Dagster's latest time window may already be that of a key whose refresh is not available
    yet.
    """

    def __init__(self, dataset: FoundryDataset, max_catchup: int = 5) -> None:
        """Make the condition of a dataset.

        Args:
            dataset: The dataset.
            max_catchup: How many partitions may become due in one evaluation; the newest count.

        Raises:
            ValueError: An argument is not valid.
        """
        instance_of("dataset", dataset, FoundryDataset, "FoundryDataset")
        whole_number("max_catchup", max_catchup, 0)
        self.dataset = dataset
        self.max_catchup = max_catchup

    @property
    def name(self) -> str:
        """What the UI calls the condition."""
        return "foundry_refresh_became_available"

    @property
    def description(self) -> str:
        """What the UI says about the condition."""
        return f"A refresh of the Foundry dataset {self.dataset.name!r} became available since the last evaluation"

    @property
    def requires_cursor(self) -> bool:
        """That nothing of it is kept between evaluations: Dagster would write down whole calendars each time."""
        return False

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Ask the calendar.

        Args:
            context: The evaluation, with its time and that of the previous one.

        Returns:
            The partitions; none at the first evaluation, when there is no "since".
        """
        since = context.previous_evaluation_time
        if since is None or context.candidate_subset.is_empty:
            return dg.AutomationResult(context, context.get_empty_subset())
        dues = newest_due(self.dataset, context.evaluation_time, self.max_catchup, after=since)
        keys = {due.partition_key for due in dues}
        return dg.AutomationResult(context, context.candidate_subset.compute_intersection_with_partition_keys(keys))


class AllOf(AndAutomationCondition[dg.AssetKey]):
    """`&`, whose results are kept and reported as keys: without the calendar in each set of partitions.

    Dagster writes a set of time windows together with its whole definition, and an evaluation has a dozen sets. If no
    cron can say a calendar, its definition takes 50 kB or more, because it names each excluded tick; 165 such assets
    were more than gRPC takes in one answer. Here a set is written as its keys, which are few, and which Dagster accepts
    instead. See ADR 25. No other class overrides parts of Dagster's conditions that are not public.
    """

    async def evaluate(  # type: ignore[override]  # as Dagster's own, which is async
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """Evaluate the operands: the partitions for which all of them are true."""
        result = await super().evaluate(context)
        keys = result.true_subset.expensively_compute_partition_keys()
        # What is requested is a set of windows again, as Dagster's backfills know them.
        true = context.get_empty_subset() if not keys else _windows(context, keys)
        return _Result(context, true, child_results=result.child_results)

    def __and__(self, other: Any) -> AllOf:
        """Combine it with another condition, and still keep keys."""
        return AllOf(operands=[self, other])


class _Result(dg.AutomationResult[dg.AssetKey]):
    @cached_property
    def serializable_evaluation(self) -> AutomationConditionEvaluation[dg.AssetKey]:
        return _evaluation_in_keys(super().serializable_evaluation)

    def get_child_node_cursors(self) -> Mapping[str, AutomationConditionNodeCursor[dg.AssetKey]]:
        return {name: _in_keys(cursor) for name, cursor in super().get_child_node_cursors().items()}


def _windows(context: dg.AutomationContext[dg.AssetKey], keys: Any) -> Any:
    return context.asset_graph_view.get_full_subset(key=context.key).compute_intersection_with_partition_keys(keys)


def _evaluation_in_keys(evaluation: AutomationConditionEvaluation[Any]) -> AutomationConditionEvaluation[Any]:
    children = [_evaluation_in_keys(child) for child in evaluation.child_evaluations]
    return replace(_in_keys(evaluation), child_evaluations=children)


def _in_keys(state: _T) -> _T:
    """An evaluation or a cursor, with keys instead of windows that need a long definition."""
    sets = {name: getattr(state, name) for name in ("true_subset", "candidate_subset")}
    short = {
        name: replace(each, value=DefaultPartitionsSubset(set(each.value.get_partition_keys())))
        for name, each in sets.items()
        if _is_long(getattr(each, "value", None))
    }
    return replace(state, **short)  # type: ignore[type-var]  # both are dataclasses


def _is_long(value: object) -> bool:
    return (
        isinstance(value, TimeWindowPartitionsSubset)
        and bool(value.partitions_def.exclusions)
        and len(value) <= _MOST_KEYS
    )


def foundry_automation_condition(
    dataset: FoundryDataset, *, max_catchup: int = 5
) -> dg.AutomationCondition[dg.AssetKey]:
    """A condition that requests each partition of a dataset as soon as its data may be pulled.

    It does what the dataset's schedule does, within Dagster's declarative automation. A partition is requested once for
    each refresh, never before its window has begun, and again for a second refresh on the same date. A partition that a
    run or a backfill is working on waits until that has ended. A daemon that was down catches up, by the same number of
    partitions.

    Dagster has to evaluate it where this package is installed, which is in the code location: by the sensors of
    `build_foundry_automation_sensors`, and not by the default one.

    Args:
        dataset: The dataset.
        max_catchup: How many partitions may become due in one evaluation; the newest count.

    Returns:
        The condition. Like Dagster's `on_cron`, it requests nothing that was available before its first evaluation.

    Raises:
        ValueError: An argument is not valid.
    """
    # Nothing is due at the first evaluation, so unlike `on_cron` it needs no `initial_evaluation`, which is true for
    # all partitions: of hard calendars Dagster would count them one by one, for seconds.
    due = RefreshBecameAvailable(dataset, max_catchup).since(dg.AutomationCondition.newly_requested())
    # The label keeps it together where it is combined with other conditions.
    idle: Any = ~dg.AutomationCondition.in_progress()
    return AllOf(operands=[due, idle], label="foundry_refresh_is_requested")


def build_foundry_automation_sensors(
    datasets: Iterable[FoundryTarget],
    *,
    translator: FoundryDatasetTranslator | None = None,
    name: str = "foundry_automation",
    minimum_interval_seconds: int = 30,
    default_status: dg.DefaultSensorStatus = dg.DefaultSensorStatus.STOPPED,
) -> list[dg.AutomationConditionSensorDefinition]:
    """Make the sensors that evaluate the conditions of `foundry_automation_condition`, in the code location.

    Args:
        datasets: The datasets whose assets have such a condition, or these assets. Give the assets if they got other
            keys after they were built.
        translator: Says which asset represents a dataset, if datasets are given.
        name: The sensor's name; from the second one on with `_2` and so on. Dagster limits one to 500 assets.
        minimum_interval_seconds: The seconds between two evaluations.
        default_status: Whether the sensors are on before somebody switches them.

    Returns:
        The sensors: one for up to 500 datasets. Several partitions of an asset that are due at once become one
        backfill. A warning names conditions that are evaluated slowly, because `foundry_automation_condition` is not
        the left-most operand of their `&`.
    """
    datasets = members("datasets", datasets, "FoundryDataset")
    keys = [key for _, key in targets_of(datasets, translator)]
    _warn_of_long(datasets, checked_translator(translator))
    sensors = []
    with warnings.catch_warnings():
        # Evaluation in the code location is marked as beta, which no user of this function could act on.
        warnings.simplefilter("ignore", dg.BetaWarning)
        for number, first in enumerate(range(0, len(keys), _ASSETS_OF_A_SENSOR), 1):
            sensors.append(
                dg.AutomationConditionSensorDefinition(
                    name if number == 1 else f"{name}_{number}",
                    target=dg.AssetSelection.assets(*keys[first : first + _ASSETS_OF_A_SENSOR]),
                    minimum_interval_seconds=minimum_interval_seconds,
                    default_status=default_status,
                    description="Requests partitions of Foundry datasets when their data may be pulled.",
                    use_user_code_server=True,
                )
            )
    return sensors


def _warn_of_long(targets: Iterable[FoundryTarget], translator: FoundryDatasetTranslator) -> None:
    """Warn about assets of hard calendars whose conditions contain ours, but do not begin with it."""
    specs: list[dg.AssetSpec] = []
    for target in targets:
        if isinstance(target, FoundryDataset):
            specs.append(translator.get_asset_spec(target))
        elif isinstance(target, dg.AssetsDefinition):
            specs += target.specs
    # What an `AllOf` at the root has is kept as keys.
    conditions = {
        spec.key.to_user_string(): spec.automation_condition
        for spec in specs
        if spec.automation_condition is not None and not isinstance(spec.automation_condition, AllOf)
    }
    named = [key for key, condition in conditions.items() if _contains_long(condition)]
    if named:
        logger.warning(
            "the automation conditions of %s are evaluated slowly, and what is kept of them is large: combine "
            "foundry_automation_condition(dataset) & other in this order; see docs/automation.md",
            shortened(named, ", "),
        )


def _contains_long(condition: dg.AutomationCondition[Any]) -> bool:
    if isinstance(condition, RefreshBecameAvailable):
        return bool(condition.dataset.partitions_def.exclusions)
    return any(map(_contains_long, condition.children))


def foundry_freshness_policy(
    dataset: FoundryDataset, *, grace: dt.timedelta = dt.timedelta(hours=1)
) -> dg.FreshnessPolicy | None:
    """A freshness policy by which an asset fails when a refresh was not materialized in time.

    If one cron says exactly when refreshes become available, the asset fails `grace` after one that has not been
    materialized. Any other calendar gets a window as long as its longest wait plus `grace`: a missed refresh shows when
    the asset is older than it may ever be, and never too early. Dagster looks at the asset's latest materialization,
    whatever its partition: a backfill of old partitions counts as fresh.

    Args:
        dataset: The dataset.
        grace: How long a run may take after its refresh became available; at least one minute.

    Returns:
        The policy, or None for a dataset with its own partitions definition.

    Raises:
        ValueError: The grace is shorter than a minute, or an argument is not valid.
    """
    instance_of("dataset", dataset, FoundryDataset, "FoundryDataset")
    if not isinstance(grace, dt.timedelta) or grace < _ONE_MINUTE:
        raise ValueError(f"grace={grace!r} is not allowed; give a minute or more, as a timedelta")
    if dataset.schedule is None:
        return None
    schedule = dataset.schedule
    shortest, longest = waits(schedule, once_a_date=dataset.time is not None)
    # The deadlines are rounded up to the minute, so a run in the first minute would seem to lie before.
    bound = grace + _ONE_MINUTE
    deadline = exact_cron(Schedule(schedule.refreshs, schedule.buffer + grace, schedule.timezone))
    if deadline is not None and bound <= shortest:
        return dg.FreshnessPolicy.cron(deadline, lower_bound_delta=bound, timezone=schedule.timezone)
    return dg.FreshnessPolicy.time_window(fail_window=longest + grace)


class AutomatedTranslator(FoundryDatasetTranslator):
    """Another translator's specs, with a condition or a policy added if it is wanted and missing."""

    def __init__(
        self,
        translator: FoundryDatasetTranslator,
        *,
        condition: Callable[[FoundryDataset], dg.AutomationCondition[dg.AssetKey]] | None = None,
        freshness: Callable[[FoundryDataset], dg.FreshnessPolicy | None] | None = None,
    ) -> None:
        """Say what the specs get.

        Args:
            translator: The other translator.
            condition: Makes a dataset's condition; None for no conditions.
            freshness: Makes a dataset's policy; None for no policies.
        """
        self._translator = translator
        self._condition = condition
        self._freshness = freshness

    def get_asset_spec(self, dataset: FoundryDataset) -> dg.AssetSpec:
        """Describe a dataset's asset; see `FoundryDatasetTranslator`."""
        spec = self._translator.get_asset_spec(dataset)
        if self._condition is not None and spec.automation_condition is None:
            spec = spec.replace_attributes(automation_condition=self._condition(dataset))
        if self._freshness is not None and spec.freshness_policy is None:
            policy = self._freshness(dataset)
            spec = spec if policy is None else spec.replace_attributes(freshness_policy=policy)
        return spec
