from __future__ import annotations

import hashlib
from datetime import datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest

from fdtcc_dagster.sandbox import SandboxContainer, version_file_name
from fdtcc_dagster_tests.sandbox.wire import CSV, NOON, fetch, pointer

SHA = hashlib.sha256(CSV).hexdigest()
FOUR = datetime(2026, 1, 5, 4, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("instant", "name"),
    [
        (FOUR, "2026-01-05T04-00-00Z.csv"),
        (FOUR.replace(microsecond=250000), "2026-01-05T04-00-00.250000Z.csv"),
        (FOUR.astimezone(timezone(timedelta(hours=-5))), "2026-01-05T04-00-00Z.csv"),
    ],
)
def test_version_file_name_is_a_legal_name_in_utc_that_is_read_back(
    instant: datetime, name: str, tmp_path: Path
) -> None:
    assert version_file_name(instant) == name
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / name).write_bytes(CSV)
    assert SandboxContainer(tmp_path).versions("people") == [(instant, SHA)]


def test_version_file_name_needs_a_time_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        version_file_name(FOUR.replace(tzinfo=None))


@pytest.mark.parametrize(
    "name", ["2026-01-05T040000Z.csv", "2026-01-05T04:00:00+00:00.csv", "2026-01-05T04-00-00.0Z.csv"]
)
def test_other_spellings_of_the_instant_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / name).write_bytes(CSV)
    assert SandboxContainer(tmp_path).versions("people") == [(FOUR, SHA)]


def test_hidden_files_are_no_versions(tmp_path: Path) -> None:
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "live.csv").write_text("id\n1\n")
    (tmp_path / "orders" / ".2026-01-05T04-00-00Z.csv").write_text("half-written")
    container = SandboxContainer(tmp_path)
    assert container.names() == ["orders"]
    assert container.versions("orders") == []


@pytest.mark.parametrize(
    "name",
    [
        "latest.csv",
        "2026-01-05.csv",
        "2026-01-05T04-00-00.csv",
        "2026-13-05T04-00-00Z.csv",
        "2026-01-05T04:00:00+02:00.csv",
    ],
)
def test_malformed_version_file_name_is_an_error_that_says_what_is_right(tmp_path: Path, name: str) -> None:
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / name).write_bytes(CSV)
    with pytest.raises(ValueError, match=r"2026-01-05T04-00-00Z\.csv, or live\.csv") as error:
        SandboxContainer(tmp_path)
    assert name in str(error.value)


def test_two_files_of_one_instant_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "people").mkdir()
    for name in ("2026-01-05T04-00-00Z.csv", "2026-01-05T040000Z.csv"):
        (tmp_path / "people" / name).write_bytes(CSV)
    with pytest.raises(ValueError, match="same instant"):
        SandboxContainer(tmp_path)


def test_root_that_is_missing_or_a_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        SandboxContainer(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="not a directory"):
        SandboxContainer(tmp_path / "file")


def test_what_is_no_dataset_and_no_csv_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    (tmp_path / ".git").mkdir()
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "notes.txt").touch()
    container = SandboxContainer(tmp_path)
    assert container.names() == ["people"]
    assert container.versions("people") == []


async def test_directory_serves_versions_and_live_data_and_is_left_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "people"
    folder.mkdir()
    (folder / version_file_name(FOUR)).write_bytes(CSV)
    (folder / "live.csv").write_bytes(b"id\n9\n")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with SandboxContainer(tmp_path, clock=lambda: NOON) as container:
        assert await fetch(container, SHA) == (200, CSV)
        assert await pointer(container, "people", to_dt="2026-01-05T05:00:00") == SHA
        live = await pointer(container, "people", from_dt="2026-01-06")
        assert await fetch(container, live) == (200, b"id\n9\n")
        assert container.versions("people") == [(FOUR, SHA), (NOON, live)]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


async def test_live_file_is_read_at_each_pull(tmp_path: Path) -> None:
    (tmp_path / "people").mkdir()
    live = tmp_path / "people" / "live.csv"
    past = {"from_dt": "2020-01-01", "to_dt": "2020-01-02"}
    with SandboxContainer(tmp_path) as container:
        for content in (b"id\n1\n", b"id\n2\n"):
            live.write_bytes(content)
            assert await fetch(container, await pointer(container, "people", **past)) == (200, content)
        live.unlink()
        assert "could not be downloaded" in await pointer(container, "people", **past)


async def test_without_live_data_the_newest_given_version_is_what_foundry_holds(container: SandboxContainer) -> None:
    container.add_version("people", NOON, CSV)
    container.add_version("people", NOON - timedelta(days=1), b"id\n1\n")
    assert await pointer(container, "people", from_dt="2020-01-01", to_dt="2020-01-02") == SHA


async def test_data_may_be_bytes_text_a_file_or_a_frame(container: SandboxContainer, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes(CSV)
    frame = pl.DataFrame({"id": [1, 2, 3], "name": ["Ada", "Grace", "Edsger"]})
    forms: list[bytes | str | Path | pl.DataFrame] = [CSV, CSV.decode(), path, frame]
    for day, data in enumerate(forms, start=1):
        assert container.add_version("people", NOON.replace(day=day), data) == SHA
        assert container.set_live("people", data) == SHA
    path.unlink()
    assert [sha256 for _, sha256 in container.versions("people")] == [SHA] * 4
    assert await fetch(container, SHA) == (200, CSV)


def test_version_without_time_zone_is_refused(container: SandboxContainer) -> None:
    with pytest.raises(ValueError, match="time zone"):
        container.add_version("people", NOON.replace(tzinfo=None), CSV)


def test_rids_are_the_same_for_the_same_name(container: SandboxContainer) -> None:
    assert container.rid("people") == SandboxContainer().rid("people") != container.rid("orders")


def test_a_flat_file_is_what_foundry_holds_today_and_the_rest_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_bytes(CSV)
    (tmp_path / "foundry.sales.csv").write_bytes(CSV)
    (tmp_path / "orders").mkdir()
    (tmp_path / "orders" / "2026-01-05T04-00-00Z.csv").write_text("id\n1\n")
    ignored = [tmp_path / "README.md", tmp_path / "orders" / "nested", tmp_path / "orders" / "notes.txt"]
    ignored[1].mkdir()
    ignored[0].touch()
    ignored[2].touch()
    (tmp_path / ".hidden").touch()
    container = SandboxContainer(tmp_path)
    assert container.names() == ["foundry.sales", "orders"]
    assert sorted(container.ignored) == sorted(ignored)
    assert container._service.store.live("orders").sha256 == SHA


def test_a_flat_file_beside_live_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "orders").mkdir()
    for name in ("orders.csv", "orders/live.csv"):
        (tmp_path / name).write_bytes(CSV)
    with pytest.raises(ValueError, match="both what Foundry holds today"):
        SandboxContainer(tmp_path)
