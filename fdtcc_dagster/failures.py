"""Which failures end a run, what they say, and whether a retry may help."""

from __future__ import annotations

import copy
import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import dagster as dg

from fdtcc_dagster.calendar.partitions import unavailable_refresh
from fdtcc_dagster.client.retry import is_retryable
from fdtcc_dagster.dagster_internals import DagsterExecutionInterruptedError, note_interrupt
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.errors import NotYetAvailableError, NoVersionInWindowError
from fdtcc_dagster.metadata import ERROR_CLASS
from fdtcc_dagster.redaction import ERROR, excerpt

_NOBODY_MAY_WRITE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG}
)
"""Errors that do not pass by themselves: a person has to correct the path or its permissions."""


INTERRUPTS = (DagsterExecutionInterruptedError, KeyboardInterrupt)
"""By which Dagster, or Ctrl-C, ends a run."""


@contextmanager
def interrupts_end_the_run(retry_policy: Callable[[], dg.RetryPolicy | None]) -> Iterator[None]:
    """Let an interrupt end the run, whatever the step's retry policy is.

    Dagster would retry an interrupted step by its retry policy: the in-process executor would sleep, and then run the
    terminated step to its end. So with such a policy, the interrupt becomes a `dagster.Failure`.
    """
    try:
        yield
    except INTERRUPTS as interrupt:
        if retry_policy() is None:
            raise
        # A failure ends the step only; the noted interrupt ends the run before its next step.
        note_interrupt()
        raise dg.Failure("the run was interrupted", allow_retries=False) from interrupt


class UnlessInterrupted(dg.RetryPolicy):
    """A retry policy for failures only, also if Dagster lets another IO manager store the rows.

    Dagster asks for the delay while it handles the exception; an interrupt is then raised again, as without a policy.
    """

    _given: dg.RetryPolicy | None = None

    @classmethod
    def of(cls, retry_policy: dg.RetryPolicy) -> UnlessInterrupted:
        """Wrap a policy, which may be of a subclass."""
        made = cls(*retry_policy)
        made._given = retry_policy
        return made

    def calculate_delay(self, attempt_num: int) -> int | float:
        """Return the delay of the given policy, but raise an interrupt again."""
        handled = sys.exc_info()[1]
        while handled is not None:
            if isinstance(handled, INTERRUPTS):
                raise handled
            # An IO manager may have wrapped it, or failed while it cleaned up.
            handled = handled.__cause__ or handled.__context__
        return super().calculate_delay(attempt_num) if self._given is None else self._given.calculate_delay(attempt_num)


def may_pass(error: Exception) -> bool:
    """Tell whether a retry of the step may help: after a retryable failure of the container, or on a full disk."""
    if isinstance(error, OSError):
        return error.errno not in _NOBODY_MAY_WRITE and not getattr(error, "permanent", False)
    return is_retryable(error)


def is_full(error: OSError) -> bool:
    """Tell whether a disk or a quota is full, which may pass."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def failure(error: Exception) -> dg.Failure:
    """Make a readable failure of the run, which is retried only if that may help; raise it from the error."""
    return dg.Failure(
        f"{type(error).__name__}: {excerpt(error, ERROR)}",
        metadata={ERROR_CLASS: type(error).__name__},
        allow_retries=may_pass(error),
    )


def explained(error: Exception, dataset: FoundryDataset, now: datetime) -> Exception:
    """Return an error, or a copy that adds that nothing may be pulled between a refresh and the end of its buffer.

    The client, which raised it, knows the window of a partition, but no calendar.
    """
    schedule = dataset.schedule
    if schedule is None or dataset.time is not None:
        return error
    if not isinstance(error, (NotYetAvailableError, NoVersionInWindowError)) or error.window is None:
        return error
    refresh = unavailable_refresh(schedule, error.window, now)
    if refresh is None:
        return error
    available = schedule.available(refresh).isoformat()
    more = copy.copy(error).with_traceback(error.__traceback__)
    more.args = (
        f"{error}. It is {now.astimezone(refresh.tzinfo).isoformat(timespec='seconds')}, between the refresh at "
        f"{refresh.isoformat()} and the end of its buffer at {available}: what is pulled now may be of this refresh "
        f"or of the one before it, so it is stored for neither. Partition {refresh.date().isoformat()!r} can be "
        f"pulled from {available} on",
    )
    return more
