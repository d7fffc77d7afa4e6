"""The soak of `soak.py`, for a minute."""

from __future__ import annotations

import secrets

import pytest

from fdtcc_dagster_tests.soak import soak


@pytest.mark.real_instance
@pytest.mark.timeout(300)
def test_pulls_with_random_faults_leave_nothing_and_end_well() -> None:
    assert soak(minutes=1.0, seed=secrets.randbits(32)) == []
