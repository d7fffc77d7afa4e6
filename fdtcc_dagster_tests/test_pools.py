"""A pool limits the runs of all datasets that share it, on a real instance."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster_tests.midday import TODAY, ZONE
from fdtcc_dagster_tests.real_instance import LOCATION, RealInstance, dagster_dev, wait_until

pytestmark = [pytest.mark.real_instance, pytest.mark.timeout(300)]

POOLED, FREE = ("left", "right"), ("one", "other")
ASSETS = f"""
def datasets(names):
    return [FoundryDataset(name, DAILY, "{TODAY}", {{"id": "Int64"}}) for name in names]

assets = [*build_foundry_assets(datasets({POOLED}), pool="foundry"), *build_foundry_assets(datasets({FREE}))]
"""
LIMIT = "concurrency:\n  pools:\n    default_limit: 1\n"


@contextmanager
def most_sockets(container: SandboxContainer) -> Iterator[list[int]]:
    """Watch how many conversations there are at a time; the last number is the highest."""
    ended, seen = threading.Event(), [0]

    def watch() -> None:
        while not ended.wait(0.02):
            seen.append(max(seen[-1], container.open_sockets))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()


def run_at_once(instance: RealInstance, names: Sequence[str]) -> None:
    runs = [instance.materialize("pools", [name], TODAY.isoformat()) for name in names]
    for run in runs:
        assert wait_until(lambda run=run: instance.ended(run), 200) == "SUCCESS"  # type: ignore[misc]


def test_a_pool_of_one_has_the_runs_of_its_datasets_follow_one_another(tmp_path: Path) -> None:
    # A pull lasts longer than a run needs to start, so runs that are not kept apart meet.
    with SandboxContainer(pull_seconds=12.0) as container:
        for name in (*POOLED, *FREE):
            container.set_live(name, "id\n1\n")
        code = LOCATION.format(zone=ZONE, assets=ASSETS, more="")
        with dagster_dev(tmp_path / "dagster", {"pools": code}, container.port, LIMIT) as instance:
            with most_sockets(container) as pooled:
                run_at_once(instance, POOLED)
            with most_sockets(container) as free:
                run_at_once(instance, FREE)
    assert pooled[-1] == 1
    assert free[-1] == 2
