"""The check of declarations: partitions that do not fit, and slices whose windows leave gaps or overlap."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from fdtcc_dagster.calendar.timezones import UTC
from fdtcc_dagster.checks.redeclared import compare, excluded_windows, is_beyond, slice_windows
from fdtcc_dagster.checks.results import MOST_ROWS, NOTHING_STORED, Result
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.declaration import declaration_of
from fdtcc_dagster.ingest.materializations import Recorded, not_compared
from fdtcc_dagster.metadata import (
    BEFORE_START_OR_AFTER_END,
    COMPARED_UP_TO,
    DECLARATION,
    DIFFERENCES,
    FAILED_PARTITIONS,
    FORMER_PARTITIONS,
)
from fdtcc_dagster.redaction import counted, shortened
from fdtcc_dagster.window import Window

_Span = tuple[tuple[dt.datetime, dt.datetime], str]
"""The bounds of a window and its partition; without one where that is not stored."""


def declaration_result(dataset: FoundryDataset, recorded: Mapping[str, Recorded]) -> Result:
    """Compare all stored partitions with the dataset as it is declared today.

    Args:
        dataset: The dataset.
        recorded: Partition key → what its latest materialization recorded, of all partitions.

    Returns:
        A result that names the partitions that do not fit and why, gaps and overlaps of slices, and keys that no
        longer exist. These alone are no failure, because no run can repair them.
    """
    if not recorded:
        return NOTHING_STORED
    comparison = compare(dataset, recorded)
    gaps, overlaps = ([], []) if dataset.time is None else _gaps_and_overlaps(dataset, recorded)
    today, failed = declaration_of(dataset), comparison.differences
    metadata: dict[str, Any] = {DECLARATION: dg.MetadataValue.json({"digest": today.digest, **today.parts})}
    rows = [{"what": "differs", "partition": key, "why": why} for key, why in failed.items()]
    rows += [{"what": "gap", "partition": "", "why": text} for text in gaps]
    rows += [{"what": "overlap", "partition": "", "why": text} for text in overlaps]
    if rows:
        metadata[DIFFERENCES] = dg.MetadataValue.table([dg.TableRecord(row) for row in rows[:MOST_ROWS]])
        metadata[FAILED_PARTITIONS] = list(failed)[:MOST_ROWS]
    if comparison.beyond:
        metadata[BEFORE_START_OR_AFTER_END] = shortened(comparison.beyond, ", ")
    if comparison.former:
        metadata[FORMER_PARTITIONS] = comparison.former[:MOST_ROWS]
    texts = []
    if failed:
        named = [f"{key} {why}" for key, why in failed.items()]
        texts.append(
            f"Not as declared: {len(failed)} of {counted(len(recorded), 'partition')}: {shortened(named, '; ')}"
        )
    if gaps:
        texts.append(f"Gaps between the slices: {shortened(gaps, '; ')}")
    if overlaps:
        texts.append(f"Rows that are stored twice: {shortened(overlaps, '; ')}")
    if comparison.unknown:
        texts.append(f"No window is recorded of {shortened(comparison.unknown, ', ')}")
    if not texts:
        fit = len(recorded) - len(comparison.beyond) - len(comparison.former)
        texts.append(f"As declared: {fit} of {counted(len(recorded), 'partition')}")
    if comparison.former:
        texts.append(f"Keys that no longer exist, remove their files: {shortened(comparison.former, ', ')}")
    passed, certain = not (rows or comparison.unknown), bool(rows)
    if passed:
        newest = max(recorded.values(), key=lambda record: record.storage_id)
        metadata[COMPARED_UP_TO] = dg.MetadataValue.json(
            {"newest": newest.storage_id, "timestamp": newest.timestamp, "of": not_compared(dataset)}
        )
    return Result(passed, f"{'. '.join(texts)}.", passed or certain, metadata)


def _gaps_and_overlaps(dataset: FoundryDataset, recorded: Mapping[str, Recorded]) -> tuple[list[str], list[str]]:
    """The times that no slice holds, and those that two hold; what is not stored yet or excluded is no gap."""
    digest, of_today = declaration_of(dataset).digest, slice_windows(dataset, recorded)
    held = {
        key: record.window if record.is_slice else of_today[key] if record.digest == digest else None
        for key, record in recorded.items()
        if key in of_today and not is_beyond(dataset, key)
    }
    stored = sorted((_in_utc(window), key) for key, window in held.items() if window is not None)
    if not stored:
        return [], []
    first, last = stored[0][0][0], max(end for (_, end), _ in stored)
    absent = [key for key in dataset.partitions_def.get_partition_keys() if key not in recorded]
    windows = map(_in_utc, [*slice_windows(dataset, absent).values(), *excluded_windows(dataset)])
    fillers = [((start, end), "") for start, end in windows if start < last and end > first]
    return list(_gaps(sorted(stored + fillers))), list(_overlaps(stored))


def _gaps(spans: Sequence[_Span]) -> Iterator[str]:
    (_, end), key = spans[0]
    for (start, next_end), next_key in spans[1:]:
        if start > end:
            yield f"{Window(end, start)}{_between(key, next_key)}"
        if next_end > end:
            end, key = next_end, next_key


def _overlaps(spans: Sequence[_Span]) -> Iterator[str]:
    (_, end), key = spans[0]
    for (start, next_end), next_key in spans[1:]:
        if start < end:
            yield f"{Window(start, min(end, next_end))} in {key} and {next_key}"
        if next_end > end:
            end, key = next_end, next_key


def _between(key: str, following: str) -> str:
    return "".join(f" {word} {each}" for word, each in (("after", key), ("before", following)) if each)


def _in_utc(window: Window) -> tuple[dt.datetime, dt.datetime]:
    return window.from_dt.astimezone(UTC), window.to_dt.astimezone(UTC)
