from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from filelock import FileLock

from fdtcc_dagster.client import spool
from fdtcc_dagster.client.directories import lock_directory
from fdtcc_dagster.client.spool import part_of, remove_stale_files, spool_directory

HOLD = """
import sys, time
from pathlib import Path
from fdtcc_dagster.client.spool import part_of, spool_directory

with spool_directory(sys.argv[1]) as spool, part_of(Path(sys.argv[1], "o.parquet")) as part:
    (spool / "0").mkdir()
    (spool / "0" / "x.csv").write_text("id\\n")
    part.write_text("half")
    print("ready", flush=True)
    sys.stdin.readline()
"""
UNKNOWN = "0123456789abcdef"


@contextmanager
def another_process(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """One that uses a spool directory and a part file in `directory`, until it reads a line."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def alive() -> set[str]:
    return {path.name for path in lock_directory().glob("*.alive")}


@pytest.fixture(autouse=True)
def _own_locks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path_factory.mktemp("tmp")
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr(spool, "_TIDY_SECONDS", 0.0)


def test_both_are_there_for_as_long_as_they_are_in_use(tmp_path: Path) -> None:
    with spool_directory(tmp_path) as made, part_of(tmp_path / "o.parquet") as part:
        assert made.stat().st_mode & 0o777 == 0o700
        assert (made.parent, part.parent) == (tmp_path, tmp_path)
        assert not part.exists()
        part.touch()
        (made / "x.csv").touch()
        assert len(alive()) == 2
        with spool_directory() as other:
            assert other.parent == Path(tempfile.gettempdir())
    assert names(tmp_path) == []
    assert alive() == set()


def test_a_part_that_was_moved_stays(tmp_path: Path) -> None:
    with part_of(tmp_path / "o.parquet") as part:
        part.write_text("new")
        part.replace(tmp_path / "o.parquet")
    assert names(tmp_path) == ["o.parquet"]


def test_a_file_s_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    target = tmp_path / ("o" * 255)
    with part_of(target) as part:
        part.touch()
        part.replace(target)
    assert names(tmp_path) == [target.name]


def test_what_the_living_use_stays_and_what_the_dead_have_left_goes(tmp_path: Path) -> None:
    with another_process(tmp_path) as first, another_process(tmp_path) as second:
        before = names(tmp_path)
        assert len(before) == 4
        with spool_directory(tmp_path), part_of(tmp_path / "o.parquet"):
            assert set(before) < set(names(tmp_path))
        assert names(tmp_path) == before

        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        assert names(tmp_path) == before
        with part_of(tmp_path / "another.parquet"):
            left = set(names(tmp_path))
        assert len(left) == 2
        assert left < set(before)

        assert second.stdin is not None
        second.stdin.write("\n")
        second.stdin.flush()
        assert second.wait(30) == 0
    assert names(tmp_path) == []
    assert alive() == set()


def test_stale_files_are_looked_for_once_a_minute_however_many_partitions_are_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Path] = []
    monkeypatch.setattr(spool, "_TIDY_SECONDS", 60.0)
    monkeypatch.setattr(spool, "remove_stale_files", looked.append)
    for number in range(100):
        with spool_directory(tmp_path / "spool" if number % 2 else tmp_path), part_of(tmp_path / f"{number}.parquet"):
            (tmp_path / "spool").mkdir(exist_ok=True)
    assert looked == [tmp_path, tmp_path / "spool"]


def test_other_threads_of_this_process_keep_theirs(tmp_path: Path) -> None:
    with spool_directory(tmp_path) as made, part_of(tmp_path / "o.parquet") as part:
        part.touch()
        thread = threading.Thread(target=remove_stale_files, args=(tmp_path,))
        thread.start()
        thread.join()
        remove_stale_files(tmp_path)
        assert names(tmp_path) == sorted([made.name, part.name])


def test_several_that_clean_up_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(50):
                with spool_directory(tmp_path) as made, part_of(tmp_path / "o.parquet") as part:
                    (made / "x").write_text("x")
                    part.write_text("x")
                    part.replace(tmp_path / "o.parquet")
        except BaseException as error:  # noqa: BLE001 (shown by the assertion)
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert names(tmp_path) == ["o.parquet"]
    assert alive() == set()


@pytest.mark.parametrize("file", ["", ".o.parquet"], ids=["now", "of an earlier version"])
def test_what_another_machine_may_be_using_stays_until_nothing_has_changed_for_two_days(
    tmp_path: Path, file: str
) -> None:
    part, spool = tmp_path / f"{file}.fdtcc-{UNKNOWN}.part", tmp_path / f"fdtcc-spool-{UNKNOWN}-abc_1234"
    part.touch()
    (spool / "0").mkdir(parents=True)
    csv = spool / "0" / "x.csv"
    csv.touch()
    remove_stale_files(tmp_path)
    assert names(tmp_path) == [part.name, spool.name]
    long_ago = time.time() - 49 * 3600
    for path in (part, spool / "0", spool):
        os.utime(path, (long_ago, long_ago))
    remove_stale_files(tmp_path)
    assert names(tmp_path) == [spool.name]
    os.utime(csv, (long_ago, long_ago))
    remove_stale_files(tmp_path)
    assert names(tmp_path) == []


def test_nothing_else_is_touched(tmp_path: Path) -> None:
    others = [
        "o.parquet", ".o.parquet.part", ".o.parquet.0123abcd.part", f".o.parquet.fdtcc-{UNKNOWN}.part.bak",
        f"o.parquet.fdtcc-{UNKNOWN}.part", f"fdtcc-spool-{UNKNOWN}", "fdtcc-sandbox-abc_1234", f"{UNKNOWN}.alive",
    ]  # fmt: skip
    for name in others:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    remove_stale_files(tmp_path)
    assert names(tmp_path) == sorted(others)


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "x").touch()
    link = tmp_path / f"fdtcc-spool-{UNKNOWN}-abc_1234"
    link.symlink_to(kept)
    os.utime(link, (0, 0), follow_symlinks=False)
    os.utime(kept / "x", (0, 0))
    remove_stale_files(tmp_path)
    assert not link.is_symlink()
    assert names(kept) == ["x"]


def test_without_a_place_for_locks_it_works_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Path:
        raise PermissionError("read-only")

    monkeypatch.setattr(spool, "lock_directory", refuse)
    with spool_directory(tmp_path) as made, part_of(tmp_path / "o.parquet") as part:
        part.touch()
        remove_stale_files(tmp_path)
        assert names(tmp_path) == sorted([made.name, part.name])
    assert names(tmp_path) == []


def test_a_directory_that_is_not_there_is_no_failure_of_the_clean_up(tmp_path: Path) -> None:
    remove_stale_files(tmp_path / "none")
    with pytest.raises(FileNotFoundError), spool_directory(tmp_path / "none"):
        pass
    assert alive() == set()


KILLED = """
import contextlib, os, signal, sys
from pathlib import Path
from fdtcc_dagster.client import spool

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

unlink, replace = Path.unlink, Path.replace
instant, directory = sys.argv[1], Path(sys.argv[2])
if instant == "between a file and its lock":
    Path.unlink = lambda self, **options: kill() if self.suffix == ".alive" else unlink(self, **options)
if instant == "before it is locked":
    spool._acquire = kill
if instant == "before it says where":
    os.fsencode = kill
with spool.spool_directory(directory / "spool") as made, spool.part_of(directory / "o.parquet") as part:
    (made / "x.csv").write_text("id")
    part.write_text("new")
    if instant == "before it is moved":
        kill()
    part.replace(directory / "o.parquet")
    if instant == "after it was moved":
        kill()
"""


@pytest.mark.parametrize(
    ("instant", "locks", "kept"),
    [
        ("before it is locked", 1, ["spool"]),
        ("before it says where", 1, ["spool"]),
        ("before it is moved", 2, ["spool"]),
        ("after it was moved", 2, ["o.parquet", "spool"]),
        ("between a file and its lock", 2, ["o.parquet", "spool"]),
    ],
)
def test_the_next_process_removes_all_that_a_killed_one_has_left_wherever_it_is(
    instant: str, locks: int, kept: list[str], tmp_path: Path
) -> None:
    (tmp_path / "spool").mkdir()
    killed = subprocess.run([sys.executable, "-c", KILLED, instant, str(tmp_path)], timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(alive()) == locks
    with spool_directory():
        assert names(tmp_path) == kept
        assert names(tmp_path / "spool") == []
        assert len(alive()) == 1
    assert alive() == set()


def test_a_lock_that_is_held_stays_and_one_that_is_not_goes_at_once(tmp_path: Path) -> None:
    free, held = (lock_directory() / f"{name}.alive" for name in ("free", "held"))
    free.touch()
    with FileLock(held):
        os.utime(held, (0, 0))
        remove_stale_files(tmp_path)
        assert alive() == {"held.alive"}
    remove_stale_files(tmp_path)
    assert alive() == set()


@pytest.mark.parametrize("seen", [1, 2, 5])
def test_a_lock_that_others_see_before_it_is_locked_is_made_again(
    seen: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire, calls = spool._acquire, 0

    def cleaned_before(lock: IO[bytes]) -> bool:
        nonlocal calls
        calls += 1
        if calls <= seen:
            monkeypatch.setattr(spool, "_acquire", acquire)
            remove_stale_files(tmp_path)
            monkeypatch.setattr(spool, "_acquire", cleaned_before)
        return acquire(lock)

    monkeypatch.setattr(spool, "_acquire", cleaned_before)
    with part_of(tmp_path / "o.parquet") as part:
        assert calls == seen + 1
        part.touch()
        (lock,) = alive()
        assert (lock_directory() / lock).read_text() == str(part)
        remove_stale_files(tmp_path)
        assert part.exists()
        assert alive() == {lock}
    assert alive() == set()


def test_a_lock_that_others_hold_while_they_clean_up_is_left_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[FileLock] = []
    acquire = spool._acquire

    def held_before(lock: IO[bytes]) -> bool:
        if not held:
            held.append(FileLock(lock.name))
            held[0].acquire(blocking=False)
        return acquire(lock)

    monkeypatch.setattr(spool, "_acquire", held_before)
    with part_of(tmp_path / "o.parquet") as part:
        assert len(alive()) == 2
        assert [path.name for path in lock_directory().iterdir() if path.read_text() == str(part)] != []
    held[0].release()
    remove_stale_files(tmp_path)
    assert alive() == set()


def test_what_cannot_be_removed_keeps_its_lock_until_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", lambda *_, **__: None)
        with spool_directory(tmp_path) as spool:
            (spool / "x").touch()
        remove_stale_files(tmp_path)
        assert names(tmp_path) == [spool.name]
        assert len(alive()) == 1
    remove_stale_files(tmp_path / "elsewhere")
    assert names(tmp_path) == []
    assert alive() == set()


def test_a_lock_leads_to_nothing_but_what_has_its_token(tmp_path: Path) -> None:
    others = [tmp_path / "o.parquet", tmp_path / f".o.parquet.fdtcc-{UNKNOWN}.part"]
    for number, path in enumerate(others):
        path.touch()
        (lock_directory() / f"{number:016x}.alive").write_text(str(path))
    (lock_directory() / f"{2:016x}.alive").write_bytes(b"\0" * 5_000)
    remove_stale_files(tmp_path / "elsewhere")
    assert names(tmp_path) == sorted(path.name for path in others)
    assert alive() == set()


def test_a_relative_path_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with part_of(Path("o.parquet")) as part:
        (lock,) = alive()
        assert (lock_directory() / lock).read_text() == str(tmp_path / part.name)


def test_without_file_locks_it_works_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "fcntl", None)
    with spool_directory(tmp_path) as made, part_of(tmp_path / "o.parquet") as part:
        part.touch()
        assert alive() == set()
        remove_stale_files(tmp_path)
        assert names(tmp_path) == sorted([made.name, part.name])
    assert names(tmp_path) == []
