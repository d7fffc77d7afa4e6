"""Many datasets at once: the names in the container's own `foundry_datasets.toml`.

The file maps the names that the container knows to Foundry's ids. Only the names are used: ids are not kept, and are
not in any error.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fdtcc_dagster.client.redaction import redact
from fdtcc_dagster.dataset import FoundryDataset

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_REPLACES = {"partitions_def": ("schedule", "start"), "schedule": ("partitions_def",), "start": ("partitions_def",)}


def datasets_from_toml(
    path: str | Path,
    *,
    select: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    **settings: Any,
) -> list[FoundryDataset]:
    """Declare the datasets that a container knows, from its `foundry_datasets.toml`.

    Args:
        path: The file.
        select: Names, or patterns such as `"foundry.hr.*"`; None for all.
        exclude: Names or patterns of datasets to leave out.
        overrides: Name → arguments of `FoundryDataset` that only this dataset has. Each replaces the shared one; a
            `partitions_def` also replaces a shared schedule and start, and the other way round.
        **settings: Arguments of `FoundryDataset` that all of them share, such as `schedule` and `start`.

    Returns:
        The datasets, in the order of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ScheduleError: A dataset has neither a schedule and a start nor a partitions definition.
        TypeError: An argument is unknown to `FoundryDataset`.
        ValueError: The file is not what the container reads, a name or pattern fits none of its datasets, or a
            dataset's argument is not allowed.

    Example:
        ```python
        datasets_from_toml(
            "foundry_datasets.toml",
            select=["foundry.hr.*"],
            schedule=Schedule([{"cycle": "monthly", "day": 1, "time": "06:00:00"}]),
            start="2025-01-01",
            overrides={"foundry.hr.monthly_closings": {"schema": {"month": "Date", "total": "Decimal(12, 2)"}}},
        )
        ```
    """
    path, overrides = Path(path), overrides or {}
    names = read_dataset_names(path)
    for pattern in [*(select or ()), *exclude]:
        if not any(_fits(name, pattern) for name in names):
            raise ValueError(f"{pattern!r} fits none of the datasets in {path}; {_known(names)}")
    chosen = [
        name
        for name in names
        if (select is None or any(_fits(name, pattern) for pattern in select))
        and not any(_fits(name, pattern) for pattern in exclude)
    ]
    for name in overrides:
        if name not in chosen:
            why = "is not selected" if name in names else f"is not in {path}"
            raise ValueError(f"overrides has {name!r}, which {why}; {_known(chosen)}")
    return [FoundryDataset(name, **_merged(settings, overrides.get(name, {}))) for name in chosen]


def read_dataset_names(path: str | Path) -> list[str]:
    """Read the names of the datasets that a container knows.

    Args:
        path: A `foundry_datasets.toml`: TOML with a table `[datasets]` that maps names to ids.

    Returns:
        The names in the order of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not TOML, has no table `[datasets]`, or the table maps a name to something else than text.
    """
    path = Path(path)
    try:
        # TOML may begin with a byte order mark on Windows, which the standard does not know.
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        # Its message has a position, but the error itself may hold the whole document.
        raise ValueError(f"{path} is not TOML: {error}") from None
    datasets = content.get("datasets")
    if not isinstance(datasets, dict):
        raise ValueError(f"{path} has no table [datasets], which maps the datasets' names to their ids")
    for name, identifier in datasets.items():
        if not isinstance(identifier, str):
            raise ValueError(
                f"{path}: [datasets] has no id as text for {redact(name)!r}; a name with dots needs quotes"
            )
    return list(datasets)


def _merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    replaced = {setting for name in own for setting in _REPLACES.get(name, ())}
    return {**{name: value for name, value in shared.items() if name not in replaced}, **own}


def _fits(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def _known(names: Sequence[str]) -> str:
    shown = ", ".join(repr(redact(name)) for name in names[:10]) + (
        f" and {len(names) - 10} more" if len(names) > 10 else ""
    )
    return f"there are {shown}" if names else "there are none"
