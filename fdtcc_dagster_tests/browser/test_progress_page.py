"""The page of `examples/progress_page`, as its reader meets it."""

from __future__ import annotations

import runpy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.browser.conftest import Shoot
from fdtcc_dagster_tests.serving import serving

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

APP = Path(__file__).parents[2] / "examples" / "progress_page" / "app.py"


@pytest.fixture
def opened(page: Page, sandbox_container: SandboxContainer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """The page, opened; the container has the dataset that its form begins with."""
    sandbox_container.set_live("orders", "id,amount\n1,9.5\n2,3.0\n")
    monkeypatch.setenv("FDTCC_HOST", sandbox_container.host)
    monkeypatch.setenv("FDTCC_PORT", str(sandbox_container.port))
    with serving(runpy.run_path(str(APP))["app"]) as port:
        page.goto(f"http://127.0.0.1:{port}/")
        yield page
        page.goto("about:blank")  # else the server waits for the page's connection


def test_a_pull_ends_with_its_rows_and_a_file_and_a_failure_with_a_sentence(opened: Page, shoot: Shoot) -> None:
    from playwright.sync_api import expect

    opened.get_by_label("Dataset").press("Enter")
    expect(opened.get_by_role("status")).to_have_text("Done: 2 rows.")
    expect(opened.get_by_role("listitem").first).to_contain_text("Connection established")
    expect(opened.get_by_role("progressbar")).to_be_hidden()
    shoot("done")
    with opened.expect_download() as download:
        opened.get_by_role("link", name="Download the CSV (22 bytes)").click()
    assert download.value.suggested_filename == "orders.csv"
    assert Path(download.value.path()).read_text() == "id,amount\n1,9.5\n2,3.0\n"
    opened.get_by_label("Dataset").fill("oders")
    opened.get_by_role("button", name="Pull").click()
    expect(opened.get_by_role("alert")).to_contain_text("dataset 'oders'")
    expect(opened.get_by_role("link")).to_be_hidden()


def test_stopping_or_leaving_cancels_the_pull(opened: Page, sandbox_container: SandboxContainer) -> None:
    from playwright.sync_api import expect

    def wait_for_sockets(number: int) -> None:
        deadline = time.monotonic() + 20
        while sandbox_container.open_sockets != number:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    sandbox_container.inject("orders", faults.Silence(), times=2)
    opened.get_by_role("button", name="Pull").click()
    wait_for_sockets(1)
    expect(opened.get_by_role("progressbar")).to_be_visible()
    opened.get_by_role("button", name="Stop").click()
    expect(opened.get_by_role("status")).to_have_text("Stopped.")
    wait_for_sockets(0)
    opened.get_by_role("button", name="Pull").click()
    wait_for_sockets(1)
    opened.goto("about:blank")
    wait_for_sockets(0)
