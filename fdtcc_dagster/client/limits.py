"""How long to wait for the container, and how much to accept from it.

Why the defaults are so long: docs/protocol.md#the-handshake and docs/protocol.md#keepalives-and-silence.
"""

from __future__ import annotations

from dataclasses import dataclass

from fdtcc_dagster.pandas_csv.blocks import MAX_RECORD_BYTES

_COUNTS = {"max_bytes": "bytes", "max_handshakes": "handshakes", "max_record_bytes": "bytes"}


@dataclass(frozen=True)
class Limits:
    """What ends a pull that would not end by itself.

    Attributes:
        open_timeout: Seconds for a connection and its handshake; the container loads credentials before it answers.
        idle_timeout: Seconds without any frame or byte; the container is silent for minutes during large writes.
        job_timeout: Seconds for a whole conversation, with keepalives or without.
        transfer_timeout: Seconds for a whole download, however slow it is.
        max_bytes: Bytes of a snapshot's CSV, also if it arrives as a ZIP.
        max_handshakes: How many handshakes with the container there may be at a time on this machine.
        max_record_bytes: Bytes of one record of a snapshot's CSV.

    Raises:
        ValueError: A limit is not a positive number.
    """

    open_timeout: float = 60.0
    idle_timeout: float = 600.0
    job_timeout: float = 14_400.0
    transfer_timeout: float = 14_400.0
    max_bytes: int = 64 << 30
    max_handshakes: int = 2
    max_record_bytes: int = MAX_RECORD_BYTES

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            unit, types = _COUNTS.get(name, "seconds"), int if name in _COUNTS else (int, float)
            if isinstance(value, bool) or not isinstance(value, types) or not value > 0:
                raise ValueError(f"{name}={value!r} must be a positive number of {unit}")
