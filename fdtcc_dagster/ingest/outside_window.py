"""Why nothing may be pulled for a partition now: the client knows its window, and no calendar."""

from __future__ import annotations

import copy
from datetime import datetime

from fdtcc_dagster.calendar.partitions import unavailable_refresh
from fdtcc_dagster.dataset import FoundryDataset
from fdtcc_dagster.errors import NotYetAvailableError, NoVersionInWindowError


def explained(error: Exception, dataset: FoundryDataset, now: datetime) -> Exception:
    """Add to an error that nothing may be pulled between a refresh and its buffer, where that is why.

    Args:
        error: What went wrong with a partition.
        dataset: Its dataset.
        now: The current instant.

    Returns:
        The error, or a copy of it that says more.
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
