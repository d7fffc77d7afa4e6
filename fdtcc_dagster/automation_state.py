"""What an evaluation of a condition keeps and reports, without the calendar in each set of partitions.

Dagster writes a set of time windows together with its whole definition, and an evaluation has a dozen sets. If no cron
can say a calendar, its definition takes 50 kB or more, because it names each excluded tick; 165 such assets were more
than gRPC takes in one answer. Here a set is written as its keys, which are few, and which Dagster accepts instead. See
ADR 25. No other module overrides parts of Dagster's conditions that are not public.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

import dagster as dg

from fdtcc_dagster.dagster_internals import (
    AndAutomationCondition,
    AutomationConditionEvaluation,
    AutomationConditionNodeCursor,
    DefaultPartitionsSubset,
    TimeWindowPartitionsSubset,
)

_T = TypeVar("_T")
_MOST_KEYS = 500
"""Beyond them, windows are shorter than keys."""


class AllOf(AndAutomationCondition[dg.AssetKey]):
    """`&`, whose results are kept and reported as keys."""

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
