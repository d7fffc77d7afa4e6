"""Stored partitions that do not fit the present declaration, and why."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import dagster as dg

from fdtcc_dagster.calendar.partition_windows import without_exclusions
from fdtcc_dagster.calendar.partitions import KEY_FORMAT, refresh_window
from fdtcc_dagster.calendar.schedule import Schedule
from fdtcc_dagster.calendar.timezones import UTC, instant_of, zone_of
from fdtcc_dagster.checks.results import compare_columns
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.declaration import Declaration, declaration_of, is_of_another
from fdtcc_dagster.due import Due
from fdtcc_dagster.ingest.materializations import Recorded, read_recorded
from fdtcc_dagster.metadata import column_schema
from fdtcc_dagster.window import Window

_ONE_DAY = dt.timedelta(days=1)
_MIDNIGHT = dt.time()


@dataclass(frozen=True)
class Comparison:
    """Stored partitions, compared with the present declaration.

    Attributes:
        differences: Partition → what does not fit, for those that do not fit.
        unknown: The partitions whose materialization recorded no window, so that nothing is known.
        beyond: The partitions before the start or after the end of the definition, which are not compared.
        former: Those whose key no longer exists: they cannot be stored again, and Dagster never forgets them.
    """

    differences: Mapping[str, str]
    unknown: Sequence[str]
    beyond: Sequence[str]
    former: Sequence[str]


def compare(dataset: FoundryDataset, recorded: Mapping[str, Recorded]) -> Comparison:
    """Compare what stored partitions recorded with the dataset as it is declared now.

    A snapshot fits if it was pulled within a window of its key, and a slice if its window is that of its key. Of the
    rest of the declaration, only what changes the rows of the partition counts.
    """
    today = declaration_of(dataset)
    windows = _windows_of_today(dataset, recorded, today.digest)
    differences: dict[str, str] = {}
    unknown, beyond, former = [], [], []
    for key, record in sorted(recorded.items()):
        if key not in windows:
            former.append(key)
        elif is_beyond(dataset, key):
            beyond.append(key)
        elif record.window is None:
            # What is known to fit has its digest only.
            unknown += [] if record.digest == today.digest else [key]
        elif found := list(_differences(dataset, today, windows[key], record, record.window)):
            differences[key] = ", ".join(found)
    return Comparison(differences, unknown, beyond, former)


def redeclared_dues(
    instance: dg.DagsterInstance, dataset: FoundryDataset, asset_key: dg.AssetKey, dues: Sequence[Due]
) -> list[Due]:
    """Choose the stored partitions that do not fit the present declaration, with one look at the instance.

    Their run keys contain the declaration, because those of the calendar have been requested already.
    """
    recorded = read_recorded(instance, asset_key, [due.partition_key for due in dues])
    differences = compare(dataset, recorded).differences
    digest = declaration_of(dataset).digest
    return [replace(due, run_key=f"{due.run_key}:{digest}") for due in dues if due.partition_key in differences]


def slice_windows(dataset: FoundryDataset, keys: Collection[str]) -> dict[str, Window]:
    """The windows of slices, or of the partitions of a user's own definition, by the present declaration.

    Keys before the start or after the end have a window, too; what is not a key is left out.
    """
    if dataset.schedule is None:
        own = {key: _own_window(dataset.partitions_def, key) for key in keys}
        return {key: window for key, window in own.items() if window is not None}
    firsts: dict[str, dt.datetime] = {}
    for refresh in _refreshes(dataset.schedule, keys):
        firsts.setdefault(_key_of(refresh), refresh)
    windows = {key: Window(first, following) for (key, first), (_, following) in pairwise(firsts.items())}
    return {key: windows[key] for key in keys if key in windows}


def excluded_windows(dataset: FoundryDataset) -> list[Window]:
    """The windows of the ticks, such as holidays, that a user's own partitions definition excludes."""
    definition = dataset.partitions_def
    if dataset.schedule is not None or not definition.exclusions:
        return []
    ticks = without_exclusions(definition)
    windows = (_own_window(ticks, key) for key in set(ticks.get_partition_keys()) - {*definition.get_partition_keys()})
    return [window for window in windows if window is not None]


def is_beyond(dataset: FoundryDataset, key: str) -> bool:
    """Tell whether a key that has a window lies before the start or after the end of the partitions."""
    if dataset.start is not None:
        return key < dataset.start.isoformat()
    definition, window = dataset.partitions_def, _own_window(dataset.partitions_def, key)
    if window is None:
        return False
    is_after = definition.end is not None and window.to_dt.timestamp() > definition.end.timestamp()
    return is_after or window.from_dt.timestamp() < definition.start.timestamp()


