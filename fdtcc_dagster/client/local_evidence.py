"""Evidence of snapshots in files of this user, beside the locks."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from fdtcc_dagster.client.directories import state_directory
from fdtcc_dagster.evidence import PendingCount, RowCount, is_lossy
from fdtcc_dagster.window import Window

_PENDING = "pending-"


class LocalEvidence:
    """Evidence in files of this user, beside the locks.

    Args:
        container: The container, as `Endpoint.identity` has it.
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
    """Write a file as a whole. A full disk must not hide the failure that is to be recorded."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(part, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            json.dump(kept, file)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
