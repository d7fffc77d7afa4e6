"""`python -m fdtcc_dagster_tests.browser.pictures`: make the pictures of the README, of the demo in Dagster's UI."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from fdtcc_dagster_tests.browser.chromium import chromium
from fdtcc_dagster_tests.browser.dagster_ui import SETTINGS, DagsterUI
from fdtcc_dagster_tests.real_instance import RealInstance, dagster_dev, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import FloatRect, Page

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
MOST_BYTES = 150_000
_NAVIGATION = 240  # pixels, on the left of each page
_CODE = "from fdtcc_dagster.demo.definitions import defs\n"


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        os.environ["FDTCC_DEMO_HOME"] = directory
        keys = _keys()
        with dagster_dev(Path(directory), {"demo": _CODE}, 0, SETTINGS) as instance:
            with _page(instance, 640) as ui:
                ui.materialize("flights", f"[{keys[0]}...{keys[-1]}]", "Launch backfill")
                ui.wait_for_partitions("flights", failed=1, materialized=len(keys) - 1)
            follows = instance.materialize("demo", ["delays"], keys[-1])
            assert wait_until(lambda: instance.ended(follows)) == "SUCCESS"
            with _page(instance, 640) as ui:
                ui.open_asset("flights", "partitions")
                ui.metadata(keys[-1])
                _save(ui.page, "partitions")
            with _page(instance, 800) as ui:
                ui.open_asset("flights", "partitions")
                ui.metadata(keys[-1])
                ui.open_failed_run()
                ui.open_failures()
                _save(ui.page, "failures", ui.dialog("foundry/failures").bounding_box())
            with _page(instance, 460, width=1500) as ui:
                ui.open_asset("flights", "lineage", lineageScope="neighbors")
                ui.sees("delays")
                _save(ui.page, "lineage")


def _keys() -> list[str]:
    """The partitions of flights; nobody pulled one of them in time."""
    from fdtcc_dagster.demo.datasets import available_refreshes, demo_datasets

    flights, *_ = demo_datasets()
    return [refresh.date().isoformat() for refresh in available_refreshes(flights, datetime.now(timezone.utc))]


@contextlib.contextmanager
def _page(instance: RealInstance, height: int, width: int = 1280) -> Iterator[DagsterUI]:
    with chromium([], (width, height)) as page:
        yield DagsterUI(page, instance.url)


def _save(page: Page, name: str, box: FloatRect | None = None) -> None:
    """Save what a page shows without its navigation, or what is in a box of it."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(1_000)  # what moves comes to rest
    path = PICTURES / f"{name}.png"
    size = page.viewport_size
    assert size is not None
    shown: FloatRect = {"x": _NAVIGATION, "y": 0, "width": size["width"] - _NAVIGATION, "height": size["height"]}
    page.screenshot(path=path, clip=box or shown)
    assert path.stat().st_size < MOST_BYTES, f"{path} has {path.stat().st_size:,} bytes"


if __name__ == "__main__":
    main()
