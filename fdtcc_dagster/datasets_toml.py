"""Many datasets at once: the names in the container's own `foundry_datasets.toml`.

The file maps the names that the container knows to Foundry's ids. Only the names are used: the ids are neither kept nor
shown in any error.
"""

from __future__ import annotations

import logging
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fdtcc_dagster.arguments import members
from fdtcc_dagster.client.directories import expand_home
from fdtcc_dagster.client.pull import check_name
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.errors import did_you_mean
from fdtcc_dagster.names import asset_key_of, distinguished
from fdtcc_dagster.redaction import quoted, redact, shortened

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

logger = logging.getLogger(__name__)

_STRING_OR_COMMENT = r'"""(?:[^\\]|\\.)*?"""|' + r"'''.*?'''|" + r'"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'|#[^\n]*"
_BARE_PART = r"(?P<bare>[A-Za-z0-9_-]*[^\x00-\x7f](?:[A-Za-z0-9_-]|[^\x00-\x7f])*)(?=[ \t]*[.=\]])"
_TOKEN = re.compile(f"{_STRING_OR_COMMENT}|{_BARE_PART}", re.DOTALL)
"""What is in quotes or a comment; or a part of a key that is neither, and has a letter beyond ASCII: the service's own
parser takes it for text."""
_KEY = re.compile(r"""((?:"(?:[^"\\]|\\.)*"|'[^']*'|[^"'=])+)=(?![ \t]*\{)""")
"""A key at the beginning of a line. Whose value is an inline table may have it twice within that."""
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
        The datasets, in the order of the file. If several names would get the same asset key, none of them gets it:
        each gets a key that ends with eight hex digits of its name, whatever is selected and overridden. So adding or
        removing a name never gives a dataset's key, and its stored partitions, to another dataset.

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
    path, overrides = expand_home("path", path), overrides or {}
    select = None if select is None else members("select", select, "names and patterns")
    exclude = members("exclude", exclude, "names and patterns")
    names = read_dataset_names(path)
    for pattern in [*(select or ()), *exclude]:
        if not any(_fits(name, pattern) for name in names):
            raise ValueError(
                f"{pattern!r} fits none of the datasets in {path}; {_known(names)}{did_you_mean(pattern, names)}"
            )
    chosen = [
        name
        for name in names
        if (select is None or any(_fits(name, pattern) for pattern in select))
        and not any(_fits(name, pattern) for pattern in exclude)
    ]
    for name in overrides:
        if name not in chosen:
            why = "is not selected" if name in names else f"is not in {path}"
            raise ValueError(f"overrides has {name!r}, which {why}; {_known(chosen)}{did_you_mean(name, chosen)}")
    # Of all names: what is selected must not change the keys.
    keys = _alike(names)
    _warn_of_alike(path, [name for name in chosen if keys[name] and "asset_key" not in overrides.get(name, {})])
    return [FoundryDataset(name, **_merged({**settings, **keys[name]}, overrides.get(name, {}))) for name in chosen]


def read_dataset_names(path: str | Path) -> list[str]:
    """Read the names of the datasets that a container knows.

    Args:
        path: A `foundry_datasets.toml`: TOML with a table `[datasets]` that maps names to ids.

    Returns:
        The names in the order of the file. What cannot be the name of a dataset is left out, with a warning.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not TOML, or has no table `[datasets]`.
    """
    path = expand_home("path", path)
    try:
        # TOML may begin with a byte order mark on Windows, which the standard does not know.
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8") from None
    try:
        content = _parsed(text)
    except tomllib.TOMLDecodeError as error:
        # Its message has a position, but the error itself may hold the whole document.
        raise ValueError(f"{path} is not TOML: {redact(str(error))}{_repeated(text, str(error))}") from None
    datasets = content.get("datasets")
    if not isinstance(datasets, dict):
        raise ValueError(f"{path} has no table [datasets], which maps the datasets' names to their ids")
    return [name for name, identifier in datasets.items() if _is_usable(path, name, identifier)]


def _repeated(text: str, error: str) -> str:
    """Say of a key that is there twice what to do, and name it where tomllib does not."""
    if error.startswith("Duplicate inline table key"):
        return "; keep one of them"
    place = re.match(r"Cannot overwrite a value \(at (?:line (\d+)|end of document)", error)
    if place is None:
        return ""
    # Not splitlines(), which knows more ends of lines than TOML.
    key = _KEY.match(text.split("\n")[int(place[1] or 0) - 1])
    return f": {redact(key[1].strip()) if key else 'a key'} is there twice; keep one of them"


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        quoted = _TOKEN.sub(lambda token: f'"{token["bare"].strip()}"' if token["bare"] else token[0], text)
        if quoted == text:
            raise
        return tomllib.loads(quoted)


def _is_usable(path: Path, name: str, identifier: object) -> bool:
    """Tell whether an entry names a dataset, and warn if not: a bad entry must not affect the others."""
    try:
        check_name(name)
        if isinstance(identifier, (dict, list)):
            raise ValueError("it has no id; a name with dots needs quotes")
    except ValueError as error:
        logger.warning("%s: [datasets] has %r, which is left out: %s", path, redact(name), error)
        return False
    return True


def _alike(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Name → a distinct asset key, for names whose keys would be equal; empty if there are none."""
    keys = {name: asset_key_of(name) for name in names}
    times = Counter(keys.values())
    return {name: {"asset_key": distinguished(key, name)} if times[key] > 1 else {} for name, key in keys.items()}


def _warn_of_alike(path: Path, names: Sequence[str]) -> None:
    if names:
        logger.warning(
            "%s: other names in it lead to the same asset keys as %s, so eight hex digits are added to these keys: to "
            "keep a key and its stored partitions, give asset_key in overrides",
            path,
            ", ".join(repr(redact(name)) for name in names),
        )


def _merged(shared: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    replaced = {setting for name in own for setting in _REPLACES.get(name, ())}
    return {**{name: value for name, value in shared.items() if name not in replaced}, **own}


def _fits(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)


def _known(names: Sequence[str]) -> str:
    return f"there are {shortened(names, ', ', quoted)}" if names else "there are none"
