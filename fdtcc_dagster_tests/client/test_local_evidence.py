"""What a request learns of a snapshot applies to all later requests, in this process and in others."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from fdtcc_dagster.client import FoundryDevToolsContainerClient, Snapshot
from fdtcc_dagster.client.directories import STATE_DIRECTORY
from fdtcc_dagster.client.endpoint import identity_of
from fdtcc_dagster.client.local_evidence import LocalEvidence
from fdtcc_dagster.errors import FdtccError, NoVersionInWindowError, RowCountMismatchError
from fdtcc_dagster.evidence import PendingCount, RowCount
from fdtcc_dagster.pandas_csv.schema import to_schema
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster.window import Window

ROWS = 3000
SPARSE = "id,name\n" + "".join(f"{number * 3},row\n" for number in range(1, ROWS + 1))
"""A CSV of which the container's batches lose two thirds of the rows."""
LOST = "announced 3000 rows, but the CSV has [0-9]+"
SCHEMA = {"id": "Int64", "name": "String"}


@pytest.fixture
def container() -> Iterator[SandboxContainer]:
    with SandboxContainer(batch_size=1000) as container:
        container.set_live("sparse", SPARSE)
        yield container


def client_of(container: SandboxContainer) -> FoundryDevToolsContainerClient:
    return FoundryDevToolsContainerClient(container.host, container.port, attempts=1, retry_delay=0.01)


async def pull(container: SandboxContainer, window: Window, directory: Path, **options: object) -> Snapshot:
    directory.mkdir(exist_ok=True)
    return await client_of(container).pull(
        "sparse",
        window.from_dt,
        window.to_dt,
        directory=directory,
        **options,  # type: ignore[arg-type]
    )


def rows_of(snapshot: Snapshot) -> int:
    return snapshot.source.read(to_schema(SCHEMA), lambda csv: csv.scan().collect().height)


async def lose(container: SandboxContainer, window: Window, directory: Path) -> RowCountMismatchError:
    """Let the container record a version that has lost rows, and a pull detect it."""
    snapshot = await pull(container, window, directory)
    with pytest.raises(RowCountMismatchError, match=LOST) as raised:
        rows_of(snapshot)
    assert raised.value.sha256 == snapshot.sha256
    assert (raised.value.announced_rows, container.versions("sparse")[-1][1]) == (ROWS, snapshot.sha256)
    snapshot.path.unlink()
    return raised.value


async def test_a_version_that_has_lost_rows_is_refused_when_it_comes_back_from_the_cache(
    container: SandboxContainer, today: Window, tmp_path: Path
) -> None:
    error = await lose(container, today, tmp_path)
    downloads = sum(container.downloads.values())
    past = Window(today.from_dt, datetime.now(timezone.utc))
    with pytest.raises(RowCountMismatchError, match=LOST) as raised:
        await pull(container, past, tmp_path)
    assert "drop the column `id`" in str(raised.value)
    assert "datasets/metadata" in str(raised.value)
    assert raised.value.found_rows == error.found_rows
    # Refused as soon as its pointer arrives.
    assert sum(container.downloads.values()) == downloads
    assert list(tmp_path.iterdir()) == []


async def test_where_the_window_contains_now_the_container_counts_and_pulls_anew(
    container: SandboxContainer, today: Window, tmp_path: Path
) -> None:
    await lose(container, today, tmp_path)
    notices: list[str] = []
    with pytest.raises(RowCountMismatchError, match=LOST):
        await pull(container, today, tmp_path, on_notice=lambda message: notices.append(str(message["message"])))
    assert len(container.requests) == 3
    assert container.requests[-1]["from_dt"] > container.requests[-2]["from_dt"]
    assert "pull anew" in notices[0]
    # As soon as the dataset has no sparse ids any more, what arrives is right.
    container.set_live("sparse", SPARSE.replace("id,", "key,"))
    snapshot = await pull(container, today, tmp_path)
    assert snapshot.origin == "fetched"
    assert snapshot.scan().collect().height == snapshot.announced_rows == ROWS


