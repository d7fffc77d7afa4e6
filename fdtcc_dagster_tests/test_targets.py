"""Which asset represents a dataset, and that no two datasets share one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pytest

from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    Schedule,
    build_foundry_assets,
    build_foundry_checks,
    build_foundry_definitions,
    build_foundry_file_checks,
)

DAILY = Schedule([{"cycle": "daily", "time": "00:00:00"}])


@pytest.mark.parametrize(
    "build",
    [
        build_foundry_assets,
        build_foundry_checks,
        build_foundry_file_checks,
        partial(build_foundry_definitions, resource=FoundryContainerResource()),
    ],
)
def test_two_datasets_with_one_asset_key_are_refused(build: Callable[[Sequence[FoundryDataset]], object]) -> None:
    datasets = [FoundryDataset(name, DAILY, "2026-01-01") for name in ("sales.orders", "Sales/Orders")]
    said = "the datasets 'sales.orders' and 'Sales/Orders' have the same asset key 'sales/orders': give one of them"
    with pytest.raises(ValueError, match=said):
        build(datasets)
