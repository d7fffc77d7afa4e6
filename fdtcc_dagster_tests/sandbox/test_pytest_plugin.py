from __future__ import annotations

import subprocess
import sys
from pathlib import Path

USER_TEST = """
from urllib.request import urlopen

def test_container_is_there(sandbox_container):
    sandbox_container.set_live("people", "id\\n1\\n")
    assert urlopen(f"{sandbox_container.url}/fdtc-api/").status == 200
"""


def test_fixture_is_there_for_who_opts_in_and_not_otherwise(tmp_path: Path) -> None:
    (tmp_path / "test_user.py").write_text(USER_TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    without = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "fixture 'sandbox_container' not found" in without.stdout
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["fdtcc_dagster.sandbox.pytest_plugin"]\n')
    with_it = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in with_it.stdout
