"""Checks of stored partitions, made from what their materializations recorded: the data are not read again."""

# No postponed annotations here: Dagster reads those of a check's function.

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any
from weakref import WeakKeyDictionary

import dagster as dg

from fdtcc_dagster.checks.declaration_check import declaration_result
from fdtcc_dagster.checks.results import Result, altogether, compare_columns, missing
from fdtcc_dagster.dagster_internals import check_nodes
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.due import is_there, newest_due
from fdtcc_dagster.errors import did_you_mean
from fdtcc_dagster.ingest.materializations import DECLARATION_CHECK, Materializations, recorded_in_run
from fdtcc_dagster.metadata import (
    ANNOUNCED_ROWS,
    CHECKED_PARTITIONS,
    DUE_PARTITION,
    DUE_SINCE,
    GRACE,
    NEWEST_PARTITION,
    ROW_CHANGE,
    ROW_COUNT,
    SLICE_ROWS,
    column_schema,
)
from fdtcc_dagster.names import step_name
from fdtcc_dagster.redaction import counted, excerpt, redact, shortened
from fdtcc_dagster.translator import (
    FoundryDatasetTranslator,
    FoundryTarget,
    check_assets_exist,
    check_distinct_keys,
    targets_of,
)

ROW_COUNT_ANNOUNCED = "foundry_row_count_announced"
ROW_COUNT_CHANGE = "foundry_row_count_change"
SCHEMA_DECLARED = "foundry_schema_declared"
SCHEMA_CHANGE = "foundry_schema_change"
FRESHNESS = "foundry_freshness"
DECLARATION = DECLARATION_CHECK

_DESCRIPTIONS = {
    ROW_COUNT_ANNOUNCED: "As many rows are stored as the container announced, where it did, or as belong to the slice.",
    ROW_COUNT_CHANGE: "The number of rows differs little from that of the partition before it, in time order.",
    SCHEMA_DECLARED: "The stored columns are the declared ones.",
    SCHEMA_CHANGE: "The columns are those of the partition before it, in time order.",
    FRESHNESS: "The latest refresh that is available is stored.",
    DECLARATION: "All stored partitions fit the dataset as it is declared now.",
}
# These contradict a promise; the others are merely unusual.
_ALWAYS_ERRORS = {ROW_COUNT_ANNOUNCED, SCHEMA_DECLARED, DECLARATION}
# These say nothing of the partitions of a run.
_OF_THE_WHOLE = {FRESHNESS, DECLARATION}
_NO_ROWS = "the IO manager recorded no number of rows"
_MOST_DUE = 10

Clock = Callable[[], datetime]

# Of the node of each definition of checks, which stays when Dagster makes another one of it.
_plans: WeakKeyDictionary[object, "_Plan"] = WeakKeyDictionary()


