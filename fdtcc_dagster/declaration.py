"""The declaration: what decides the rows of a dataset's partitions, and a digest of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
import polars as pl

from fdtcc_dagster.calendar.schedule import Refresh, Schedule
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.metadata import DECLARATION
from fdtcc_dagster.pandas_csv.schema import dtype_arguments
from fdtcc_dagster.redaction import redact

_DIGITS = 16


@dataclass(frozen=True)
class Declaration:
    """What decides the rows of a dataset's partitions.

    Attributes:
        digest: The same for equal declarations, in any process, on any machine, with any version of Python, Polars and
            Dagster.
        parts: What it is made of, in words, to say what changed: `dataset`, a digest of its name, which may be an id;
            `partitions`, `rows`, `schema`, and `buffer` and `missing_version` if they matter. A RID or uuid in a
            column's name is not shown.
    """

    digest: str
    parts: Mapping[str, str]

    def metadata(self) -> dict[str, dg.MetadataValue]:
        """What a materialization records of it."""
        return {DECLARATION: dg.MetadataValue.json({"digest": self.digest, **self.parts})}


def declaration_of(dataset: FoundryDataset) -> Declaration:
    """The declaration of a dataset: what decides the rows of its partitions.

    That is its name; the calendar with its zone and buffer, or the windows of its own partitions definition; the time
    column and whether rows may have none; the schema; and for snapshots `missing_version`. Not part of it are the order
    of the calendar's rules, the start, and how the asset is described.
    """
    parts = {
        "dataset": dataset_digest(dataset),
        "partitions": _calendar(dataset.schedule) if dataset.schedule else _windows(dataset.partitions_def),
        "rows": _rows(dataset),
        "schema": "inferred" if dataset.schema is None else _digest(_columns(dataset.schema)),
    }
    if dataset.schedule is not None:
        parts["buffer"] = str(dataset.schedule.buffer)
    if dataset.time is None:
        parts["missing_version"] = dataset.missing_version
    return Declaration(_digest(parts), {name: redact(text) for name, text in parts.items()})


def dataset_digest(dataset: FoundryDataset) -> str:
    """Which Foundry dataset it is: an asset key may later be that of another one."""
    return _digest(dataset.name)


def is_of_another(dataset: FoundryDataset, recorded: object) -> bool:
    """Tell whether a recorded declaration is of another Foundry dataset; False if it recorded no dataset."""
    digest = recorded.get("dataset") if isinstance(recorded, Mapping) else None
    return digest is not None and digest != dataset_digest(dataset)


def _calendar(schedule: Schedule) -> str:
    return f"{', '.join(sorted({_rule(rule) for rule in schedule.refreshs}))} in {schedule.timezone}"


def _rule(rule: Refresh) -> str:
    month = None if rule.month is None else f"month {rule.month}"
    return " ".join(str(word) for word in (rule.cycle, month, rule.day, rule.time) if word is not None)


def _windows(definition: dg.TimeWindowPartitionsDefinition) -> str:
    cron = " ".join(definition.cron_schedule.split())
    windows = f"cron {cron!r} in {definition.timezone}, keys {definition.fmt!r}"
    kind = type(definition)
    if kind.time_window_for_partition_key is dg.TimeWindowPartitionsDefinition.time_window_for_partition_key:
        # Exclusions, the start and the end say which keys there are, and not what is in one.
        return windows
    exclusions = [each if isinstance(each, str) else repr(each.timestamp) for each in definition.exclusions or ()]
    return f"{windows}, windows by {kind.__qualname__}, exclusions {_digest(sorted(exclusions))}"


def _rows(dataset: FoundryDataset) -> str:
    time = dataset.time
    if time is None:
        return "snapshot"
    nulls = "allowed" if time.allow_nulls else "refused"
    return f"slice by {time.name!r}, dates in {time.timezone}, rows without a time {nulls}"


def _columns(schema: pl.Schema) -> list[list[str]]:
    # Not Polars' own text, which differs between its versions.
    return [[name, type(dtype).__name__, *dtype_arguments(dtype)] for name, dtype in schema.items()]


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:_DIGITS]
