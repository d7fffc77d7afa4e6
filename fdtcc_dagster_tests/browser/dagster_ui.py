"""Dagster's UI as a user walks through it: pages are opened, buttons are clicked, and what follows is waited for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

SETTINGS = """
nux:
  enabled: false
run_coordinator:
  module: dagster.core.run_coordinator
  class: DefaultRunCoordinator
"""
"""For dagster.yaml: no welcome, and no queue of runs."""

_COLUMNS_OF_LINE = """plot => {
    const {width, height} = plot;
    const pixels = plot.getContext("2d").getImageData(0, 0, width, height).data;
    const found = new Set();
    for (let at = 0; at < pixels.length; at += 4) {
        const blue = pixels[at + 2];
        if (pixels[at + 3] > 128 && blue > 1.5 * pixels[at] && blue > 1.5 * pixels[at + 1]) found.add(at / 4 % width);
    }
    return [...found].sort((one, other) => one - other);
}"""
"""Which columns of a canvas have a pixel of the line, which is blue; axes and letters are gray."""
_HAS_LINE = f"plot => ({_COLUMNS_OF_LINE})(plot).length > 0"


@dataclass(frozen=True)
class DagsterUI:
    """The UI of a running Dagster, in one page of the browser."""

    page: Page
    url: str

    def open(self, path: str, **query: str) -> None:
        """Open a page, and wait until it has its content."""
        self.page.goto(f"{self.url}/{path}{'?' if query else ''}{urlencode(query)}")
        self.page.wait_for_load_state("networkidle")

    def open_asset(self, asset: str, view: str = "overview", **query: str) -> None:
        """Open a tab of an asset's page: overview, partitions, events, checks or lineage."""
        self.open(f"assets/{asset}", view=view, **query)

    def materialize(self, asset: str, partitions: str, button: str) -> None:
        """Materialize `2026-01-05`, or `[2026-01-05...2026-01-09]`, by the dialog of the asset's page.

        Args:
            asset: The asset.
            partitions: What is typed as the dialog's selection.
            button: What the button says that launches it.
        """
        self.open_asset(asset, "partitions")
        self.page.get_by_role("button", name="Materialize…").click()
        dialog = self.dialog("Launch runs to materialize")
        selection = dialog.get_by_role("textbox").first
        selection.fill(partitions)
        selection.press("Enter")
        dialog.get_by_role("button", name=button).click()
        dialog.wait_for(state="hidden")

    def refetch(self, asset: str, partition: str) -> None:
        """Materialize a partition with `refetch: true` in the launchpad."""
        self.open_asset(asset, "partitions")
        self.page.get_by_role("button", name="Materialize…").locator("xpath=following::button[1]").click()
        self.page.get_by_text("Open launchpad").click()
        dialog = self.dialog("Launchpad")
        dialog.get_by_text("No errors").wait_for()  # until then, the partitions are not known
        dialog.get_by_placeholder("Partition").fill(partition)
        # By a click: the first of all partitions is selected until the list has been filtered.
        self.page.get_by_role("menuitem", name=partition).click()
        option = dialog.locator(".CodeMirror-line", has_text="refetch")
        option.get_by_text("false").dblclick()
        self.page.keyboard.type("true")
        self.page.keyboard.press("Escape")  # the list of completions
        dialog.get_by_role("button", name="Materialize").click()
        self.sees(f"partition: {partition}")

    def wait_for_partitions(self, asset: str, **counts: int) -> None:
        """Wait until the page of an asset's partitions counts so many of each status."""
        self.open_asset(asset, "partitions")
        for status, count in counts.items():
            self.page.get_by_text(f"{status.capitalize()} ({count})").wait_for()

    def color_of(self, partition: str) -> str:
        """The color of a partition's dot, in the list of partitions."""
        dot = self.page.locator(f"[data-tooltip='{partition}'] + div").first
        color = dot.evaluate("dot => getComputedStyle(dot).backgroundColor")
        red, green, blue = map(int, re.findall(r"\d+", color)[:3])
        return "red" if red > 2 * green else "green" if green > 1.3 * max(red, blue) else color

    def metadata(self, partition: str) -> list[tuple[str, str]]:
        """Select a partition in the list, and read the names and values that are shown."""
        self.page.locator(f"[data-tooltip='{partition}']").first.click()
        rows = self.page.locator("tr:has(td)")
        rows.nth(1).wait_for()
        cells = rows.evaluate_all("rows => rows.map(row => [...row.cells].map(cell => cell.innerText))")
        return [(row[0], row[1]) for row in cells if len(row) > 1]

    def open_failed_run(self) -> None:
        """Open the page of the run that the page of a partition names, at the event of its failed step."""
        self.page.get_by_role("link", name=re.compile("^[0-9a-f]{8}$")).first.click()
        # Of a long log, only what is in view is on the page.
        filtered = self.page.get_by_placeholder("Filter…")
        filtered.fill("type:STEP_FAILURE")
        filtered.press("Enter")
        self.sees("STEP_FAILURE")

    def open_failures(self) -> Locator:
        """Open the table of failed partitions, on the page of a run."""
        failures = self.page.locator("tr", has=self.page.get_by_text("foundry/failures", exact=True))
        failures.get_by_text("[Show Markdown]").click()
        table = self.dialog("foundry/failures").locator("table")
        table.wait_for()
        return table

    def gaps_in_plot(self, name: str) -> int:
        """How many columns of pixels between the first and the last point of a plot have no line."""
        plot = self.page.get_by_text(name, exact=True).locator("xpath=following::canvas[1]")
        plot.scroll_into_view_if_needed()
        self.page.wait_for_function(_HAS_LINE, arg=plot.element_handle(), polling=250)
        columns: list[int] = plot.evaluate(_COLUMNS_OF_LINE)
        return columns[-1] - columns[0] + 1 - len(columns)

    def sees(self, *texts: str) -> None:
        """Wait until each of the texts is shown."""
        for text in texts:
            self.page.get_by_text(text).filter(visible=True).first.wait_for()

    def dialog(self, title: str) -> Locator:
        return self.page.get_by_role("dialog").filter(has_text=title)
