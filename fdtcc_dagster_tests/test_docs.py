"""The documentation: what its tables name exists, and its links lead somewhere."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from fdtcc_dagster import FoundryDataset, Refresh, Schedule

ROOT = Path(__file__).parents[1]
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")]
PAGES = [*TOP, *sorted(page for folder in ("docs", "examples") for page in (ROOT / folder).rglob("*.md"))]
ADRS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
TABLES = [ROOT / "docs" / "promises.md", ROOT / "docs" / "security.md"]


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def functions_of(file: Path) -> set[str]:
    # Not by `ast`: CPython 3.11 miscounts its depth of recursion after some libraries' greenlets.
    return set(re.findall(r"^(?:    )?(?:async )?def (\w+)", file.read_text(encoding="utf-8"), re.MULTILINE))


def rows_of(page: Path) -> list[tuple[str, str]]:
    """The promises of a page, each with the cell that says what holds it."""
    rows, header = [], ""
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else []
        if not cells:
            header = ""
        elif not header:
            header = cells[0]
        elif header == "promise" and not set(line) <= set("|- "):
            assert len(cells) == 2, f"{line!r} has not two cells"
            rows.append((cells[0], cells[1]))
    return rows


def missing_in(cell: str, directory: Path) -> list[str]:
    """What a cell names and does not exist: files, of the directory or the repository, and functions in them."""
    missing, file, names = [], None, set[str]()
    for name in re.findall(r"`([\w/]+(?:\.py)?)`", cell):
        if name.endswith(".py"):
            file = next((path for path in (directory / name, ROOT / name) if path.is_file()), None)
            names = functions_of(file) if file else set()
        if (file is None) if name.endswith(".py") else (name not in names):
            missing.append(name)
    return missing


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", TABLES, ids=page_id)
def test_every_promise_has_a_test_that_exists(page: Path) -> None:
    found = re.search(r"The tests are in\s+`([\w/]+)`", page.read_text(encoding="utf-8"))
    assert found, f"{page.name} does not say where its tests are"
    rows = rows_of(page)
    assert len(rows) > 10
    for promise, cell in rows:
        assert ".py`" in cell, f"{promise!r} has no test"
        assert missing_in(cell, ROOT / found[1]) == [], f"{promise!r} names what does not exist"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_to_what_exists(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors_of(target), f"{link} leads to no heading"


def test_windows_are_those_of_the_table() -> None:
    page = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    lines = page.partition("| rules | buffer | key | at | window |\n|---|---|---|---|---|\n")[2].partition("\n\n")[0]
    examples = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines.splitlines()]
    assert len(examples) > 10
    for rules, buffer, key, clock, window in examples:
        names, _, zone = rules.partition("` in `")
        refreshes = []
        for rule in names.split("`, `"):
            cycle, *day, time = rule.split()
            number = int(day[0]) if day and day[0].isdigit() else "".join(day) or None
            refreshes.append(Refresh(cycle, number, time))
        schedule = Schedule(refreshes, timedelta(hours=int(buffer.removesuffix("h"))), zone or "UTC")
        now = datetime.fromisoformat(f"{key}T{clock or '12:00'}+00:00")
        assert str(FoundryDataset("orders", schedule, "2026-01-01").window(key, now)) == window, rules


def test_every_page_is_linked_from_the_readme() -> None:
    links = {(ROOT / link).resolve() for link in re.findall(r"\]\(([^)#\s]+)\)", TOP[0].read_text(encoding="utf-8"))}
    assert [page_id(page) for page in (ROOT / "docs").glob("*.md") if page not in links] == []


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = re.findall(r"^      - (?:[\w ]+: )?([\w/-]+\.md)$", site, re.MULTILINE)
    assert [page.name for page in (ROOT / "docs").glob("*.md") if page.name not in named] == []
    assert len(named) == len(set(named))


@pytest.mark.parametrize("adr", ADRS, ids=page_id)
def test_a_decision_has_a_status_and_a_date_and_is_in_the_index(adr: Path) -> None:
    found = re.match(
        r"# (\d+)\. (.+)\n\n- Status: (accepted|superseded by \[ADR \d+\]\([\w.-]+\))\n- Date: (\d{4}-\d\d-\d\d)\n\n",
        adr.read_text(encoding="utf-8"),
    )
    assert found, "it does not begin with a number, a title, a status and a date"
    number, title, status, date = found.groups()
    assert adr.name.startswith(f"{int(number):04}-")
    assert f"| {number} | [{title}]({adr.name}) | {status} | {date} |\n" in (adr.parent / "README.md").read_text()


SOURCES = sorted({*ROOT.glob("fdtcc_dagster*/**/*.py"), *ROOT.glob("benchmarks/*.py"), *ROOT.glob("examples/**/*.py")})
UNDEFINED = re.compile(r"\bS(?!3\b)\d{1,2}b?\b|\(S3[,)]|\(D\d{1,2}\)|\b(?:PROTOCOL|DESIGN)[.]md")
"""Cases and decisions by numbers that no page defines, and pages that are not there; S3 is the store."""


def test_nothing_is_cited_that_no_page_defines() -> None:
    found = {page_id(file): UNDEFINED.findall(file.read_text(encoding="utf-8")) for file in [*PAGES, *SOURCES]}
    assert {name: cited for name, cited in found.items() if cited} == {}


def test_the_code_cites_pages_and_headings_that_exist() -> None:
    cited = set[tuple[str, str]]()
    for file in SOURCES:
        cited.update(re.findall(r"\b(docs/[\w/-]+\.md)(?:#([\w-]+))?", file.read_text(encoding="utf-8")))
    anchors = {page: anchors_of(ROOT / page) for page, _ in cited}
    assert [f"{page}#{anchor}" for page, anchor in sorted(cited) if anchor and anchor not in anchors[page]] == []
    assert len(cited) > 20


def test_the_map_has_each_module_once() -> None:
    map_, cells = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## The map")[2], []
    for section in re.split(r"^### ", map_.partition("## Where")[0], flags=re.MULTILINE)[1:]:
        package = next(iter(re.findall(r"^`(\w+/)`", section)), "")
        for row in re.findall(r"^\| (`.+?) \|", section, re.MULTILINE):
            cells += [package + name for name in re.findall(r"`([\w/]+)`", row.replace(".py", ""))]
    package = ROOT / "fdtcc_dagster"
    modules = {str(file.relative_to(package).with_suffix("")) for file in package.rglob("[!_]*.py")}
    whole = tuple(name for name in cells if name.endswith("/"))
    expected = {module for module in modules if not module.startswith(whole)} | set(whole)
    assert (set(cells) - expected, expected - set(cells)) == (set(), set()), "in the map only, and not in the map"
    assert len(cells) == len(set(cells))
