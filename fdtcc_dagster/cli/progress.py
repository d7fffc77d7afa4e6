"""The progress of a pull on stderr: a bar on a terminal, and lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Column
from rich.text import Text

from fdtcc_dagster.redaction import excerpt


class Progress:
    """Shows the container's messages, and how much has arrived: bytes, rows of the announced ones, rate, ETA.

    Args:
        dataset: What is pulled.
        console: Where; stderr if None.
    """

    def __init__(self, dataset: str, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr, highlight=False)
        self._bar = Bar(
            SpinnerColumn(),
            BarColumn(bar_width=10),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task(excerpt(dataset), total=None)
        self._size = self._rows = 0
        self._total: int | None = None
        self._announced: int | None = None
        self._began: float | None = None

    def __enter__(self) -> Progress:
        # Elsewhere, rich would end it by an empty line.
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def message(self, message: dict[str, Any]) -> None:
        """Show a message of the container, or of the client itself; not the last one, which says "DONE"."""
        if message.get("type") not in ("keepalive", "final"):
            self._console.print(Text(excerpt(message.get("message", ""), 1000)), soft_wrap=True)

    def bytes(self, size: int, total: int | None) -> None:
        """Show how many bytes have arrived, of how many if that is known."""
        self._size, self._total = size, total
        self._show()

    def rows(self, rows: int, announced: int | None) -> None:
        """Show how many rows have been read, of how many if that was announced; the first call begins the download."""
        self._rows, self._announced = rows, announced
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if self._began is None:
            self._began = now
        done, total = (self._size, self._total) if self._total else (self._rows, self._announced)
        text = described(self._size, self._rows, self._announced, now - self._began, done / total if total else None)
        self._bar.update(self._task, description=text, completed=done, total=total)


def described(size: int, rows: int, announced: int | None, seconds: float, done: float | None) -> str:
    """Describe progress in words.

    Args:
        size: Bytes that have arrived.
        rows: Rows that have been read.
        announced: How many rows there will be, if that was announced.
        seconds: How long it has taken so far.
        done: Which part of it is done, if that is known.
    """
    parts = [f"{size / 1e6:,.1f} MB"] if size else []
    if announced:
        read, of = f"{rows:,}", f"{announced:,}"
        if announced >= 10**6:
            read, of = f"{rows / 1e6:,.1f}", f"{announced / 1e6:,.1f} million"
        parts.append(f"{read} of {of} rows ({min(rows * 100 // announced, 100)} %)")
    elif rows:
        parts.append(f"{rows:,} rows")
    if seconds >= 1 and size:
        parts.append(f"{size / 1e6 / seconds:,.1f} MB/s")
    if done and seconds >= 1:
        left = max(round(seconds / done - seconds), 0)
        parts.append(f"{left // 60}:{left % 60:02} left")
    return ", ".join(parts)
