"""The fault matrix on the asset: what a run's failure names, and that the partitions' files stay as they were."""

from __future__ import annotations

import time

import polars as pl
import pytest

from fdtcc_dagster_tests.faults.cases import IN_RUNS
from fdtcc_dagster_tests.faults.scene import FRAME, NAME, Case, Scene
from fdtcc_dagster_tests.faults.site import KEYS, LIVE, PREVIOUS, FaultySite
from fdtcc_dagster_tests.site import failure_of

PATIENCE = 3.0
"""How much longer timeouts are than in the client's tests, because other partitions must stay within them."""


def check_attempts(case: Case, place: Scene) -> None:
    if case.conversations:  # the proxy counts only while it listens
        assert place.attempts() == (case.conversations, case.downloads)
    assert place.container.max_conversations.get(NAME, 0) <= 1


@pytest.mark.parametrize("case", IN_RUNS, ids=lambda case: case.name)
def test_a_run_of_one_partition_replaces_its_file_as_a_whole_or_not_at_all(case: Case, site: FaultySite) -> None:
    site.store_previous()
    case.arrange(site.scene)
    began = time.monotonic()
    result = site.pull([LIVE], transport=case.transport, **case.limits)
    assert time.monotonic() - began < 60
    check_attempts(case, site.scene)
    if case.error is None:
        assert result.success
        assert list(site.contents()) == [site.path(LIVE)]
        assert pl.read_parquet(site.path(LIVE)).equals(FRAME)
    else:
        assert f"{case.error.__name__}: dataset {NAME!r}" in failure_of(result)
        assert site.contents() == {site.path(LIVE): PREVIOUS}


@pytest.mark.parametrize("case", IN_RUNS, ids=lambda case: case.name)
def test_a_run_of_several_partitions_stores_the_others(case: Case, site: FaultySite) -> None:
    site.add_past_versions()
    case.arrange(site.scene)
    limits = {name: PATIENCE * seconds for name, seconds in case.limits.items()}
    began = time.monotonic()
    result = site.pull(KEYS, transport=case.transport, **limits)
    assert time.monotonic() - began < 60
    check_attempts(case, site.scene)
    stored = KEYS[:-1] if case.others else []
    if case.error is None:
        stored = KEYS
        assert result.success
        assert pl.read_parquet(site.path(LIVE)).equals(FRAME)
    else:
        text = failure_of(result)
        assert f"{LIVE}: {case.error.__name__}: window [" in text
        assert f"{len(KEYS) - len(stored)} of {len(KEYS)} partitions failed" in text
    assert sorted(site.contents()) == [site.path(key) for key in stored]
    for key in stored[: len(KEYS) - 1]:
        assert pl.read_parquet(site.path(key)).height == 3
