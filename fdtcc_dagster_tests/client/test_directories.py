"""Where locks and evidence are, and paths that begin with a home directory."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import pytest

from fdtcc_dagster import FoundryContainerResource
from fdtcc_dagster.client.directories import STATE_DIRECTORY, expand_home, lock_directory, state_directory
from fdtcc_dagster.client.spool import spool_directory


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: Path) -> None:
    monkeypatch.delenv(STATE_DIRECTORY)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_it_is_the_users_state_directory_whatever_tmpdir_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = tmp_path / ".local" / "state" / "fdtcc-dagster"
    assert state_directory() == expected
    monkeypatch.setenv("TMPDIR", str(tmp_path / "other"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert state_directory() == expected
    assert expected.is_dir()
    assert lock_directory().parent == expected


def test_a_variable_names_another_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(STATE_DIRECTORY, "~/given/state")
    assert state_directory() == tmp_path / "given" / "state"
    assert (tmp_path / "given" / "state").is_dir()


def test_without_a_home_it_is_in_the_temporary_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/proc/none")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert state_directory().parent == tmp_path
    assert state_directory().is_dir()


def test_without_a_temporary_directory_either_it_is_in_the_spool_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def none_is_writable() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setenv("HOME", "/proc/none")
    monkeypatch.setattr(tempfile, "gettempdir", none_is_writable)
    monkeypatch.setattr("fdtcc_dagster.client.directories._spool_directory", None)
    with pytest.raises(FileNotFoundError, match="set TMPDIR to a directory that is writable"):
        state_directory()
    with FoundryContainerResource(spool_directory=str(tmp_path)).spool() as spool:
        assert spool.parent == state_directory().parent == tmp_path
        with spool_directory() as other:  # of a store that has no spool of its own
            assert other.parent == tmp_path
    assert list(lock_directory().iterdir()) == []


def test_a_tilde_is_the_home_directory_and_the_rest_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_home("base_dir", "~") == tmp_path
    assert expand_home("base_dir", Path("~/data")) == tmp_path / "data"
    assert expand_home("base_dir", "data/~") == Path("data/~")


def test_a_user_who_has_no_home_is_refused_with_the_name_of_the_setting() -> None:
    with pytest.raises(ValueError, match=r"^base_dir='~nobody-has-this/x' begins with the home directory of a user"):
        expand_home("base_dir", "~nobody-has-this/x")