def build_foundry_checks(
    datasets: Sequence[FoundryTarget],
    *,
    translator: FoundryDatasetTranslator | None = None,
    blocking: bool | Collection[str] = False,
    max_row_change: float | None = 0.5,
    freshness_grace: timedelta | None = timedelta(hours=1),
    clock: Clock | None = None,
) -> list[dg.AssetChecksDefinition]:
    """Make checks of the datasets' assets.

    Each dataset gets one step, in which all its checks run, together or each alone:

    - `foundry_row_count_announced`: as many rows are stored as the container announced, or as belong to the slice. The
      container announces none for a version that it had cached, and that may have lost rows. If none of our runs has
      seen the number of that version before, the check fails as a warning.
    - `foundry_row_count_change`: the rows are no more than `max_row_change` more or fewer than those of the previous
      partition.
    - `foundry_schema_declared`: the stored columns are those of the dataset's `schema`; only if it has one.
    - `foundry_schema_change`: the stored columns are those of the previous partition.
    - `foundry_freshness`: of the refreshes that have been available for `freshness_grace`, the latest one or a later
      one is stored. Without a schedule, the same holds for the windows that have begun. Run it on a schedule of its
      own, because it is about what did not happen.
    - `foundry_declaration`: every stored partition fits the dataset as it is declared now: its key still exists, its
      window, time column and schema are those of the declaration, and the windows of slices leave no gaps and do not
      overlap. It looks at all partitions, whatever the run is about.

    In a run for partitions of the asset, the checks look at all of these, and report each that fails. In any other run
    they look at the stored one that is latest in time. "Previous" is the nearest earlier partition that is stored,
    whenever it was materialized. The order of columns does not matter.

    The checks work with any IO manager, from the metadata of the materializations: `foundry/announced_rows`,
    `dagster/column_schema`, and `dagster/partition_row_count`, `dagster/row_count` or `row_count`. If one is missing, a
    check fails as a warning, and blocks nothing. Otherwise a failure is an error if the check is blocking, or if it
    contradicts what was announced or declared; all others are warnings.

    Args:
        datasets: The datasets, or the assets that `build_foundry_assets` made of them. Give the assets if they got
            other keys afterwards.
        translator: The translator of the assets, if datasets are given.
        blocking: The names of the checks whose failure keeps downstream assets in the same run from being
            materialized. True means all but the freshness and the declaration, which say nothing about the partitions
            of the run.
        max_row_change: The largest change of the row count that passes, relative to the previous one: 0.5 is half as
            many more or fewer. None leaves the check out.
        freshness_grace: How long after a refresh became available it may be missing. None leaves the check out.
        clock: Returns the aware instant for which freshness is judged; the current one if None.

    Returns:
        The checks, one definition for each dataset, in the order of the datasets.

    Raises:
        ValueError: Two datasets have the same asset key, or an argument is not valid.
    """
    names = _DESCRIPTIONS.keys() - _OF_THE_WHOLE if blocking is True else set(blocking or ())
    unknown = {str(blocking)} if isinstance(blocking, str) else names - _DESCRIPTIONS.keys()
    if unknown:
        raise ValueError(
            f"blocking={blocking!r} is not allowed; give True, False or a set of {', '.join(_DESCRIPTIONS)}"
            f"{did_you_mean(sorted(map(str, unknown))[0], _DESCRIPTIONS)}"
        )
    if max_row_change is not None and not max_row_change >= 0:
        raise ValueError(f"max_row_change={max_row_change!r} is not allowed; give zero or more, or None")
    if freshness_grace is not None and freshness_grace < timedelta(0):
        raise ValueError(f"freshness_grace={freshness_grace!r} is not allowed; give zero or more, or None")
    targets = targets_of(datasets, translator)
    check_distinct_keys(targets)
    checks = []
    for dataset, key in targets:
        plan = _Plan(
            dataset,
            key,
            frozenset(names),
            max_row_change,
            freshness_grace,
            clock or (lambda: datetime.now(timezone.utc)),
        )
        checks.append(_build_checks(plan))
    return checks


