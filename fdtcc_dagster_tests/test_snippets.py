"""The documentation: what its pages show is run, and what they list is what the code gives."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import FrozenInstanceError
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from fdtcc_dagster import FoundryDataset, FoundryDevToolsContainerClient, Schedule, ScheduleError
from fdtcc_dagster.calendar.words import in_words
from fdtcc_dagster.cli.calendar import parse_duration, parse_rule
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.conftest import ClientMaker

DOCS = Path(__file__).parents[1] / "docs"
ORDERS = "id,amount\n1,9.5\n2,3.0\n"


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


@pytest.mark.parametrize("page", ["calendars.md", "migrating.md"])
def test_the_python_of_a_page_runs(page: str, sandbox_container: SandboxContainer) -> None:
    sandbox_container.set_live("orders", ORDERS)
    names: dict[str, object] = {}
    for snippet in snippets(page):
        exec(compile(snippet.replace("8888", str(sandbox_container.port)), f"docs/{page}", "exec"), names)  # noqa: S102
    assert names


async def test_migrating_from_the_reference_client(
    sandbox_container: SandboxContainer, make_client: ClientMaker
) -> None:
    """What the tables of docs/migrating.md say of us, and no other test does."""
    sandbox_container.set_live("orders", "id,code\n1,007\n")
    client, now, day = make_client(), datetime.now(timezone.utc), timedelta(days=1)
    said: list[str] = []
    logging_client = make_client(log_func=lambda _, message: said.append(message))
    frame, done = await logging_client.get_single(None, "oders", now - day, now + day)
    assert (frame.shape, done) == ((0, 0), False)
    assert "foundry_datasets.toml" in said[-1]
    sandbox_container.inject("orders", faults.JobFailure("Query failed."))
    assert (await client.get_single(None, "orders", now - day, now + day))[1] is False
    with pytest.raises(ValueError, match="inverted"):
        await client.get_single(None, "orders", now, now - day)
    assert (await client.get_single(None, "orders", now + day, now + 2 * day))[1] is False
    for missing_version, expected in {"accept": True, "raise": False}.items():
        past = await make_client(missing_version=missing_version).get_single(None, "orders", now - 9 * day, now - day)
        assert past[1] is expected
    frame, _ = await client.get_single(None, "orders", str(now - day), str(now + day), use_zip=True)
    assert frame.rows() == [(1, "007")]
    assert (await client.download("0" * 64))[0] == "Failed"
    for arguments in ({"port": "8000"}, {"host": "localhost:8000"}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            FoundryDevToolsContainerClient(**arguments)  # type: ignore[arg-type]
    assert not hasattr(client, "url_base")
    assert not hasattr(client, "download_url")
    schedule = Schedule([{"cycle": "weekly", "day": "Monday", "time": "04:00:00"}])
    with pytest.raises(FrozenInstanceError):
        schedule.buffer = day  # type: ignore[misc]
    with pytest.raises(ScheduleError, match="time zone"):
        schedule.get_latest_refresh(now.replace(tzinfo=None))
    page = (DOCS / "migrating.md").read_text(encoding="utf-8")
    names = re.findall(r"^\| (`Refresh\.padding.*?) \|", page, re.MULTILINE)
    absent = re.findall(r"`(?:Refresh\.)?(\w+)`", names[0])
    assert len(absent) == 6
    assert not [name for name in absent if hasattr(schedule.refreshs[0], name)]


def write_files(page: str, directory: Path) -> None:
    """Write the blocks of a page that begin with a file's name."""
    for snippet in snippets(page):
        named = re.match(r"# (\w+\.py)\n", snippet)
        if named:
            (directory / named[1]).write_text(snippet, encoding="utf-8")


@pytest.mark.slow
def test_the_tests_of_the_page_on_testing_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files("testing.md", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(DOCS.parent))
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "-c", "/dev/null", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False, timeout=100)
    assert re.search(r"^6 passed", done.stdout, re.MULTILINE), done.stdout + done.stderr


def test_the_page_on_testing_lists_all_faults() -> None:
    cells = (DOCS / "testing.md").read_text(encoding="utf-8").partition("## Faults")[2]
    kinds = {
        name for name, kind in vars(faults).items() if isinstance(kind, type) and kind.__module__ == faults.__name__
    }
    assert set(re.findall(r"`(\w+)\(\w*\)`", cells)) == kinds
