"""The tests mirror the package: those of a module are found by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "fdtcc_dagster"
ELSEWHERE = {
    "arguments.py": "test_set_up.py",
    "calendar/own_partitions.py": "test_dataset.py",
    "components": "components/test_yaml.py",
    "dagster_internals.py": "test_background.py",
    "demo": "test_demo.py",
    "evidence.py": "client/test_local_evidence.py",
    "failures.py": "ingest/test_step.py",
    "ingest/materializations.py": "test_due.py",
    "ingest/pull.py": "ingest/test_step.py",
    "pandas_csv/cast_rules.py": "pandas_csv/test_cast.py",
    "pandas_csv/mismatch.py": "pandas_csv/test_source.py",
    "pandas_csv/spelling.py": "pandas_csv/test_cast.py",
    "resource.py": "client/test_settings.py",
    "sandbox/blobs.py": "sandbox/test_server.py",
    "sandbox/fault_hooks.py": "sandbox/test_faults.py",
    "secrets.py": "security/test_secrets.py",
    "time_column.py": "ingest/test_slices.py",
}
"""Modules, and packages of one public face, that are tested by what uses them."""
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def own(module: str) -> Path:
    """Where the tests of a module are: `client/retry.py` has `client/test_retry.py`."""
    path = Path(module)
    return TESTS / path.with_name(f"test_{path.stem.strip('_')}.py")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_tests_of_its_name(module: str) -> None:
    found = [where for what, where in ELSEWHERE.items() if f"{module}/".startswith(f"{what}/")]
    assert own(module).is_file() is not bool(found), f"{own(module).relative_to(TESTS)} or a line in ELSEWHERE"


@pytest.mark.parametrize("what", ELSEWHERE)
def test_what_is_tested_elsewhere_is_there(what: str) -> None:
    assert (PACKAGE / what).exists()
    assert (TESTS / ELSEWHERE[what]).is_file()
