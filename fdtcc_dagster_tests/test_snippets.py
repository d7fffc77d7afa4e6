"""The documentation: what its pages show is run, and what they list is what the code gives."""

from __future__ import annotations

import re
from datetime import date, datetime, timezone
from pathlib import Path

import pytest

from fdtcc_dagster import FoundryDataset, Schedule
from fdtcc_dagster.calendar.words import in_words
from fdtcc_dagster.cli.calendar import parse_duration, parse_rule

DOCS = Path(__file__).parents[1] / "docs"


def calendar_row(cell: str) -> str:
    """The row of docs/calendars.md for rules as `fdtcc calendar` takes them."""
    rules, zone, buffer = re.findall(r"`(.*?)`", cell), re.search(r" in (\S+)", cell), re.search(r" after (\S+)", cell)
    schedule = Schedule(
        map(parse_rule, rules), parse_duration(buffer[1] if buffer else "2h"), zone[1] if zone else "UTC"
    )
    dataset = FoundryDataset("orders", schedule, date(2025, 1, 1))
    first, *later = dataset.windows(datetime(2026, 2, 27, 12, tzinfo=timezone.utc), 3)

    def short(instant: datetime) -> str:
        return instant.strftime("%Y-%m-%d %H:%M")

    keys = ", ".join(f"`{each.partition_key}`" for each in [first, *later])
    # On a date with two refreshes, the later one counts from when it is available on.
    window = dataset.window(first.partition_key, now=max(first.requested_at))
    ticks = ", ".join(map(short, first.requested_at))
    return f"| {cell} | {in_words(schedule)} | {keys} | {short(window.from_dt)} to {short(window.to_dt)} | {ticks} |"


def test_the_table_of_calendars_is_what_the_code_gives() -> None:
    page = (DOCS / "calendars.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `.*\|$", page, re.MULTILINE)
    expected = [calendar_row(row.split(" | ")[0].removeprefix("| ")) for row in rows]
    assert rows == expected, "the page should have:\n" + "\n".join(expected)
    assert len(rows) >= 15


def snippets(page: str, language: str = "python") -> list[str]:
    """The blocks of a page in a language."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["calendars.md"])
def test_the_python_of_a_page_runs(page: str) -> None:
    names: dict[str, object] = {}
    for snippet in snippets(page):
        exec(compile(snippet, f"docs/{page}", "exec"), names)  # noqa: S102
    assert names
