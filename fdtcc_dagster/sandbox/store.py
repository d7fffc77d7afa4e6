"""The datasets of the sandbox: their versions by date of the pull, and what Foundry holds today."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Union

from fdtcc_dagster.sandbox.blobs import Blob, Blobs, read
from fdtcc_dagster.sandbox.pandas_csv import to_pandas_csv

if TYPE_CHECKING:
    import polars as pl

Data = Union[bytes, str, Path, "pl.DataFrame"]
"""The bytes of a CSV, its text, the path of a file, or a frame that is written by `to_pandas_csv`."""

_FILE_NAME = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)T(?P<h>\d\d)[-:]?(?P<m>\d\d)[-:]?(?P<s>\d\d)(?P<f>\.\d{1,6})?(Z|\+00[-:]?00)\.csv"
)
_LIVE = "live.csv"


def version_file_name(pulled_at: datetime) -> str:
    """Name the file of a version, such as `2026-01-05T04-00-00Z.csv`.

    This is the canonical form, a legal file name everywhere: UTC, and microseconds (`04-00-00.250000Z`) only if there
    are any. `2026-01-05T040000Z.csv` and `2026-01-05T04:00:00+00:00.csv` are read as well.

    Args:
        pulled_at: The instant of the pull, an aware datetime.

    Returns:
        The file's name.

    Raises:
        ValueError: The datetime has no time zone.
    """
    instant = _utc(pulled_at)
    fraction = f".{instant.microsecond:06d}" if instant.microsecond else ""
    return f"{instant:%Y-%m-%dT%H-%M-%S}{fraction}Z.csv"


@dataclass(frozen=True)
class Version:
    """One pull of a whole dataset.

    Attributes:
        pulled_at: The instant of the pull in UTC.
        path: Its CSV.
        recorded: Whether the sandbox recorded it at a live pull, as opposed to a version that was given to it.
    """

    pulled_at: datetime
    path: Path
    recorded: bool = False


@dataclass(eq=False)
class Pull:
    """A live pull that is going on.

    Attributes:
        overlapped: Whether another one of the same dataset went on at the same time.
    """

    overlapped: bool = False


@dataclass
class _Dataset:
    versions: list[Version] = field(default_factory=list)
    live: Path | None = None
    pulls: list[Pull] = field(default_factory=list)


class Store:
    """Datasets by name. Safe to use from several threads.

    Args:
        root: A directory with `<dataset>/<pulled-at>.csv` and `<dataset>.csv`, or None; it is only read, and listed
            once.
        blobs: Where everything is kept that is not in `root`.
        clock: Gives the current instant.

    Raises:
        FileNotFoundError: `root` does not exist.
        NotADirectoryError: `root` is not a directory.
        ValueError: The name of a CSV in it (those hidden by a dot do not count) is neither `live.csv` nor a timestamp,
            or two name the same instant or are both what Foundry holds today.

    Attributes:
        ignored: What is in `root` and means nothing, but for what is hidden by a dot.
    """

    def __init__(self, root: Path | None, blobs: Blobs, clock: Callable[[], datetime]) -> None:
        self._blobs = blobs
        self._clock = clock
        self._lock = threading.RLock()
        self._aliases: dict[str, str] = {}
        self.ignored: list[Path] = []
        self._datasets = {} if root is None else _scan(root, self.ignored)

    def now(self) -> datetime:
        """Return the clock's instant, in UTC."""
        return _utc(self._clock())

    def names(self) -> list[str]:
        """Return the names of all datasets, sorted."""
        with self._lock:
            return sorted(self._datasets)

    def add_version(self, name: str, pulled_at: datetime, data: Data) -> str:
        """Add a version, and the dataset if it is new; return the version's pointer."""
        instant = _utc(pulled_at)
        blob = self._blobs.add(_chunks(data))
        self._insert(name, Version(instant, blob.path))
        return blob.sha256

    def set_live(self, name: str, data: Data) -> str:
        """Set what Foundry holds today, and add the dataset if it is new; return the pointer it will have."""
        blob = self._blobs.add(_chunks(data))
        with self._lock:
            self._datasets.setdefault(name, _Dataset()).live = blob.path
        return blob.sha256

    def record(self, name: str, blob: Blob) -> None:
        """Record the result of a live pull as a version of now."""
        self._insert(name, Version(self.now(), blob.path, recorded=True))

    def versions(self, name: str) -> list[Version]:
        """Return a dataset's versions, oldest first."""
        with self._lock:
            dataset = self._datasets.get(name)
            return [] if dataset is None else list(dataset.versions)

    def pointer(self, version: Version) -> str:
        """Return a version's SHA-256; reads the file at the first call."""
        return self._blobs.describe(version.path).sha256

    def live(self, name: str) -> Blob:
        """Return what Foundry holds today: the live data, or else the newest version that was given.

        Raises:
            LookupError: There is neither.
        """
        with self._lock:
            dataset = self._datasets[name]
            path, given = dataset.live, [version for version in dataset.versions if not version.recorded]
        if path is not None and path.exists():
            # A file of the root is copied: a user may put other data there while the sandbox is running.
            return self._blobs.described(path) or self._blobs.add(read(path))
        if not given:
            raise LookupError("The dataset has no transactions.")
        return self._blobs.describe(given[-1].path)

    @contextmanager
    def pulling(self, name: str) -> Iterator[Pull]:
        """Mark a live pull as going on, and every one that overlaps with it."""
        pull = Pull()
        with self._lock:
            pulls = self._datasets[name].pulls
            pulls.append(pull)
            if len(pulls) > 1:
                for each in pulls:
                    each.overlapped = True
        try:
            yield pull
        finally:
            with self._lock:
                pulls.remove(pull)

    def alias(self, pointer: str, sha256: str) -> None:
        """Serve the bytes of `sha256` under a wrong pointer as well."""
        with self._lock:
            self._aliases[pointer] = sha256

    def find(self, pointer: str) -> tuple[Blob, list[str]] | None:
        """Find a version by its pointer.

        Returns:
            Its CSV and the names of all datasets that have such a version, or None.
        """
        with self._lock:
            alias = self._aliases.get(pointer)
            paths = [(name, version.path) for name, dataset in self._datasets.items() for version in dataset.versions]
        # What was announced has been read already; only a pointer from elsewhere costs reading all versions.
        described, describe = self._blobs.described, self._blobs.describe
        for look, sha256 in ((described, pointer), (describe, pointer), (describe, alias)):
            found = [(name, blob) for name, path in paths if (blob := look(path)) and blob.sha256 == sha256]
            if found:
                return found[0][1], sorted({name for name, _ in found})
        return None

    def _insert(self, name: str, version: Version) -> None:
        with self._lock:
            versions = self._datasets.setdefault(name, _Dataset()).versions
            versions.append(version)
            versions.sort(key=lambda each: each.pulled_at)


