"""Stopping scans and uploads that are under way: they run in threads of their own, which no interrupt reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

Frame = TypeVar("Frame")

_stops = 0


def stop_scans() -> None:
    """Let every scan and upload that is under way in this process fail soon; later ones are not affected."""
    global _stops
    _stops += 1


def watch_stops() -> Callable[[], bool]:
    """Give a function that says whether `stop_scans` was called since."""
    began = _stops
    return lambda: _stops != began


def stoppable(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Pass on the blocks of a scan until `stop_scans` is called.

    Args:
        frames: The blocks.

    Yields:
        The blocks.

    Raises:
        RuntimeError: It was called.
    """
    stopped = watch_stops()
    for frame in frames:
        if stopped():
            raise RuntimeError("the scan was stopped")
        yield frame