@dataclass(frozen=True)
class _Plan:
    dataset: FoundryDataset
    key: dg.AssetKey
    blocking: frozenset[str]
    max_row_change: float | None
    grace: timedelta | None
    clock: Clock

    def names(self) -> list[str]:
        omitted = {
            ROW_COUNT_CHANGE: self.max_row_change is None,
            SCHEMA_DECLARED: self.dataset.schema is None,
            FRESHNESS: self.grace is None,
        }
        return [name for name in _DESCRIPTIONS if not omitted.get(name)]

    def evaluate(self, name: str, materializations: Materializations, partitions: Sequence[str]) -> dg.AssetCheckResult:
        if name == DECLARATION:
            result = declaration_result(self.dataset, materializations.recorded)
        else:
            result = (
                self._freshness(materializations)
                if name == FRESHNESS
                else self._of_partitions(name, materializations, partitions)
            )
        return result.reported(self.key, name, is_error=name in self.blocking or name in _ALWAYS_ERRORS)

    def _of_partitions(self, name: str, materializations: Materializations, partitions: Sequence[str]) -> Result:
        find = {
            ROW_COUNT_ANNOUNCED: self._row_count_announced,
            ROW_COUNT_CHANGE: self._row_count_change,
            SCHEMA_DECLARED: self._schema_declared,
            SCHEMA_CHANGE: self._schema_change,
        }[name]
        results = {
            partition: find(materializations, partition)
            if partition in materializations.stored
            else missing(partition, "not stored")
            for partition in partitions
        }
        result = altogether(results, f"All {len(results)} partitions pass.")
        checked = {CHECKED_PARTITIONS: shortened(partitions, ", ")} if partitions else {}
        return replace(result, metadata={**checked, **result.metadata})

    def _row_count_announced(self, materializations: Materializations, partition: str) -> Result:
        rows = materializations.rows(partition)
        announced = materializations.value(partition, ANNOUNCED_ROWS)
        expected, of = materializations.value(partition, SLICE_ROWS), "rows of the slice"
        if expected is None:
            expected, of = announced, "announced by the container"
        if expected is not None and rows is None:
            return missing(partition, _NO_ROWS)
        text = f"{partition}: rows stored: {rows}, {of}: {expected}"
        if expected is not None and rows != expected:
            return Result(passed=False, text=text, metadata={ROW_COUNT: rows})
        if announced is None:
            return missing(
                partition,
                "the container announced no number of rows for this version, so nobody knows whether some are missing",
            )
        return Result(passed=True, text=text, metadata={ROW_COUNT: rows})

    def _row_count_change(self, materializations: Materializations, partition: str) -> Result:
        previous = materializations.previous(partition)
        if previous is None:
            return Result(passed=True, text=f"{partition}: no earlier partition is stored")
        rows, before = materializations.rows(partition), materializations.rows(previous)
        if rows is None or before is None:
            return missing(partition if rows is None else previous, _NO_ROWS)
        limit = self.max_row_change or 0.0
        change = (rows - before) / before if before else None
        percent = "from none" if change is None else f"{change:+.1%}"
        return Result(
            abs(rows - before) <= limit * before,
            f"{partition}: {counted(rows, 'row')}, and {previous} has {before} ({percent}; allowed are ±{limit:.1%})",
            metadata={} if change is None else {ROW_CHANGE: round(change, 6)},
        )

    def _schema_declared(self, materializations: Materializations, partition: str) -> Result:
        return compare_columns(
            partition, column_schema(self.dataset.schema or {}), materializations.schema(partition), None
        )

    def _schema_change(self, materializations: Materializations, partition: str) -> Result:
        previous = materializations.previous(partition)
        if previous is None:
            return Result(passed=True, text=f"{partition}: no earlier partition is stored")
        return compare_columns(
            partition, materializations.schema(previous), materializations.schema(partition), previous
        )

    def _freshness(self, materializations: Materializations) -> Result:
        now, grace, definition = self.clock(), self.grace or timedelta(0), self.dataset.partitions_def
        with dg.partition_loading_context(effective_dt=now):
            keys = definition.get_partition_keys()
        newest = next((key for key in reversed(keys) if key in materializations.stored), None)
        metadata: dict[str, Any] = {NEWEST_PARTITION: newest or "none", GRACE: str(grace)}
        moment = now - grace
        # A user's own definition may list windows that have not begun.
        dues = newest_due(self.dataset, moment, limit=_MOST_DUE)
        due = next((due for due in dues if self._available(due.partition_key, moment) <= moment), None)
        if due is None:
            return Result(passed=True, text="No refresh has been available for that long.", metadata=metadata)
        key, available = due.partition_key, self._available(due.partition_key, moment)
        since = available.isoformat()
        metadata |= {DUE_PARTITION: key, DUE_SINCE: dg.MetadataValue.timestamp(available)}
        if newest is None or _start(definition, newest) < _start(definition, key):
            stored = f"the newest stored one is {newest}" if newest else "none is stored"
            text = f"Partition {key}, available since {since}, is missing; {stored}."
        elif newest == key and not is_there(materializations.instance, self.dataset, self.key, [due])[key]:
            # A date with several refreshes has one partition, which must be of the latest of them.
            text = f"Partition {key} is stored, but of a refresh before the one available since {since}."
        else:
            text = f"Partition {key} is due since {since}, and the newest stored one is {newest}."
            return Result(passed=True, text=text, metadata=metadata)
        return Result(passed=False, text=text, metadata=metadata)

    def _available(self, partition: str, moment: datetime) -> datetime:
        if self.dataset.time is not None:
            return self.dataset.complete_at(partition)
        return self.dataset.window(partition, moment).from_dt


