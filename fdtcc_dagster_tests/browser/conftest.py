"""What the browser tests share: a page of Chromium, and pictures of what it shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fdtcc_dagster_tests.browser.chromium import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Page

SCREENSHOTS = Path(__file__).parents[2] / ".screenshots"

Shoot = Callable[[str], None]


@pytest.fixture
def console_errors() -> list[str]:
    """What the page's console has shown as errors; a test removes what it expects, and fails if any is left."""
    return []


@pytest.fixture
def page(request: pytest.FixtureRequest, console_errors: list[str]) -> Iterator[Page]:
    """An empty page of Chromium; what it shows at the end is kept in `.screenshots/<test>.png`."""
    with chromium(console_errors) as page:
        yield page
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{_file_name(request.node.name)}.png")
    assert console_errors == []


@pytest.fixture
def shoot(request: pytest.FixtureRequest, page: Page) -> Shoot:
    """Keep what the page shows now, in `.screenshots/<test>-<name>.png`."""

    def save(name: str) -> None:
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{_file_name(request.node.name)}-{_file_name(name)}.png")

    return save


def _file_name(name: str) -> str:
    return re.sub(r"\W+", "-", name.removeprefix("test_")).strip("-")
