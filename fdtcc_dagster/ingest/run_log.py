"""Writes a pull's messages and progress to a run log, at a rate that a human can read."""

from __future__ import annotations

import logging
import time

import dagster as dg

from fdtcc_dagster.client.protocol import Message
from fdtcc_dagster.redaction import LOGGED, excerpt

_PROGRESS_SECONDS = 10.0
_WORTH_A_LINE = 50_000  # bytes that have arrived
_KEEPALIVE_SECONDS = 300.0
_MOST_MESSAGES = 100
_THINNED_SECONDS = 60.0
_DONE = "DONE"
"""The container's last message, also of a job that failed; the lines after it say what the result was."""


def as_shown(message: Message) -> Message:
    """The part of a message that is shown, so that a frame of 1 MiB need not be kept until then."""
    return {
        "type": excerpt(message.get("type")),
        "success": message.get("success") is not False,
        "message": excerpt(message.get("message"), LOGGED),
    }


class PullLog:
    """Writes the container's messages and a download's progress to a run log.

    Messages are written as they arrive, up to a thousand characters of each. After the first hundred, there is at most
    one a minute, with the number of those that are left out, because Dagster takes tens of milliseconds to write one.
    Keepalives are written at most every five minutes, and progress every ten seconds.

    Args:
        log: The log.
        prefix: The beginning of each line, such as the partition in a run of several.

    Attributes:
        announced_rows: How many rows the snapshot has, when that is known.
    """

    def __init__(self, log: dg.DagsterLogManager, prefix: str = "") -> None:
        self._log = log
        self._prefix = prefix
        self._began = self._keepalive_at = self._progress_at = time.monotonic()
        self._downloading: float | None = None
        self._shown = self._left_out = 0
        self._shown_at = self._began
        self._rows_read = 0
        self.announced_rows: int | None = None

    def notice(self, message: Message) -> None:
        """Write a message of the client itself."""
        self._write(message, "")

    def message(self, message: Message) -> None:
        """Write a message of the container."""
        now = time.monotonic()
        if message.get("message") == _DONE:
            return
        if message.get("type") == "keepalive":
            if now - self._keepalive_at >= _KEEPALIVE_SECONDS:
                self._keepalive_at = now
                minutes = (now - self._began) / 60
                self._write({**message, "success": True}, "container: ", f" ({minutes:.0f} minutes so far)")
        elif self._is_shown(now):
            self._write(message, "container: ")
        else:
            self._left_out += 1

    def _write(self, message: Message, speaker: str, more: str = "") -> None:
        failed = message.get("success") is False and message.get("type") != "neutral"
        text = f"{self._prefix}{speaker}{excerpt(message.get('message'), LOGGED)}{more}"
        self._log.log(logging.WARNING if failed else logging.INFO, text)

    def end(self) -> None:
        """At the end of the conversation, write how many messages were left out since the last one that was written."""
        if self._left_out:
            self._log.info(f"{self._prefix}Messages of the container that are not shown: {self._left_out:,}")
            self._left_out = 0

    def _is_shown(self, now: float) -> bool:
        if self._shown >= _MOST_MESSAGES and now - self._shown_at < _THINNED_SECONDS:
            return False
        self.end()
        self._shown, self._shown_at = self._shown + 1, now
        return True

    def progress(self, size_bytes: int, total_bytes: int | None = None) -> None:
        """Write how much of a download has arrived. The container does not report the total, but a proxy may."""
        now = time.monotonic()
        if self._downloading is None:
            # Progress is told a second after the first bytes.
            self._downloading = self._progress_at = now - 1.0
        if now - self._progress_at >= _PROGRESS_SECONDS and size_bytes >= _WORTH_A_LINE:
            self._progress_at = now
            rate = size_bytes / (now - self._downloading)
            arrived = f"{size_of(size_bytes)}{_share(size_bytes, total_bytes)}"
            of = "" if self.announced_rows is None else f" of {self.announced_rows:,}"
            rows = f", {self._rows_read:,}{of} rows{_share(self._rows_read, self.announced_rows)}"
            self._log.info(f"{self._prefix}{arrived} arrived{rows if self._rows_read else ''}, {size_of(rate)}/s")

    def rows(self, number: int) -> None:
        """Note how many rows were read, from any thread; `progress` writes it."""
        self._rows_read = number


def _share(part: int, whole: int | None) -> str:
    return f" ({min(part * 100 // whole, 99)}%)" if whole else ""


def size_of(size_bytes: float) -> str:
    """Format a number of bytes with few digits: `640 bytes`, `6.3 KB`, `59 MB`."""
    if size_bytes < 1_000:
        return f"{size_bytes:.0f} bytes"
    size, unit = (size_bytes / 1e3, "KB") if size_bytes < 999_500 else (size_bytes / 1e6, "MB")
    return f"{size:,.0f} {unit}" if size >= 9.95 else f"{size:.1f} {unit}"


def in_rows(number: int) -> str:
    """Format a number of rows: `1 row`, `250,000 rows`."""
    return f"{number:,} row" if number == 1 else f"{number:,} rows"
