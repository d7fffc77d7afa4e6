"""Paths that begin with a home directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from fdtcc_dagster.client.paths import expand_home


def test_a_tilde_is_the_home_directory_and_the_rest_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_home("base_dir", "~") == tmp_path
    assert expand_home("base_dir", Path("~/data")) == tmp_path / "data"
    assert expand_home("base_dir", "data/~") == Path("data/~")


def test_a_user_who_has_no_home_is_refused_with_the_name_of_the_setting() -> None:
    with pytest.raises(ValueError, match=r"^base_dir='~nobody-has-this/x' begins with the home directory of a user"):
        expand_home("base_dir", "~nobody-has-this/x")
