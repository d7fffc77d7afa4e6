"""The first frame of a conversation, read as leniently and as wrongly as the service reads it.

See docs/protocol.md#the-bounds-of-a-window and docs/protocol.md#a-malformed-request.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

# The service's fixed default.
_FROM, _TO = "2025-06-01T00:00:00", "2025-06-30T23:59:59"


@dataclass(frozen=True)
class Request:
    """A parsed request.

    Attributes:
        names: The requested datasets.
        from_dt: What the request says, or the default.
        to_dt: Likewise.
        raw: The whole JSON object.
    """

    names: tuple[str, ...]
    from_dt: Any
    to_dt: Any
    raw: dict[str, Any]

    @classmethod
    def parse(cls, data: Any) -> Request:
        """Read the payload of the first frame.

        Raises:
            ValueError: It is malformed.
        """
        if not isinstance(data, str):
            raise ValueError("the request is not a text frame")
        raw = json.loads(data)
        if not isinstance(raw, dict):
            raise ValueError("Input should be a valid dictionary")
        names = raw.get("names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("names: Input should be a valid list of strings")
        # Twice the same name is one dataset.
        unique = tuple(dict.fromkeys(names))
        return cls(unique, raw.get("from_dt", _FROM), raw.get("to_dt", _TO), raw)

    def window(self, now: datetime) -> tuple[datetime, datetime]:
        """The bounds as naive datetimes, both inclusive and maybe inverted; offsets are dropped, not converted.

        Args:
            now: The current instant in UTC, which a `to_dt` of null means.

        Raises:
            TypeError: A bound is neither a string nor a `to_dt` of null.
            ValueError: A bound is not ISO 8601.
        """
        end = now.replace(tzinfo=None) if self.to_dt is None else _naive(self.to_dt)
        return _naive(self.from_dt), end


def _naive(value: Any) -> datetime:
    if not isinstance(value, str):
        raise TypeError("fromisoformat: argument must be str")
    try:
        # Python 3.10 does not read the "Z" of RFC 3339.
        instant = datetime.fromisoformat(value[:-1] + "+00:00" if value.endswith(("Z", "z")) else value)
    except ValueError as error:
        raise ValueError(f"Invalid isoformat string: {value!r}") from error
    return instant.replace(tzinfo=None)
