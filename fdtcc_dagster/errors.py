"""Everything that can go wrong on the way from the container to a partition.

```
Exception
└── FdtccError
    ├── ServiceUnavailableError       retryable  the container cannot be reached or refuses the handshake; not retried
    │                                            if it is `permanent`, as for a certificate
    ├── ServiceConnectionLostError    retryable  the connection ended before the result
    ├── IdleTimeoutError              retryable  it is connected and says nothing, or nothing but keepalives
    ├── ChecksumMismatchError         retryable  the bytes that arrived are not the announced ones
    ├── DatasetNotFoundError                     it does not know the dataset's name
    ├── DatasetRetrievalError                    its own job failed; retried if it is `temporary`, as after a
    │                                            collision with a job of another client
    ├── EmptyDatasetError                        the dataset has no rows
    ├── NoVersionInWindowError                   nobody pulled the dataset in that past window
    ├── NotYetAvailableError                     the window has not begun
    ├── RowCountMismatchError                    it announced more or fewer rows than the CSV has
    ├── SliceOutgrownError                       the snapshot no longer has all rows of a slice
    ├── SchemaMismatchError                      a value or column does not fit the declared schema
    ├── ProtocolError                            it said something that its protocol does not know
    └── ScheduleError (also a ValueError)        a refresh calendar or a partition key is not valid
```

When the container causes which of them: docs/protocol.md#cases. Arguments that are not valid (a naive datetime, a
pointer that is not 64 hex digits, an unknown data type) raise `ValueError` before any work. Messages contain no
credentials and no RIDs.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fdtcc_dagster.window import Window


class FdtccError(Exception):
    """Base of all errors of this package.

    Attributes:
        dataset: The dataset's name, if the failure concerns one.
        window: The window that was asked for, if the failure concerns one.
        temporary: Whether the same request may succeed although other errors of this type do not pass.
    """

    temporary = False

    def __init__(self, message: str, *, dataset: str | None = None, window: Window | None = None) -> None:
        super().__init__(message)
        self.dataset = dataset
        self.window = window


class ServiceUnavailableError(FdtccError):
    """The container cannot be reached, or it refused the handshake.

    Attributes:
        permanent: Whether the same request would fail again: a certificate is not trusted, credentials are refused, or
            only one side uses TLS. Such a failure is not retried.
    """

    def __init__(
        self,
        message: str,
        *,
        dataset: str | None = None,
        window: Window | None = None,
        permanent: bool = False,
    ) -> None:
        super().__init__(message, dataset=dataset, window=window)
        self.permanent = permanent


class ServiceConnectionLostError(FdtccError):
    """The connection ended before the container gave its result."""


class IdleTimeoutError(FdtccError):
    """The container stayed silent, or sent only keepalives, for longer than allowed.

    Also raised if another process holds the dataset's lock and has had no heartbeat for so long.
    """


class ChecksumMismatchError(FdtccError):
    """The bytes that arrived do not have the announced SHA-256: truncated or altered on the way."""


class DatasetNotFoundError(FdtccError):
    """The container does not know the dataset's name."""


class DatasetRetrievalError(FdtccError):
    """The container's own job failed; the message ends with the cause that it gave."""


class EmptyDatasetError(FdtccError):
    """The dataset has no rows."""


class NoVersionInWindowError(FdtccError):
    """No version was pulled in that past window, and today's data are not its data."""


class NotYetAvailableError(FdtccError):
    """The window lies in the future.

    Attributes:
        available_at: The aware instant at which it begins.
    """

    def __init__(
        self,
        message: str,
        *,
        dataset: str | None = None,
        window: Window | None = None,
        available_at: datetime | None = None,
    ) -> None:
        super().__init__(message, dataset=dataset, window=window)
        self.available_at = available_at


class RowCountMismatchError(FdtccError):
    """The CSV has more or fewer rows than the container announced, or none at all.

    Such a snapshot is rejected permanently: later requests that get the same pointer raise this, too. See
    docs/protocol.md#rows-can-be-lost.

    Attributes:
        sha256: The snapshot's pointer, or None if it is not one of the container.
        announced_rows: How many rows the container counted in Foundry, or None if it did not say so.
        found_rows: How many rows the CSV has, or None if that is not what failed.
    """

    def __init__(
        self,
        message: str,
        *,
        dataset: str | None = None,
        window: Window | None = None,
        sha256: str | None = None,
        announced_rows: int | None = None,
        found_rows: int | None = None,
    ) -> None:
        super().__init__(message, dataset=dataset, window=window)
        self.sha256 = sha256
        self.announced_rows = announced_rows
        self.found_rows = found_rows


class SliceOutgrownError(FdtccError):
    """The snapshot no longer has all rows of a slice: it begins later, or it has fewer of them than are stored."""


class SchemaMismatchError(FdtccError):
    """A column or a value does not fit the declared schema.

    Attributes:
        column: The column's name.
        row: The 1-based data row (the header not counted), or None for an error of a whole column.
        value: The text found in the CSV, or None for an error of a whole column.
    """

    def __init__(
        self,
        message: str,
        *,
        dataset: str | None = None,
        window: Window | None = None,
        column: str | None = None,
        row: int | None = None,
        value: str | None = None,
    ) -> None:
        super().__init__(message, dataset=dataset, window=window)
        self.column = column
        self.row = row
        self.value = value


class ProtocolError(FdtccError):
    """The container said something that its protocol does not know."""


class ScheduleError(FdtccError, ValueError):
    """A refresh calendar or a partition key is not valid; the message says what is allowed."""


def did_you_mean(value: object, allowed: Iterable[str], cutoff: float = 0.75) -> str:
    """The end of an error: the allowed word that is close to a value, if there is one."""
    words = {word.casefold(): word for word in allowed}
    close = get_close_matches(value.casefold(), words, n=1, cutoff=cutoff) if isinstance(value, str) else []
    return f"; did you mean {words[close[0]]!r}?" if close else ""


def which_zone(name: object) -> str:
    """The end of an error about a time zone that is unknown: the zone that is meant, or what one looks like."""
    import pytz

    # What is close to an abbreviation or an offset is hours away, and so are some cities of one region.
    regions = (zone for zone in pytz.all_timezones if "/" in zone and not zone.startswith("Etc/"))
    close = did_you_mean(name, regions, cutoff=0.9)
    return close or "; give the region by its name in the IANA database, such as 'Europe/Berlin', or 'UTC'"