def _windows_of_today(
    dataset: FoundryDataset, recorded: Mapping[str, Recorded], digest: str
) -> Mapping[str, Sequence[Window]]:
    """The windows that the rows of each key may be of; of snapshots one for each refresh of the date."""
    if dataset.schedule is None or dataset.time is not None:
        return {key: [window] for key, window in slice_windows(dataset, recorded).items()}
    windows: dict[str, list[Window]] = defaultdict(list)
    for refresh, following in pairwise(_refreshes(dataset.schedule, recorded)):
        key = _key_of(refresh)
        if key in recorded:
            windows[key].append(_pull_window(dataset.schedule, refresh, following, recorded[key].digest, digest))
    return windows


def _differences(
    dataset: FoundryDataset, today: Declaration, windows: Sequence[Window], record: Recorded, held: Window
) -> Iterator[str]:
    if is_of_another(dataset, record.parts):
        yield "is of another Foundry dataset"
        return
    is_slice = dataset.time is not None
    if record.is_slice != is_slice:
        yield "is a slice and not a snapshot" if record.is_slice else "is a snapshot and not a slice"
    elif not any(_fits(held, window, exactly=is_slice) for window in windows):
        yield f"holds {text_of(held)} and not {text_of(windows[-1])}"
    if record.outside_window and not is_slice and dataset.missing_version == "raise":
        yield "was pulled outside of its window, which missing_version='raise' does not accept"
    if record.digest == today.digest:
        return
    if record.is_slice and is_slice:
        for part in ("rows", "buffer"):
            then, now = record.parts.get(part), today.parts.get(part)
            if record.parts and then != now:
                yield f"{part} was {then}, is {now}"
    if record.parts.get("schema") != today.parts["schema"]:
        yield from _column_differences(dataset, record)


def _column_differences(dataset: FoundryDataset, record: Recorded) -> Iterator[str]:
    if dataset.schema is not None and record.columns is not None:
        found = compare_columns("columns", column_schema(dataset.schema), record.columns, None)
        if not found.passed:
            yield found.text
            return
    # What an older version stored does not say whether its types were declared.
    if record.parts:
        names = None if record.columns is None else [column.name for column in record.columns.columns]
        reordered = names is not None and dataset.schema is not None and names != dataset.schema.names()
        yield "has its columns in another order" if reordered else "was stored with another schema"


def _fits(held: Window, window: Window, *, exactly: bool) -> bool:
    # In UTC, because datetimes of one zone are compared by their wall clocks.
    (start, end), (first, last) = _bounds(held), _bounds(window)
    return (start, end) == (first, last) if exactly else first <= start and end <= last


def _pull_window(
    schedule: Schedule, refresh: dt.datetime, following: dt.datetime, digest: str | None, digest_of_today: str
) -> Window:
    """The window of a snapshot of one refresh."""
    available = schedule.available(refresh)
    if digest not in (None, digest_of_today):
        return refresh_window(schedule, _key_of(refresh), available)
    # The widest one: older versions recorded windows up to the buffer of the next refresh. Where the declaration is
    # known to be the same, no more is needed, and `refresh_window` is slow for thousands of partitions.
    return Window(available, schedule.available(following))


def _refreshes(schedule: Schedule, keys: Iterable[str]) -> list[dt.datetime]:
    """All refreshes from the first key to the first one after the date of the last key, in one look at the calendar."""
    days = sorted(day for key in keys if (day := _day_of(key)) is not None)
    if not days:
        return []
    zone = zone_of(schedule.timezone)
    start, end = instant_of(zone, days[0], _MIDNIGHT), instant_of(zone, days[-1] + _ONE_DAY, _MIDNIGHT)
    return [*schedule.refreshes(start, end), schedule.first_from(end)]


def _key_of(refresh: dt.datetime) -> str:
    return refresh.date().isoformat()


def _day_of(key: str) -> dt.date | None:
    try:
        day = dt.datetime.strptime(key, KEY_FORMAT).date()  # noqa: DTZ007  a date has no zone
    except ValueError:
        return None
    return day if day.isoformat() == key and 1800 <= day.year < 9000 else None


def _own_window(definition: dg.TimeWindowPartitionsDefinition, key: str) -> Window | None:
    try:
        window = definition.time_window_for_partition_key(key)
    except (TypeError, ValueError):
        return None
    # A key that lies between two others is taken for the next one.
    is_key = key.startswith(window.start.strftime(definition.fmt))
    return Window(window.start.astimezone(UTC), window.end.astimezone(UTC)) if is_key else None


def _bounds(window: Window) -> tuple[dt.datetime, dt.datetime]:
    return window.from_dt.astimezone(UTC), window.to_dt.astimezone(UTC)


def text_of(window: Window) -> str:
    """Write a window in UTC, so that windows of several zones can be compared."""
    return str(Window(*_bounds(window)))
