"""A half-open time window, and how it is written on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo


@dataclass(frozen=True)
class Window:
    """The half-open window [from_dt, to_dt).

    Attributes:
        from_dt: The first instant, an aware datetime.
        to_dt: The instant after the last one, an aware datetime later than `from_dt`.

    Raises:
        ValueError: A bound is no datetime or naive, or the window is empty or inverted.
    """

    from_dt: datetime
    to_dt: datetime

    def __post_init__(self) -> None:
        for bound, value in (("from_dt", self.from_dt), ("to_dt", self.to_dt)):
            if not isinstance(value, datetime):
                raise ValueError(
                    f"{bound}={value!r} is not a datetime; give an aware one, or ISO 8601 text such as "
                    "'2026-01-05T04:00:00+00:00'"
                )
            if value.tzinfo is None or value.utcoffset() is None:
                raise ValueError(
                    f"{bound}={value.isoformat()} has no time zone; give an aware datetime, "
                    f"such as {value.isoformat()}+00:00 for UTC"
                )
        if _utc(self.from_dt) >= _utc(self.to_dt):
            raise ValueError(f"the window {self} is empty or inverted: it must end later than it begins")

    @classmethod
    def of(cls, from_dt: datetime | str, to_dt: datetime | str, *, naive: tzinfo | None = None) -> Window:
        """Build a window from datetimes or ISO 8601 strings.

        Args:
            from_dt: The first instant, with a time zone.
            to_dt: The instant after the last one, with a time zone.
            naive: The zone of a bound without one; None refuses it.

        Returns:
            The window.

        Raises:
            ValueError: A string is not ISO 8601, a bound is naive, or the window is empty or inverted.
        """
        return cls(bound_of("from_dt", from_dt, naive), bound_of("to_dt", to_dt, naive))

    def contains(self, instant: datetime) -> bool:
        """Tell whether an aware instant lies in the window."""
        return _utc(self.from_dt) <= _utc(instant) < _utc(self.to_dt)

    def wire(self) -> dict[str, str]:
        """The window as the container reads it: in UTC, the end one microsecond earlier.

        See docs/protocol.md#the-bounds-of-a-window.
        """
        end = _utc(self.to_dt) - timedelta(microseconds=1)
        return {"from_dt": _utc(self.from_dt).isoformat(), "to_dt": end.isoformat()}

    def __str__(self) -> str:
        return f"[{self.from_dt.isoformat()}, {self.to_dt.isoformat()})"


def _utc(instant: datetime) -> datetime:
    """The instant in UTC: datetimes of one zone are compared and subtracted by their wall clocks, which jump."""
    if instant.tzinfo is None:
        raise ValueError(f"{instant.isoformat()} has no time zone")
    try:
        return instant.astimezone(timezone.utc)
    except OverflowError as error:
        raise ValueError(f"{instant.isoformat()} is outside of the years 1 to 9999 in UTC") from error


def bound_of(bound: str, value: datetime | str, naive: tzinfo | None) -> datetime:
    """Read a bound of a window, as `Window.of` does; an error calls it by its name."""
    if isinstance(value, str):
        try:
            # Python 3.10 does not read the "Z" of RFC 3339.
            value = datetime.fromisoformat(value[:-1] + "+00:00" if value.endswith(("Z", "z")) else value)
        except ValueError as error:
            raise ValueError(
                f"{bound}={value!r} is not an ISO 8601 timestamp; give one such as '2026-01-05T04:00:00+00:00'"
            ) from error
    if naive is not None and isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=naive)
    return value