def _build_checks(plan: _Plan) -> dg.AssetChecksDefinition:
    specs = [
        dg.AssetCheckSpec(name, asset=plan.key, description=_DESCRIPTIONS[name], blocking=name in plan.blocking)
        for name in plan.names()
    ]

    @dg.multi_asset_check(name=f"foundry_checks__{step_name(plan.key)}", specs=specs, can_subset=True)
    def check_partitions(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        # Not the plan's key: with a prefix before its asset's key, a check gets it, too.
        (key,) = {check.asset_key for check in context.selected_asset_check_keys}
        check_assets_exist(_repository_of(context), [(plan.dataset, key)])
        materializations = Materializations(context.instance, key, plan.dataset)
        partitions = materializations.of_run(context.run.tags)
        selected = {key.name for key in context.selected_asset_check_keys}
        for spec in specs:
            if spec.name in selected:
                yield replace(plan, key=key).evaluate(spec.name, materializations, partitions)

    _plans[check_partitions.node_def] = plan
    return check_partitions


def evaluate_stored(context: dg.AssetExecutionContext) -> None:
    """Evaluate the checks of a step that fails for the partitions that it has stored nevertheless.

    Dagster skips the checks of an asset whose step fails, and shows them as failed, although most of a run's partitions
    may be stored and right. The step's failure is what matters: if they cannot be evaluated, that is only logged.

    Args:
        context: Dagster's context of the step.
    """
    try:
        _evaluate_stored(context)
    except Exception as error:  # noqa: BLE001  see above
        why = f"{type(error).__name__}: {excerpt(redact(str(error)))}"
        context.log.warning(f"The checks of the stored partitions could not be evaluated: {why}")


def _evaluate_stored(context: dg.AssetExecutionContext) -> None:
    checks = {check: _plans[node] for check, node in check_nodes(context).items() if node in _plans}
    recorded = set(recorded_in_run(context.instance, context.run.run_id, context.asset_key)) if checks else set()
    if not recorded:
        return
    # In time order, as they were stored in any.
    stored = [key for key in context.partition_keys if key in recorded]
    materializations = Materializations(context.instance, context.asset_key, next(iter(checks.values())).dataset)
    for check, plan in checks.items():
        result = replace(plan, key=check.asset_key).evaluate(check.name, materializations, stored)
        context.log_event(
            dg.AssetCheckEvaluation(
                asset_key=check.asset_key,
                check_name=check.name,
                passed=result.passed,
                metadata=result.metadata,
                severity=result.severity,
                description=result.description,
            )
        )


def _repository_of(context: dg.AssetCheckExecutionContext) -> dg.RepositoryDefinition | None:
    try:
        return context.repository_def
    except Exception:  # noqa: BLE001  Dagster's own: a run within this process, as in tests, has no repository
        return None


def _start(definition: dg.TimeWindowPartitionsDefinition, partition: str) -> float:
    return definition.start_time_for_partition_key(partition).timestamp()
