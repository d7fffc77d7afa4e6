"""Evidence: what is known of a dataset's snapshots beyond one request, the rows announced and the rows found.

The container announces a number of rows only while it pulls. A version that has lost rows is recorded like any other,
and is answered later without a number: see docs/protocol.md#rows-can-be-lost. So the number is kept with the pointer,
and a pointer with fewer or more rows is rejected from then on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from fdtcc_dagster.errors import RowCountMismatchError
from fdtcc_dagster.redaction import counted
from fdtcc_dagster.window import Window


@dataclass(frozen=True)
class RowCount:
    """The rows of a snapshot.

    Attributes:
        announced: How many the container counted in Foundry, or None if it did not say so.
        found: How many its CSV has, if that is another number; None if they agree or nobody has counted.
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

    Its job may have recorded a version all the same. A version that is found later may also come from a later pull of
    another client. So the number is a reason to doubt a version, but not to reject it permanently.

    Attributes:
        rows: The number.
        from_dt: The beginning of the requested window, which contained `announced_at`: the container had no version
            since then.
        announced_at: The aware instant at which the container was asked.
        contradicted: Whether a version with other rows was found.
    """

    rows: int
    from_dt: datetime
    announced_at: datetime
    contradicted: bool = False

    def is_of(self, window: Window) -> bool:
        """Tell whether a version that the container finds in a window now may come from that conversation.

        It cannot be an earlier one, because there was none from the beginning of the earlier window on.
        """
        return self.from_dt <= window.from_dt <= self.announced_at and window.contains(self.announced_at)


class Evidence(Protocol):
    """Keeps what is known of one dataset's snapshots, for all later requests."""

    def row_count(self, sha256: str) -> RowCount | None:
        """What is known of the rows of a snapshot, or None."""
        ...

    def announce(self, sha256: str, rows: int) -> None:
        """Keep the number of rows that was announced for a snapshot."""
        ...

    def count(self, sha256: str, announced: int | None, found: int) -> None:
        """Keep how many rows a snapshot has; with another number than announced, or none, reject it permanently."""
        ...

    def pending(self, window: Window) -> PendingCount | None:
        """A number that was announced without a pointer, and may be that of a version in a window; or None."""
        ...

    def expect(self, pending: PendingCount) -> None:
        """Keep a number that was just announced, until the conversation ends with a pointer or a failure."""
        ...

    def settle(self, window: Window) -> None:
        """Forget the numbers that may belong to versions in a window: their rows are known now."""
        ...

    def leave(self, pending: PendingCount) -> None:
        """Keep the number that was announced: the conversation has ended with neither pointer nor failure."""
        ...

    def contradict(self, window: Window) -> None:
        """Record that a version in a window has other rows than were announced without a pointer."""
        ...


def is_lossy(announced: int | None, found: int) -> bool:
    """Tell whether a snapshot of the container has lost rows.

    Args:
        announced: How many rows the container counted, or None if it did not say so.
        found: How many there are. The container never records a dataset without rows, so a version without any lost
            them.
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

    If it is not `rejected`, the number is that of a conversation whose connection was lost, and the error says so.
    """
    where = "" if dataset is None else f"dataset {dataset!r}, window {window}: "
    seen = f"the CSV has {counted(found, 'row')}, but the container never records a dataset without rows"
    if announced is not None:
        seen = f"the container announced {counted(announced, 'row')}, but the CSV has {found}"
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
