"""Stopping scans that are under way: Polars reads in threads of its own, which no interrupt reaches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

Frame = TypeVar("Frame")

_stops = 0


def stop_scans() -> None:
    """Let every scan that is under way in this process fail at its next block; later ones are not affected."""
    global _stops
    _stops += 1


def stoppable(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Pass on the blocks of a scan until `stop_scans` is called.

    Args:
        frames: The blocks.

    Yields:
        The blocks.

    Raises:
        RuntimeError: It was called.
    """
    began = _stops
    for frame in frames:
        if _stops != began:
            raise RuntimeError("the scan was stopped")
        yield frame
