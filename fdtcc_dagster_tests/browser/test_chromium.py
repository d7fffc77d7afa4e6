"""The browser itself: it shows a page, and its console is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def test_what_a_page_complains_about_is_told(page: Page, console_errors: list[str]) -> None:
    page.set_content("<h1>orders</h1><script>console.error('no rows'); throw new Error('no file')</script>")
    assert page.get_by_role("heading", name="orders").is_visible()
    assert sorted(console_errors) == ["no file", "no rows"]
    console_errors.clear()
