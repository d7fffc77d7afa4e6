"""What is known of a dataset's snapshots beyond one request: how many rows the container counted, how many there were.

The container announces a number of rows only while it pulls. A version that lost some of them is recorded like any
other, and answered later without a number. So the number is kept with the pointer, and a pointer whose rows were
fewer or more is rejected from then on.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from fdtcc_dagster.client.errors import RowCountMismatchError
from fdtcc_dagster.client.state import state_directory
from fdtcc_dagster.client.window import Window

_PENDING = "pending-"


@dataclass(frozen=True)
class RowCount:
    """The rows of a snapshot.

    Attributes:
        announced: How many the container counted in Foundry, or None where it did not say so.
        found: How many its CSV has, if that is another number; None where they agree or nobody has counted.
    """

    announced: int | None
    found: int | None = None

    @property
    def rejected(self) -> bool:
        """Whether rows are missing, or there are too many."""
        return self.found is not None


@dataclass(frozen=True)
class PendingCount:
    """A number of rows that was announced in a conversation which ended without a pointer.

    Its job may have recorded a version all the same. A version that is found later may also be of somebody else, who
    pulled after it: the number is a reason to doubt a version, and none to reject it for ever.

    Attributes:
        rows: The number.
        from_dt: The beginning of the window that was asked for, which contained `announced_at`: the container had no
            version since then.
        announced_at: The aware instant at which the container was asked.
        contradicted: Whether a version was found that has other rows.
    """

    rows: int
    from_dt: datetime
    announced_at: datetime
    contradicted: bool = False

    def is_of(self, window: Window) -> bool:
        """Tell whether a version that the container finds in a window now may come of that conversation.

        It can be none of before, since there was none from the beginning of the earlier window on.
        """
        return self.from_dt <= window.from_dt <= self.announced_at and window.contains(self.announced_at)


class Evidence(Protocol):
    """Keeps what is known of one dataset's snapshots, for all requests to come."""

    def row_count(self, sha256: str) -> RowCount | None:
        """What is known of the rows of a snapshot, or None."""
        ...

    def announce(self, sha256: str, rows: int) -> None:
        """Keep the number of rows that was announced for a snapshot."""
        ...

    def count(self, sha256: str, announced: int | None, found: int) -> None:
        """Keep how many rows a snapshot has; one that has others than announced, or none, is rejected for ever."""
        ...

    def pending(self, window: Window) -> PendingCount | None:
        """A number that was announced without a pointer, and may be that of a version in a window; or None."""
        ...

    def expect(self, pending: PendingCount) -> None:
        """Keep a number that was just announced, until the conversation ends with a pointer or a failure."""
        ...

    def settle(self, window: Window) -> None:
        """Forget the numbers that may be of versions in a window: it is known which version has how many rows."""
        ...

    def leave(self, pending: PendingCount) -> None:
        """Keep the number that was announced: the conversation has ended with neither."""
        ...

    def contradict(self, window: Window) -> None:
        """Keep that a version in a window has other rows than were announced without a pointer."""
        ...


def is_lossy(announced: int | None, found: int) -> bool:
    """Tell whether a snapshot of the container has lost rows.

    Args:
        announced: How many rows the container counted, or None where it did not say so.
        found: How many there are. The container never records a dataset without rows: a version without any lost them.
    """
    return found != announced if announced is not None else found == 0


def lost_rows(
    dataset: str | None,
    window: Window | None,
    sha256: str | None,
    announced: int | None,
    found: int,
    *,
    rejected: bool = True,
) -> RowCountMismatchError:
    """Make the error for a snapshot that has lost rows; see `is_lossy`.

    It says so where the number is of a conversation whose connection was lost, so that the snapshot is not `rejected`.
    """
    where = "" if dataset is None else f"dataset {dataset!r}, window {window}: "
    seen = f"the container announced {announced} rows, but the CSV has {found}"
    if announced is None:
        seen = f"the CSV has {found} rows, but the container never records a dataset without rows"
    if not rejected:
        seen += " (it did so before an earlier connection was lost, and named no number for this version)"
    advice = "raise its batch size or drop the column `id` from the dataset"
    if sha256 is not None and rejected:
        advice += (
            f", and remove the version {sha256[:12]}… from the container's datasets/metadata/<id>.json: it is refused "
            "from now on"
        )
    return RowCountMismatchError(
        f"{where}{seen}. The container loses rows of large datasets whose ids are not dense: {advice}",
        dataset=dataset,
        window=window,
        sha256=sha256,
        announced_rows=announced,
        found_rows=found,
    )


class LocalEvidence:
    """Evidence in files of this user, beside the locks.

    Args:
        container: The container, as `host:port`.
        dataset: The dataset's name.
    """

    def __init__(self, container: str, dataset: str) -> None:
        self._stem = hashlib.sha256(f"{container}/{dataset}".encode()).hexdigest()

    def row_count(self, sha256: str) -> RowCount | None:
        """See `Evidence`."""
        kept = _read(self._path(sha256))
        return None if kept is None else RowCount(kept.get("announced"), kept.get("found"))

    def announce(self, sha256: str, rows: int) -> None:
        """See `Evidence`."""
        known = self.row_count(sha256)
        if known is None or not known.rejected:
            _write(self._path(sha256), {"announced": rows})

    def count(self, sha256: str, announced: int | None, found: int) -> None:
        """See `Evidence`."""
        if is_lossy(announced, found):
            _write(self._path(sha256), {"announced": announced, "found": found})
        elif announced is not None:
            with suppress(OSError):
                self._path(sha256).unlink(missing_ok=True)

    def pending(self, window: Window) -> PendingCount | None:
        """See `Evidence`."""
        found = [pending for pending in map(_pending_of, self._pending_paths()) if pending and pending.is_of(window)]
        return max(found, key=lambda pending: pending.announced_at, default=None)

    def expect(self, pending: PendingCount) -> None:
        """See `Evidence`."""
        kept = {
            "rows": pending.rows,
            "from_dt": pending.from_dt.isoformat(),
            "announced_at": pending.announced_at.isoformat(),
            "contradicted": pending.contradicted,
        }
        _write(self._path(f"{_PENDING}{pending.from_dt.timestamp():.6f}"), kept)

    def settle(self, window: Window) -> None:
        """See `Evidence`."""
        for path in self._pending_paths():
            pending = _pending_of(path)
            if pending is None or pending.is_of(window):
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def leave(self, pending: PendingCount) -> None:
        """See `Evidence`; it is kept already."""

    def contradict(self, window: Window) -> None:
        """See `Evidence`."""
        if (pending := self.pending(window)) is not None:
            self.expect(replace(pending, contradicted=True))

    def _pending_paths(self) -> list[Path]:
        return list(self._path("").parent.glob(f"{self._stem}.{_PENDING}*.json"))

    def _path(self, name: str) -> Path:
        directory = state_directory() / "evidence"
        directory.mkdir(mode=0o700, exist_ok=True)
        return directory / f"{self._stem}.{name}.json"


def _pending_of(path: Path) -> PendingCount | None:
    kept = _read(path)
    if kept is None:
        return None
    try:
        begin, announced_at = datetime.fromisoformat(kept["from_dt"]), datetime.fromisoformat(kept["announced_at"])
        return PendingCount(int(kept["rows"]), begin, announced_at, bool(kept["contradicted"]))
    except (KeyError, TypeError, ValueError):
        return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) else None


def _write(path: Path, kept: dict[str, Any]) -> None:
    """Write a file as a whole. A full disk must not hide the failure that is to be kept."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(part, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            json.dump(kept, file)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
