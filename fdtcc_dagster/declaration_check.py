"""What the check of declarations finds: partitions that do not fit, and slices whose windows leave gaps or overlap."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from fdtcc_dagster.client import Window
from fdtcc_dagster.client.excerpts import shortened
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.declaration import DECLARATION, declaration_of
from fdtcc_dagster.findings import Finding
from fdtcc_dagster.localtime import UTC
from fdtcc_dagster.recorded import Known, Recorded
from fdtcc_dagster.redeclared import compare, excluded_windows, is_beyond, slice_windows

CHECK = "foundry_declaration"
"""The name of the check."""

_UP_TO = "foundry/compared_up_to"
_LATECOMERS = 1000
"""How many of the newest events are looked at again: in Postgres, one may become visible after a newer one."""
_MOST_ROWS = 200

_Span = tuple[tuple[dt.datetime, dt.datetime], str]
"""The bounds of a window and its partition; without one where that is not stored."""


def declaration_finding(dataset: FoundryDataset, recorded: Mapping[str, Recorded]) -> Finding:
    """Compare all stored partitions with the dataset as it is declared today.

    Args:
        dataset: The dataset.
        recorded: Partition key → what its latest materialization recorded, of all partitions.

    Returns:
        A finding that names the partitions that do not fit and why, gaps and overlaps of slices, and keys that are none
        any more. The latter alone are no failure: no run can mend them.
    """
    if not recorded:
        return Finding(passed=False, text="No partition is stored: there is nothing to check.", certain=False)
    comparison = compare(dataset, recorded)
    gaps, overlaps = ([], []) if dataset.time is None else _gaps_and_overlaps(dataset, recorded)
    today, failed = declaration_of(dataset), comparison.differences
    metadata: dict[str, Any] = {DECLARATION: dg.MetadataValue.json({"digest": today.digest, **today.parts})}
    rows = [{"what": "differs", "partition": key, "why": why} for key, why in failed.items()]
    rows += [{"what": "gap", "partition": "", "why": text} for text in gaps]
    rows += [{"what": "overlap", "partition": "", "why": text} for text in overlaps]
    if rows:
        metadata["foundry/differences"] = dg.MetadataValue.table([dg.TableRecord(row) for row in rows[:_MOST_ROWS]])
        metadata["foundry/failed_partitions"] = list(failed)[:_MOST_ROWS]
    if comparison.beyond:
        metadata["foundry/before_start_or_after_end"] = shortened(comparison.beyond, ", ")
    if comparison.former:
        metadata["foundry/former_partitions"] = comparison.former[:_MOST_ROWS]
    texts = []
    if failed:
        named = [f"{key} {why}" for key, why in failed.items()]
        texts.append(
            f"{len(failed)} of {len(recorded)} partitions do not fit the declaration: {shortened(named, '; ')}"
        )
    if gaps:
        texts.append(f"Gaps between the slices: {shortened(gaps, '; ')}")
    if overlaps:
        texts.append(f"Rows that are stored twice: {shortened(overlaps, '; ')}")
    if comparison.unknown:
        unknown = shortened(comparison.unknown, ", ")
        texts.append(f"No window is recorded of {len(comparison.unknown)} partitions: {unknown}")
    if not texts:
        fit = len(recorded) - len(comparison.beyond) - len(comparison.former)
        texts.append(f"{fit} of {len(recorded)} partitions fit the declaration")
    if comparison.former:
        texts.append(
            f"{len(comparison.former)} partitions have keys that are none any more, remove their files: "
            f"{shortened(comparison.former, ', ')}"
        )
    passed, certain = not (rows or comparison.unknown), bool(rows)
    if passed:
        newest = max(recorded.values(), key=lambda record: record.storage_id)
        metadata[_UP_TO] = dg.MetadataValue.json(
            {"newest": newest.storage_id, "timestamp": newest.timestamp, "of": _not_compared(dataset)}
        )
    return Finding(passed, f"{'. '.join(texts)}.", passed or certain, metadata)


def last_comparison(instance: dg.DagsterInstance, asset_key: dg.AssetKey, dataset: FoundryDataset) -> Known | None:
    """Read how far the check has come for today's declaration, so that it need not read thousands of records each time.

    Args:
        instance: The Dagster instance.
        asset_key: The dataset's asset.
        dataset: The dataset.

    Returns:
        What the check knew when it passed for the last time; None if that was for another declaration.
    """
    # Not marked as public; Dagster's UI asks for the same.
    records = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(asset_key, CHECK), limit=1, status={AssetCheckExecutionRecordStatus.SUCCEEDED}
    )
    event = records[0].event.dagster_event if records and records[0].event else None
    if event is None:
        return None
    metadata, digest = event.asset_check_evaluation_data.metadata, declaration_of(dataset).digest
    declaration, up_to = (_mapping(metadata.get(name)) for name in (DECLARATION, _UP_TO))
    newest, timestamp = up_to.get("newest"), up_to.get("timestamp")
    if declaration.get("digest") != digest or up_to.get("of") != _not_compared(dataset) or not isinstance(newest, int):
        return None
    # SQLite gives ids anew after the newest records were deleted. While this one is there, none before it is another.
    records_filter = dg.AssetRecordsFilter(asset_key=asset_key, storage_ids=[newest])
    found = instance.fetch_materializations(records_filter, limit=1).records
    if not found or found[0].timestamp != timestamp:
        return None
    return Known(digest, newest - _LATECOMERS, newest, found[0].timestamp)


def _mapping(value: object) -> Mapping[str, Any]:
    return value.data if isinstance(value, dg.JsonMetadataValue) and isinstance(value.data, Mapping) else {}


def _not_compared(dataset: FoundryDataset) -> str:
    """What decides which partitions are left out of the comparison, and is no part of the declaration."""
    if dataset.start is not None:
        return dataset.start.isoformat()
    return dataset.partitions_def.get_serializable_unique_identifier()


def _gaps_and_overlaps(dataset: FoundryDataset, recorded: Mapping[str, Recorded]) -> tuple[list[str], list[str]]:
    """The times that no slice holds, and those that two of them hold; what is not stored yet or excluded is no gap."""
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
