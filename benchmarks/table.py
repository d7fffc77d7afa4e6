"""The table that a benchmark prints."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from benchmarks.bench import Measured


@dataclass(frozen=True)
class Row:
    """One line.

    Attributes:
        what: What was measured.
        values: The measured figure of each round; none for a baseline.
        bound: What its median may be at most; None for a baseline, and for a figure that is no more than information.
        unit: Empty for a ratio, `"s"`, `"MB"` or `"files"`.
        seconds: How long the job took in each round.
        cpu: How many seconds of the processor it and the container took in each round.
        peak_mb: Its process's peak memory in each round, in MB.
    """

    what: str
    values: Sequence[float]
    bound: float | None
    unit: str
    seconds: Sequence[float]
    cpu: Sequence[float]
    peak_mb: Sequence[float]

    @property
    def met(self) -> bool:
        """Whether the bound is kept, if there is one."""
        return self.bound is None or statistics.median(self.values) <= self.bound

    def json(self) -> dict[str, object]:
        """The row as JSON."""
        return asdict(self) | {"met": self.met}


def size_text(size: int) -> str:
    """A number of bytes, such as `4 GB`."""
    return f"{size / 1e9:g} GB" if size >= 1e9 else f"{size / 1e6:g} MB"


def baseline(what: str, job: Measured) -> Row:
    """A line of something that others are compared with."""
    return Row(what, (), None, "", job.seconds, job.cpu, job.peak_mb)


def figure(what: str, values: Sequence[float], bound: float | None, job: Measured, unit: str = "") -> Row:
    """A line of a figure and its bound, if it has one."""
    return Row(what, values, bound, unit, job.seconds, job.cpu, job.peak_mb)


def render(rows: Iterable[Row]) -> str:
    """Lay rows out as a Markdown table.

    Args:
        rows: The rows.

    Returns:
        The table: medians, and in brackets the lowest and the highest of all rounds.
    """
    head = ["what", "bound", "measured", "", "seconds", "processor", "peak MB"]
    cells = [head] + [_cells(row) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = [" | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in cells]
    lines.insert(1, "-|-".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" if index != 1 else f"|-{line}-|" for index, line in enumerate(lines))


def _cells(row: Row) -> list[str]:
    decimals, unit = 0 if row.unit in ("MB", "files") else 2, row.unit and f" {row.unit}"
    bound, met = ("", "") if row.bound is None else (f"≤ {row.bound:.{decimals}f}{unit}", "yes" if row.met else "NO")
    measured = _spread(row.values, decimals) + unit if row.values else ""
    return [row.what, bound, measured, met, _spread(row.seconds, 2), _spread(row.cpu, 2), f"{max(row.peak_mb):.0f}"]


def _spread(values: Sequence[float], decimals: int) -> str:
    median = f"{statistics.median(values):.{decimals}f}"
    if len(values) == 1:
        return median
    return f"{median} ({min(values):.{decimals}f}…{max(values):.{decimals}f})"