def dataset_uuid(name: str) -> str:
    """Return the uuid of a dataset's RID; the same for the same name always."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"fdtcc-sandbox:{name}"))


def dataset_rid(name: str) -> str:
    """Return a dataset's RID, as it stands in some messages."""
    return f"ri.foundry.main.dataset.{dataset_uuid(name)}"


def _utc(instant: datetime) -> datetime:
    if instant.utcoffset() is None:
        raise ValueError(f"{instant.isoformat()} has no time zone; give an aware datetime, such as one in UTC")
    return instant.astimezone(timezone.utc)


def _chunks(data: Data) -> Iterable[bytes]:
    if isinstance(data, Path):
        return read(data)
    if isinstance(data, bytes):
        return [data]
    return [data.encode() if isinstance(data, str) else to_pandas_csv(data)]


def _scan(root: Path, ignored: list[Path]) -> dict[str, _Dataset]:
    if not root.exists():
        raise FileNotFoundError(
            f"the sandbox's root {root} does not exist; make it, with <dataset>/<pulled-at>.csv or <dataset>.csv in it"
        )
    if not root.is_dir():
        raise NotADirectoryError(f"the sandbox's root {root} is not a directory")
    datasets: dict[str, _Dataset] = {}
    for path in sorted(root.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            datasets[path.name] = _scan_dataset(path, ignored)
        elif path.suffix != ".csv":
            ignored.append(path)
    for path in sorted(root.glob("[!.]*.csv")):
        if path.is_file():
            _add_flat(datasets, path)
    return datasets


def _add_flat(datasets: dict[str, _Dataset], path: Path) -> None:
    """Take `<dataset>.csv` for what Foundry holds today."""
    if path.name == _LIVE or _FILE_NAME.fullmatch(path.name):
        raise ValueError(
            f"{path} is named like a version of a dataset: put it into a folder with the dataset's name, or give the "
            "directory above as the root"
        )
    dataset = datasets.setdefault(path.stem, _Dataset())
    if dataset.live is not None and dataset.live.exists():
        raise ValueError(f"{path} and {dataset.live} are both what Foundry holds today; keep one of them")
    dataset.live = path


def _scan_dataset(folder: Path, ignored: list[Path]) -> _Dataset:
    dataset = _Dataset(live=folder / _LIVE)
    seen: dict[datetime, Path] = {}
    for path in sorted(folder.glob("[!.]*")):
        if path.name == _LIVE:
            continue
        if path.suffix != ".csv":
            ignored.append(path)
            continue
        pulled_at = _pulled_at(path)
        if pulled_at in seen:
            raise ValueError(f"{path} and {seen[pulled_at].name} name the same instant; keep one of them")
        seen[pulled_at] = path
        dataset.versions.append(Version(pulled_at, path))
    dataset.versions.sort(key=lambda version: version.pulled_at)
    return dataset


def _pulled_at(path: Path) -> datetime:
    match = _FILE_NAME.fullmatch(path.name)
    try:
        if match is None:
            raise ValueError("not a timestamp in UTC")
        fraction = (match["f"] or ".0").ljust(7, "0")
        text = f"{match['date']}T{match['h']}:{match['m']}:{match['s']}{fraction}+00:00"
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(
            f"{path} is not named after the instant of its pull in UTC ({error}); "
            "name it like 2026-01-05T04-00-00Z.csv, or live.csv for what Foundry holds today"
        ) from error
