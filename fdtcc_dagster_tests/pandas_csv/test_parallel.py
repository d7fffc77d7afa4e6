"""Work on several blocks at a time."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import polars as pl
import pytest

from fdtcc_dagster.pandas_csv import parallel
from fdtcc_dagster.pandas_csv.parallel import ordered_map


def test_results_come_in_the_order_of_the_blocks_from_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pl, "thread_pool_size", lambda: 4)
    together = threading.Barrier(2, timeout=30)

    def work(block: bytes) -> int:
        together.wait()
        time.sleep(0.01 * (len(block) % 2))
        return len(block)

    assert list(ordered_map(work, map(bytes, range(8)))) == list(range(8))


@pytest.mark.parametrize(("size", "taken_at_once"), [(0, 3), (20 << 20, 2), (100 << 20, 2)])
def test_only_so_many_blocks_are_taken_as_are_worked_on(
    monkeypatch: pytest.MonkeyPatch, size: int, taken_at_once: int
) -> None:
    """And fewer where they are large: one more is only held."""
    monkeypatch.setattr(pl, "thread_pool_size", lambda: 4)
    taken: list[int] = []

    def blocks() -> Iterator[bytes]:
        for number in range(100):
            taken.append(number)
            yield bytes(size)

    results = ordered_map(len, blocks())
    assert next(results) == size
    assert len(taken) == taken_at_once


def test_what_is_raised_comes_after_the_results_before_it() -> None:
    def work(block: bytes) -> int:
        if len(block) == 5:
            raise ValueError("five")
        return len(block)

    results = ordered_map(work, map(bytes, range(50)))
    assert list(islice(results, 5)) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="five"):
        next(results)


def test_work_that_waits_for_the_caller_s_thread_is_done_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_TIMEOUT_SECONDS", 0.1)
    caller, ended = threading.get_ident(), threading.Event()

    def work(block: bytes) -> int:
        if threading.get_ident() != caller:
            assert ended.wait(60)
        return len(block)

    try:
        assert list(ordered_map(work, map(bytes, range(20)))) == list(range(20))
    finally:
        ended.set()


TWO_SCANS = """
import sys
from pathlib import Path
import polars as pl
from fdtcc_dagster.pandas_csv.source import CsvSource

path = Path(sys.argv[1])
scans = [CsvSource(lambda: path.open("rb")).scan(pl.Schema({"a": pl.Int64})) for _ in range(4)]
joined = scans[0]
for scan in scans[1:]:
    joined = joined.join(scan, on="a", how="full", coalesce=True)
print(joined.select(pl.len()).collect(engine=sys.argv[2]).item())
"""


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_more_scans_in_a_query_than_polars_has_threads_come_to_their_end(tmp_path: Path, engine: str) -> None:
    path = tmp_path / "numbers.csv"
    path.write_text("a\n" + "".join(f"{number}\n" for number in range(1000)))
    command = [sys.executable, "-c", TWO_SCANS, str(path), engine]
    ended = subprocess.run(command, env={"POLARS_MAX_THREADS": "2"}, capture_output=True, text=True, timeout=100)
    assert ended.stdout.strip() == "1000", ended.stderr
