"""What the check of declarations finds: partitions that do not fit, and slices whose windows leave gaps or overlap."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from fdtcc_dagster.client import Window
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.declaration import DECLARATION, declaration_of
from fdtcc_dagster.findings import Finding, shortened
from fdtcc_dagster.localtime import UTC
from fdtcc_dagster.recorded import Known, Recorded
from fdtcc_dagster.redeclared import compare, is_beyond, slice_windows

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
        A finding that names the partitions that do not fit and why, keys that are none any more, and gaps and overlaps
        of slices.
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
        texts.append(f"{len(recorded) - len(comparison.beyond)} of {len(recorded)} partitions fit the declaration")
    passed, certain = not (rows or comparison.unknown), bool(rows)
    if passed and not comparison.beyond:
        metadata[_UP_TO] = dg.MetadataValue.int(max(record.storage_id for record in recorded.values()) - _LATECOMERS)
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
    metadata = event.asset_check_evaluation_data.metadata
    declaration, up_to = metadata.get(DECLARATION), metadata.get(_UP_TO)
    if not isinstance(declaration, dg.JsonMetadataValue) or not isinstance(up_to, dg.IntMetadataValue):
        return None
    digest = declaration_of(dataset).digest
    if not isinstance(declaration.data, Mapping) or declaration.data.get("digest") != digest or up_to.value is None:
        return None
    return Known(digest, up_to.value)


def _gaps_and_overlaps(dataset: FoundryDataset, recorded: Mapping[str, Recorded]) -> tuple[list[str], list[str]]:
    """The times that no slice holds, and those that two of them hold. A slice that is not stored yet is no gap."""
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
    windows = (_in_utc(window) for window in slice_windows(dataset, absent).values())
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
