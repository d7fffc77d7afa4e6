"""How much may be written to a disk that others use, too."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from fdtcc_dagster.client.disk_budget import DiskBudget
from fdtcc_dagster.errors import DatasetRetrievalError

MIB, GIB = 1 << 20, 1 << 30


def test_more_than_the_limit_is_refused(tmp_path: Path) -> None:
    budget = DiskBudget(tmp_path, 1000)
    budget.check(1000)
    with pytest.raises(DatasetRetrievalError, match="more than 1000 bytes; if that is right, raise max_bytes"):
        budget.check(1001)


@pytest.mark.parametrize(("total", "reserve"), [(10 * GIB, 10 * GIB // 50), (1000 * GIB, GIB)])
def test_what_stays_free_is_two_percent_and_at_most_a_gibibyte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: int, reserve: int
) -> None:
    free = reserve + 32 * MIB
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=total, free=free))
    budget = DiskBudget(tmp_path, None, "the slices")
    budget.check(7 * MIB)  # small downloads may use the reserve
    budget.check(16 * MIB)
    free -= 24 * MIB
    with pytest.raises(OSError, match=f"has {free} bytes left, {24 * MIB} bytes into the slices; make room"):
        budget.check(24 * MIB)
