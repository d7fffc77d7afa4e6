"""What a user sees and does in Dagster's UI: materialize, backfill, read why something failed, terminate, refetch."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.browser.conftest import Shoot
from fdtcc_dagster_tests.browser.dagster_ui import SETTINGS, DagsterUI
from fdtcc_dagster_tests.midday import TODAY, ZONE, midnight
from fdtcc_dagster_tests.real_instance import RealInstance, dagster_dev, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]

DAYS = [(TODAY - timedelta(days=back)).isoformat() for back in range(7, -1, -1)]
MISSED = DAYS[3]
SEEN_NOWHERE = "what-nobody-may-see"
LOCATION = (Path(__file__).parent / "location.py").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Site:
    container: SandboxContainer
    instance: RealInstance

    def run(self, asset: str, first: str, last: str | None = None) -> None:
        """Materialize some partitions beforehand, without the UI."""
        run = self.instance.materialize("shop", [asset], first, last)
        assert wait_until(lambda: self.instance.ended(run), every=0.5) == "SUCCESS"

    def file(self, asset: str, key: str) -> Path:
        return self.instance.parquet / asset / f"{key}.parquet"


def csv_of(day: date) -> str:
    return "id,customer,amount\n" + "".join(f"{n},Customer {n % 7},{n}.5\n" for n in range(rows_of(day)))


def rows_of(day: date | str) -> int:
    """More than a thousand, and each day a few more."""
    return 1200 + 10 * ((day if isinstance(day, date) else date.fromisoformat(day)) - TODAY).days


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("ui")
    with SandboxContainer() as container, pytest.MonkeyPatch.context() as patch:
        for name, value in (("ZONE", ZONE), ("START", DAYS[0]), ("TOKEN", SEEN_NOWHERE)):
            patch.setenv(f"TEST_{name}", value)
        for day in map(date.fromisoformat, DAYS):
            container.add_version("returns", midnight(day) + timedelta(seconds=1), csv_of(day))
            if day.isoformat() not in (MISSED, DAYS[-1]):
                container.add_version("orders", midnight(day) + timedelta(seconds=1), csv_of(day))
        container.set_live("orders", csv_of(TODAY))
        with dagster_dev(directory, {"shop": LOCATION}, container.port, SETTINGS) as instance:
            yield Site(container, instance)


@pytest.fixture
def ui(site: Site, page: Page) -> DagsterUI:
    return DagsterUI(page, site.instance.url)


def test_a_partition_is_materialized_and_shows_its_rows_and_size(site: Site, ui: DagsterUI, shoot: Shoot) -> None:
    key = DAYS[-1]
    ui.materialize("orders", key, "Launch 1 run")
    ui.wait_for_partitions("orders", materialized=1, failed=0)
    names = [name for name, _ in ui.metadata(key)]
    shoot("partition")
    assert ui.color_of(key) == "green"
    assert names[:3] == ["dagster/row_count", "foundry/origin", "dagster/size_bytes"]
    assert names.index("path") < names.index("foundry/window_from") < names.index("foundry/sha256")
    ui.open_asset("orders")
    tile = ui.page.get_by_text("Row count").locator("xpath=..")
    assert tile.inner_text().split() == ["Row", "count", f"{rows_of(key):,}"]
    size = site.file("orders", key).stat().st_size
    for text in (
        f"{size / 1000:.1f}KB",
        "What was ordered in the shop.",
        "Euros, with tax",
        "every day 00:00",
        "sales",
        "foundry",
    ):
        ui.sees(text)


def test_a_backfill_shows_which_partition_failed_and_why(site: Site, ui: DagsterUI, shoot: Shoot) -> None:
    first, last = DAYS[1], DAYS[5]
    ui.materialize("orders", f"[{first}...{last}]", "Launch backfill")
    ui.wait_for_partitions("orders", failed=1)
    ui.page.locator(f"[data-tooltip='{MISSED}']").first.click()
    shoot("partitions")
    assert [ui.color_of(day) for day in DAYS[1:6]] == ["red" if day == MISSED else "green" for day in DAYS[1:6]]
    ui.open_failed_run()
    shoot("run")
    ui.sees(f"1 of {len(DAYS[1:6])} partitions failed, the others are stored")
    table = ui.open_failures()
    shoot("failures")
    header, row = (line.split("\t") for line in table.inner_text().splitlines())
    assert header == ["partition", "error", "why, and what to do"]
    assert row[:2] == [MISSED, "NoVersionInWindowError"]
    assert "leave the partition missing, or set missing_version" in row[2]
    ui.open_asset("orders", "events")
    ui.page.get_by_text(MISSED).first.click()
    shoot("observation")
    ui.sees("the container has no version that was pulled in this window")
    ui.open_asset("orders", "checks", checkDetail="foundry_row_count_change")
    shoot("checks")
    ui.sees("All 4 partitions pass.")
    # Not the one that failed, but the others: cached versions, of which nobody knows how many rows they should have.
    wait_until(lambda: ui.page.get_by_text("Succeeded").count() == 4)
    ui.open_asset("orders")
    ui.page.get_by_role("button", name="Plots").click()
    assert ui.gaps_in_plot("dagster/row_count") > 0  # of the partition that failed


def test_plots_have_no_gaps(site: Site, ui: DagsterUI, shoot: Shoot) -> None:
    site.run("returns", DAYS[0], DAYS[4])
    site.run("returns", DAYS[2], DAYS[3])  # they are stored already, so neither downloaded nor stored again
    ui.open_asset("returns")
    ui.page.get_by_role("button", name="Plots").click()
    for by in ("Partitions", "Events"):
        ui.page.get_by_role("button", name=re.compile(f"{by}$")).click()
        for name in ("dagster/row_count", "dagster/size_bytes"):
            assert ui.gaps_in_plot(name) == 0, (by, name)
        shoot(by)


def test_a_terminated_pull_leaves_the_old_file(site: Site, ui: DagsterUI, shoot: Shoot) -> None:
    key = DAYS[6]
    site.run("returns", key)
    file = site.file("returns", key)
    before = file.read_bytes(), file.stat().st_mtime_ns
    site.container.inject("returns", faults.Silence())
    ui.refetch("returns", key)
    ui.sees("container: Connection established")
    ui.page.get_by_role("button", name="Terminate").click()
    ui.dialog("Terminate runs").get_by_role("button", name=re.compile("Terminate 1 run")).click()
    ui.sees("RUN_CANCELED")
    shoot("canceled")
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
    assert list(site.instance.spool.iterdir()) == []
    ui.open_asset("returns", "partitions")
    wait_until(lambda: ui.color_of(key) == "green")


def test_refetch_in_the_launchpad_stores_the_partition_again(site: Site, ui: DagsterUI) -> None:
    key = DAYS[7]
    site.run("orders", key)
    file = site.file("orders", key)
    before = file.stat().st_mtime_ns
    ui.refetch("orders", key)
    ui.sees(f"Stored {rows_of(key):,} rows")
    ui.sees("RUN_SUCCESS")
    assert file.stat().st_mtime_ns > before


def test_the_other_pages_say_what_they_are_about(ui: DagsterUI, shoot: Shoot) -> None:
    ui.open("locations/__repository__@shop/resources/foundry_container")
    ui.sees('"127.0.0.1"', "TEST_CONTAINER_PORT", "TEST_TOKEN")
    shoot("resource")
    assert SEEN_NOWHERE not in ui.page.content()
    ui.open("locations/__repository__@shop/schedules/orders_schedule")
    ui.sees("every day 00:00")
    shoot("schedule")
    ui.open("locations/__repository__@shop/sensors/foundry_sensor")
    ui.sees("Requests available refreshes of Foundry datasets")
    shoot("sensor")
    ui.open_asset("orders", "lineage", lineageScope="neighbors")
    ui.sees("8 partitions")
    shoot("lineage")
    ui.open_asset("orders")
    ui.page.locator("a[href*='/assets/foundry/orders']").first.click()
    ui.sees("The dataset 'orders' in Foundry.")
