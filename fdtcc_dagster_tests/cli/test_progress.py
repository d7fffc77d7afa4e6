from __future__ import annotations

import io

import pytest
from rich.console import Console

from fdtcc_dagster.cli.progress import Progress, described


@pytest.mark.parametrize(
    ("size", "rows", "announced", "seconds", "done", "text"),
    [
        (0, 0, None, 0.1, None, ""),
        (4_000_000, 0, 3, 0.1, 0.0, "4.0 MB, 0 of 3 rows (0 %)"),
        (
            59_000_000,
            1_200_000,
            2_400_000,
            30.0,
            0.5,
            "59.0 MB, 1.2 of 2.4 million rows (50 %), 2.0 MB/s, 0:30 left",
        ),
        (1_500_000, 10, None, 1.0, None, "1.5 MB, 10 rows, 1.5 MB/s"),
        (1_500_000, 10, 5, 1.0, 2.0, "1.5 MB, 10 of 5 rows (100 %), 1.5 MB/s, 0:00 left"),
    ],
)
def test_progress_in_words(
    size: int, rows: int, announced: int | None, seconds: float, done: float | None, text: str
) -> None:
    assert described(size, rows, announced, seconds, done) == text


def test_on_a_terminal_there_are_a_bar_and_the_messages() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    with Progress("orders", console) as progress:
        progress.message({"type": "update", "message": "Found [bold]3[/bold] rows\x1b[2J"})
        progress.message({"type": "keepalive", "message": "Still working..."})
        progress.rows(1, 3)
        progress.bytes(2_000_000, None)
        progress.rows(2, 3)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Found [bold]3[/bold] rows\\x1b[2J\n" in text
    assert "2.0 MB, 2 of 3 rows (66 %)" in text
    assert "Still working" not in text


def test_elsewhere_there_are_only_the_messages() -> None:
    console = Console(file=io.StringIO(), width=20)
    with Progress("orders", console) as progress:
        progress.message({"message": "a message that is longer than a line"})
        progress.rows(1, 3)
    assert console.file.getvalue() == "a message that is longer than a line\n"  # type: ignore[attr-defined]