async def test_what_one_process_finds_out_counts_for_the_others(
    container: SandboxContainer, today: Window, tmp_path: Path, state: Path
) -> None:
    code = f"""
import asyncio
from datetime import datetime, timedelta, timezone
from pathlib import Path
from fdtcc_dagster import FDTCC, RowCountMismatchError
from fdtcc_dagster.pandas_csv.schema import to_schema
window = datetime.fromisoformat({today.from_dt.isoformat()!r}), datetime.fromisoformat({today.to_dt.isoformat()!r})
snapshot = asyncio.run(FDTCC({container.host!r}, {container.port}).pull("sparse", *window, directory={str(tmp_path)!r}))
try:
    snapshot.source.read(to_schema({SCHEMA!r}), lambda csv: csv.scan().collect())
except RowCountMismatchError:
    print("lost", end="")
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "lost"
    with pytest.raises(RowCountMismatchError, match=LOST):
        await pull(container, Window(today.from_dt, datetime.now(timezone.utc)), tmp_path / "own")
    kept = [path for path in state.rglob("*") if path.is_file() and path.suffix == ".json"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in kept] == [0o600]


async def test_get_single_refuses_it_too(container: SandboxContainer, today: Window, tmp_path: Path) -> None:
    await lose(container, today, tmp_path)
    past = today.from_dt, datetime.now(timezone.utc)
    logged: list[str] = []
    client = FoundryDevToolsContainerClient(
        container.host, container.port, log_func=lambda _, message: logged.append(message)
    )
    frame, ok = await client.get_single(None, "sparse", *past, response_func=None)
    assert (frame.height, ok) == (0, False)
    assert any("announced 3000 rows" in message for message in logged)


async def lose_the_connection(container: SandboxContainer, window: Window, directory: Path) -> None:
    """After the rows were announced; the job runs on, and its version is recorded."""
    versions = len(container.versions("sparse"))
    container.inject("sparse", faults.JobRunsOn())
    container.inject("sparse", faults.ConnectionReset(after=4))
    with pytest.raises(FdtccError):
        await pull(container, window, directory)
    while len(container.versions("sparse")) == versions:
        await asyncio.sleep(0.05)


async def test_a_number_that_was_announced_before_a_lost_connection_counts_in_the_next_request(
    container: SandboxContainer, today: Window, tmp_path: Path
) -> None:
    await lose_the_connection(container, today, tmp_path)
    snapshot = await pull(container, today, tmp_path)
    assert (snapshot.origin, snapshot.announced_rows, snapshot.is_certain) == ("cached", ROWS, False)
    with pytest.raises(RowCountMismatchError, match="before an earlier connection was lost"):
        rows_of(snapshot)
    # The version may come from that job or from another client: from now on the container counts and pulls again.
    again = await pull(container, today, tmp_path)
    assert (again.origin, again.announced_rows, again.is_certain) == ("fetched", ROWS, True)
    with pytest.raises(RowCountMismatchError, match=LOST):
        rows_of(again)


async def test_also_when_its_window_is_over_and_when_another_one_was_asked_for_in_between(
    container: SandboxContainer, today: Window, last_year: Window, tmp_path: Path
) -> None:
    await lose_the_connection(container, today, tmp_path)
    past = Window(today.from_dt, datetime.now(timezone.utc))
    with pytest.raises(NoVersionInWindowError):
        await pull(container, last_year, tmp_path)
    for _ in range(2):
        snapshot = await pull(container, past, tmp_path)
        assert (snapshot.origin, snapshot.announced_rows, snapshot.is_certain) == ("cached", ROWS, False)
        with pytest.raises(RowCountMismatchError, match="before an earlier connection was lost"):
            rows_of(snapshot)


async def test_another_clients_version_after_a_lost_connection_is_not_rejected(
    container: SandboxContainer, today: Window, tmp_path: Path
) -> None:
    container.set_live("sparse", "id,name\n1,row\n")
    container.inject("sparse", faults.ConnectionReset(after=4))
    with pytest.raises(FdtccError):
        await pull(container, today, tmp_path)
    grown = "id,name\n1,row\n2,row\n"
    container.set_live("sparse", grown)
    container.add_version("sparse", datetime.now(timezone.utc), grown)
    with pytest.raises(RowCountMismatchError, match="before an earlier connection was lost"):
        rows_of(await pull(container, today, tmp_path))
    snapshot = await pull(container, today, tmp_path)
    assert (snapshot.origin, rows_of(snapshot)) == ("fetched", 2)
    past = Window(today.from_dt, datetime.now(timezone.utc))
    assert rows_of(await pull(container, past, tmp_path)) == 2


async def test_a_number_of_a_past_window_says_nothing_of_versions_since_then(
    container: SandboxContainer, today: Window, last_year: Window, tmp_path: Path
) -> None:
    container.add_version("sparse", datetime.now(timezone.utc) - timedelta(hours=1), "id,name\n1,row\n")
    container.inject("sparse", faults.ConnectionReset(after=4))
    with pytest.raises(FdtccError):
        await pull(container, last_year, tmp_path, missing_version="accept")
    snapshot = await pull(container, today, tmp_path)
    assert (snapshot.origin, snapshot.announced_rows, rows_of(snapshot)) == ("cached", None, 1)


async def test_what_get_was_told_counts_for_pull(container: SandboxContainer, today: Window, tmp_path: Path) -> None:
    await client_of(container).get(None, "sparse", response_func=None)
    snapshot = await pull(container, today, tmp_path)
    assert (snapshot.origin, snapshot.announced_rows) == ("cached", ROWS)
    with pytest.raises(RowCountMismatchError, match=LOST):
        rows_of(snapshot)


async def test_a_number_of_another_window_is_not_taken_for_that_of_an_older_version(
    container: SandboxContainer, today: Window, tmp_path: Path
) -> None:
    before = datetime.now(timezone.utc)
    evidence = LocalEvidence(identity_of(container.host, container.port), "sparse")
    evidence.expect(PendingCount(ROWS, before, before))
    container.add_version("sparse", before - timedelta(hours=1), "id,name\n1,row\n")
    snapshot = await pull(container, today, tmp_path)
    assert (snapshot.origin, snapshot.announced_rows) == ("cached", None)
    assert rows_of(snapshot) == 1


async def test_rows_that_the_container_counts_anew_make_a_version_good_again(
    container: SandboxContainer, today: Window, tmp_path: Path
) -> None:
    container.set_live("sparse", "id,name\n1,row\n")
    container.inject("sparse", faults.AnnouncedRows(2))
    snapshot = await pull(container, today, tmp_path)
    with pytest.raises(RowCountMismatchError, match="announced 2 rows, but the CSV has 1"):
        rows_of(snapshot)
    again = await pull(container, today, tmp_path)
    assert (again.sha256, again.origin, rows_of(again)) == (snapshot.sha256, "fetched", 1)
    # From now on it is like any other.
    cached = await pull(container, today, tmp_path)
    assert (cached.origin, rows_of(cached)) == ("cached", 1)


async def test_a_version_without_rows_is_one_that_has_lost_them(
    container: SandboxContainer, today: Window, tmp_path: Path
) -> None:
    container.add_version("sparse", datetime.now(timezone.utc) - timedelta(hours=1), "id,name\n")
    snapshot = await pull(container, today, tmp_path)
    assert snapshot.origin == "cached"
    with pytest.raises(RowCountMismatchError, match="the CSV has 0 rows, but the container never records") as raised:
        rows_of(snapshot)
    assert (raised.value.announced_rows, raised.value.found_rows) == (None, 0)
    past = Window(today.from_dt, datetime.now(timezone.utc))
    with pytest.raises(RowCountMismatchError, match="0 rows"):
        await pull(container, past, tmp_path)


async def test_a_pull_that_ends_after_its_window_is_refused_or_marked(
    container: SandboxContainer, tmp_path: Path
) -> None:
    container.set_live("sparse", "id,name\n1,row\n")
    container.inject("sparse", faults.FrameDelay(0.4), times=None)
    now = datetime.now(timezone.utc)
    window = Window(now - timedelta(hours=1), now + timedelta(seconds=1))
    with pytest.raises(NoVersionInWindowError, match=r"its pull ended only at .* after the window"):
        await pull(container, window, tmp_path)
    assert list(tmp_path.iterdir()) == []
    container.set_live("late", "id,name\n1,row\n")
    container.inject("late", faults.FrameDelay(0.4), times=None)
    began = datetime.now(timezone.utc)
    snapshot = await client_of(container).pull(
        "late", began, began + timedelta(seconds=1), directory=tmp_path, missing_version="accept"
    )
    assert snapshot.is_outside
    assert snapshot.announced_at > snapshot.window.to_dt > snapshot.requested_at


def test_evidence_is_kept_until_the_rows_are_counted(state: Path) -> None:
    evidence = LocalEvidence("127.0.0.1:1", "orders")
    assert evidence.row_count("a" * 64) is None
    evidence.announce("a" * 64, 5)
    assert evidence.row_count("a" * 64) == RowCount(5)
    evidence.count("a" * 64, 5, 5)
    assert evidence.row_count("a" * 64) is None
    evidence.count("b" * 64, 5, 4)
    evidence.announce("b" * 64, 4)
    assert LocalEvidence("127.0.0.1:1", "orders").row_count("b" * 64) == RowCount(5, 4)
    assert LocalEvidence("127.0.0.1:1", "others").row_count("b" * 64) is None
    evidence.count("b" * 64, 4, 4)
    assert evidence.row_count("b" * 64) is None


def test_files_that_cannot_be_read_or_written_are_no_evidence(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = LocalEvidence("127.0.0.1:1", "orders")
    evidence.announce("a" * 64, 5)
    (file,) = (path for path in state.rglob("*.json"))
    file.write_text("{")
    assert evidence.row_count("a" * 64) is None
    monkeypatch.setenv(STATE_DIRECTORY, "/proc/none")
    with pytest.raises(OSError, match="/proc/none"):
        LocalEvidence("127.0.0.1:1", "orders").announce("a" * 64, 5)
