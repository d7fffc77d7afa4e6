"""Chromium without a window, driven by Playwright: the program that is installed, never one that is downloaded."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fdtcc_dagster_tests.scale.services import missing, program

if TYPE_CHECKING:
    from playwright.sync_api import Page

SIZE = (1280, 800)
TIMEOUT = 60_000
"""Milliseconds until something must be seen, on a slow machine."""


@contextlib.contextmanager
def chromium(errors: list[str], size: tuple[int, int] = SIZE) -> Iterator[Page]:
    """Open an empty page, and close the browser at the end of the block.

    Args:
        errors: Gets what the page's console shows as errors, and the exceptions that the page's scripts do not catch.
        size: Width and height of the page, in pixels.
    """
    if not find_spec("playwright"):
        missing("no playwright: pip install playwright")
    executable = program("chromium", "apt-get install chromium fonts-dejavu-core")
    # Only here, so that tests can be collected without it.
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=TIMEOUT)
    # Root cannot use Chromium's own sandbox.
    arguments = [] if os.getuid() else ["--no-sandbox"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        with browser, browser.new_context(
            viewport={"width": size[0], "height": size[1]}, locale="en-GB", timezone_id="UTC"
        ) as context:  # fmt: skip
            context.set_default_timeout(TIMEOUT)
            page = context.new_page()
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
            yield page
