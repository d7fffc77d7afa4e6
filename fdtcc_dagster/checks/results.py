"""What checks report, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from fdtcc_dagster.metadata import DIFFERENCES, FAILED_PARTITIONS
from fdtcc_dagster.redaction import counted, quoted, shortened

MOST_ROWS = 200
"""How many rows a table in a check's metadata has at most."""


@dataclass(frozen=True)
class Result:
    """What a check found, of one partition or altogether.

    Attributes:
        passed: Whether all is well.
        text: What was seen, in words.
        certain: False where the metadata do not say enough to judge.
        metadata: What Dagster shows beside the text.
        differences: The columns that differ, as rows of a table.
    """

    passed: bool
    text: str
    certain: bool = True
    metadata: Mapping[str, Any] = field(default_factory=dict)
    differences: tuple[Mapping[str, str], ...] = ()

    def reported(self, key: dg.AssetKey, name: str, *, is_error: bool) -> dg.AssetCheckResult:
        """The result for Dagster; if it is not certain, a failure is a warning."""
        return dg.AssetCheckResult(
            passed=self.passed,
            asset_key=key,
            check_name=name,
            severity=dg.AssetCheckSeverity.ERROR if is_error and self.certain else dg.AssetCheckSeverity.WARN,
            description=self.text,
            metadata=self.metadata,
        )


NOTHING_STORED = Result(passed=False, text="No partition is stored: there is nothing to check.", certain=False)


def missing(partition: str, what: str) -> Result:
    """A partition that cannot be judged, and why."""
    return Result(passed=False, text=f"{partition}: {what}", certain=False)


def altogether(results: Mapping[str, Result], all_pass: str) -> Result:
    """The result for several partitions: of those that failed, or else `all_pass`."""
    if not results:
        return NOTHING_STORED
    failed = {partition: result for partition, result in results.items() if not result.passed}
    # Numbers are those of the last partition, so that each evaluation is a point of their plots.
    metadata: dict[str, Any] = dict([*results.values()][-1].metadata)
    if failed:
        metadata[FAILED_PARTITIONS] = list(failed)
    differences = [dg.TableRecord(dict(row)) for result in failed.values() for row in result.differences]
    if differences:
        metadata[DIFFERENCES] = dg.MetadataValue.table(differences[:MOST_ROWS])
    shown = failed or (results if len(results) == 1 else {})
    text = shortened(_texts(shown), "; ") if shown else all_pass
    certain = not failed or any(result.certain for result in failed.values())
    return Result(not failed, text, certain, metadata)


def _texts(results: Mapping[str, Result]) -> list[str]:
    """The texts of some partitions; what is said of several ones in the same words is said once."""
    partitions: dict[str, list[str]] = {}
    for partition, result in results.items():
        partitions.setdefault(result.text.removeprefix(f"{partition}: "), []).append(partition)
    return [
        what if results[same[0]].text == what else f"{shortened(same, ', ')}: {what}"
        for what, same in partitions.items()
    ]


def compare_columns(
    partition: str, expected: dg.TableSchema | None, stored: dg.TableSchema | None, previous: str | None
) -> Result:
    """Compare a partition's columns by name and type, in any order.

    Args:
        partition: The partition.
        expected: The columns that it should have.
        stored: The columns that it has.
        previous: The partition whose columns are expected, or None if they are the declared ones.
    """
    if stored is None or expected is None:
        return missing(partition if stored is None else str(previous), "no columns were recorded")
    before, now = _types(expected), _types(stored)
    of = "declared" if previous is None else f"in {previous}"
    differences = tuple(
        {
            "partition": partition,
            "column": name,
            "compared with": previous or "declared",
            "expected": before.get(name, "absent"),
            "stored": now.get(name, "absent"),
        }
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    )
    if not differences:
        return Result(passed=True, text=f"{partition}: {counted(len(now), 'column')}, as {of}")
    named = [f"{quoted(row['column'])} is {row['stored']} instead of {row['expected']}" for row in differences]
    text = f"{partition}, not as {of}: {shortened(named, ', ')}"
    return Result(passed=False, text=text, differences=differences)


def _types(schema: dg.TableSchema) -> dict[str, str]:
    return {column.name: column.type for column in schema.columns}
