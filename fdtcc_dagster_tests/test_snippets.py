"""The documentation: what its pages show is run, and what they list is what the code gives."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import textwrap
from dataclasses import FrozenInstanceError
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import dagster as dg
import polars as pl
import pytest

from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    FoundryDevToolsContainerClient,
    Schedule,
    ScheduleError,
    build_foundry_assets,
)
from fdtcc_dagster.calendar.words import in_words
from fdtcc_dagster.cli.calendar import parse_duration, parse_rule
from fdtcc_dagster.components import FoundryDatasetsComponent
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.conftest import ClientMaker
from fdtcc_dagster_tests.snippets import run_page, snippets

DOCS = Path(__file__).parents[1] / "docs"
ORDERS = "id,amount\n1,9.5\n2,3.0\n"
RUN_BY_A_TEST_OF_THEIR_OWN = ["command-line.md", "downstream.md", "testing.md", "tutorial.md"]
RUN = [
    "../README.md",
    *("automation.md", "calendars.md", "component.md", "connect.md", "datasets.md", "growth.md", "migrating.md"),
    *("performance.md", "scaling.md", "security.md", "storage.md", "upgrading.md"),
]
"""Pages whose snippets are run in their order, as one program."""


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


@pytest.mark.parametrize("page", RUN)
def test_the_python_of_a_page_runs(
    page: str, sandbox_container: SandboxContainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    orders = FoundryDataset("orders", Schedule([{"cycle": "daily", "time": "04:00:00"}]), "2024-01-01")
    # What the user has: a module of assets, datasets, and the container.
    module = ModuleType("my_project.foundry_assets")
    vars(module)["assets"] = build_foundry_assets([orders])
    project = ModuleType("my_project")
    vars(project)["foundry_assets"] = module
    monkeypatch.setitem(sys.modules, project.__name__, project)
    sandbox_container.set_live("orders", ORDERS)
    names: dict[str, Any] = {"datasets": [orders], "resource": FoundryContainerResource(host="localhost")}
    run_page(DOCS / page, names, sandbox_container.port)
    # Dagster takes a module with one only, and what a page shows is put into one module.
    assert sum(isinstance(each, dg.Definitions) for each in names.values()) <= 1


def test_the_python_of_every_page_is_run() -> None:
    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.glob("*.md")]
    assert {page for page in pages if snippets(DOCS / page)} - {*RUN} == {*RUN_BY_A_TEST_OF_THEIR_OWN}


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
    for snippet in snippets(DOCS / page):
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


def test_downstream_assets(
    sandbox_container: SandboxContainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page: dict[str, Any] = {}
    run_page(DOCS / "downstream.md", page, sandbox_container.port)
    defs: dg.Definitions = page["defs"]
    job = dg.Definitions.merge(
        defs, dg.Definitions([page["revenue_by_week"], page["change_of_revenue"]])
    ).resolve_implicit_global_asset_job_def()
    keys = ["2024-01-08", "2024-01-22", "2024-01-29"]  # nobody pulled on the 15th
    for amount, key in enumerate(keys):
        pulled_at = page["orders"].window(key).from_dt
        sandbox_container.add_version("foundry.sales.orders", pulled_at, f"id,amount\n1,{amount}.0\n2,0.5\n")
    with dg.instance_for_test() as instance:

        def run(asset: dg.AssetKey, key: str | None = None) -> pl.DataFrame:
            assert job.execute_in_process(instance=instance, asset_selection=[asset], partition_key=key).success
            return pl.read_parquet(f"{'/'.join(['data', *asset.path, *([key] if key else [])])}.parquet")

        for key in keys:
            run(page["ORDERS"], key)
        assert run(page["revenue"].key, "2024-01-22").item() == 1.5
        assert run(page["change_of_revenue"].key, "2024-01-29").item() == 1.0
        weeks = run(page["revenue_by_week"].key)
    assert weeks.rows() == [("2024-01-08", 0.5), ("2024-01-22", 1.5), ("2024-01-29", 2.5)]
    assert page["all_orders"]().collect().height == 6
    assert defs.get_repository_def().has_sensor_def("default_automation_condition_sensor")


def test_the_tutorial(sandbox_container: SandboxContainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dagster").mkdir()
    write_files("tutorial.md", tmp_path)
    found = runpy.run_path("definitions.py")
    defs, orders, key = found["defs"], found["orders"], "2026-01-05"
    sandbox_container.add_version("orders", orders.window(key).from_dt, ORDERS)
    container = FoundryContainerResource(host=sandbox_container.host, port=sandbox_container.port)
    repository = defs.get_repository_def()
    (schedule,) = repository.schedule_defs
    assert (schedule.name, list(schedule.cron_schedule)) == ("orders_schedule", ["0 6 * * *"])
    defs = dg.Definitions(defs.assets, resources={**defs.resources, "foundry_container": container})
    job = defs.resolve_implicit_global_asset_job_def()
    with dg.instance_for_test() as instance:
        assert job.execute_in_process(instance=instance, partition_key=key).success
    (listed,) = snippets(DOCS / "tutorial.md", "text")
    assert sorted(re.findall(r"── (\S+)$", listed, re.MULTILINE)) == sorted(path.name for path in tmp_path.rglob("*"))
    assert pl.read_parquet(f"data/orders/{key}.parquet").height == 2


def test_what_connecting_shows_of_nginx_and_yaml_is_what_tests_run(monkeypatch: pytest.MonkeyPatch) -> None:
    page = DOCS / "connect.md"
    (shown,) = snippets(page, "nginx")
    tested = (DOCS.parent / "deploy" / "compose" / "nginx.conf").read_text(encoding="utf-8")
    lines = [line.strip() for line in tested.splitlines()]
    assert [line for line in shown.splitlines() if line not in lines] == []
    compose, component = snippets(page, "yaml")
    assert compose in (DOCS / "tutorial.md").read_text(encoding="utf-8")
    for name, value in {"FOUNDRY_HOST": "localhost", "FOUNDRY_PORT": "8443", "FOUNDRY_TOKEN": "word"}.items():
        monkeypatch.setenv(name, value)
    attributes = textwrap.dedent(component.partition("attributes:\n")[2])
    scope = FoundryDatasetsComponent.get_additional_scope()
    loaded: Any = FoundryDatasetsComponent.resolve_from_yaml(attributes, scope=scope)
    assert [dataset.name for dataset in loaded.datasets] == ["orders"]
    assert loaded.resource.secure


def test_the_timeouts_of_connecting_are_the_defaults() -> None:
    table = (DOCS / "connect.md").read_text(encoding="utf-8").partition("## Timeouts")[2]
    fields = FoundryContainerResource.model_fields
    shown = dict(re.findall(r"^\| `(\w+_timeout)` \| (\d+ \w+) \|", table, re.MULTILINE))
    assert len(shown) == 4
    for name, written in shown.items():
        number, unit = written.split()
        assert fields[name].default == int(number) * {"s": 1, "h": 3600}[unit]


def test_the_lowest_versions_are_those_that_are_tested() -> None:
    table = (DOCS / "upgrading.md").read_text(encoding="utf-8").partition("| lowest that is tested |")[2]
    shown = {name.lower(): version for name, version in re.findall(r"^\| ([\w-]+) \| ([\d.]+) \|", table, re.MULTILINE)}
    lowest = (DOCS.parent / "constraints-lowest.txt").read_text(encoding="utf-8")
    tested = dict(re.findall(r"^([\w-]+)==(\S+)", lowest, re.MULTILINE))
    tested["python"] = re.findall(r'requires-python = ">=(.+?)"', (DOCS.parent / "pyproject.toml").read_text())[0]
    assert {name: tested[name] for name in shown} == shown
    assert len(shown) == 4
