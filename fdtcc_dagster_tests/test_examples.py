"""The examples: each is run on the container that `examples/README.md` starts."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import polars as pl
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.components.project import run_in
from fdtcc_dagster_tests.midday import utc_today
from fdtcc_dagster_tests.serving import serving
from fdtcc_dagster_tests.snippets import snippets

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def container() -> Iterator[SandboxContainer]:
    with SandboxContainer(EXAMPLES / "container") as container:
        yield container


@pytest.fixture
def examples(container: SandboxContainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the examples for this container, in the current directory."""
    monkeypatch.chdir(tmp_path)
    copy = shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("data", "__pycache__"))
    for file in copy.rglob("*.[py][ya]*"):
        file.write_text(file.read_text(encoding="utf-8").replace("8888", str(container.port)), encoding="utf-8")
    return copy


def run_file(file: Path) -> dict[str, Any]:
    return runpy.run_path(str(file), run_name=file.stem)


def materialize(defs: dg.Definitions, key: str) -> None:
    with dg.instance_for_test() as instance:
        job = defs.resolve_implicit_global_asset_job_def()
        assert job.execute_in_process(instance=instance, partition_key=key).success


def test_each_example_has_a_page_that_the_list_links() -> None:
    listed = re.findall(
        r"^\| \[(\w+)\]\((\w+)\) \|", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert all(name == target for name, target in listed)
    assert sorted(name for name, _ in listed) == sorted(page.parent.name for page in EXAMPLES.glob("*/README.md"))
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} - {"container"} == {name for name, _ in listed}


def test_minimal(examples: Path) -> None:
    materialize(run_file(examples / "minimal" / "definitions.py")["defs"], "2026-01-12")
    assert pl.read_parquet("data/orders/2026-01-12.parquet")["id"].to_list() == [1, 2, 3, 4]


def test_downstream(container: SandboxContainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `test_downstream.py` does not show: that the container of the examples has what is declared."""
    for name, value in {"FDTCC_HOST": container.host, "FDTCC_PORT": container.port, "STORE": tmp_path}.items():
        monkeypatch.setenv(name, str(value))
    today = str(utc_today(seconds=30))
    materialize(run_file(EXAMPLES / "downstream" / "upstream.py")["defs"], today)
    assert pl.read_parquet(tmp_path / "orders" / f"{today}.parquet").height == 4


def test_dg_project(examples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(examples / "dg_project" / "src")
    try:
        defs = dg.load_from_defs_folder(path_within_project=examples / "dg_project" / "src" / "foundry_project")
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "foundry_project"]:
            del sys.modules[name]
    materialize(defs, "2026-01-12")
    stored = pl.read_parquet("data/foundry/orders/2026-01-12.parquet")
    assert stored.schema["amount"] == pl.Decimal(12, 2)
    assert stored.height == 4


def test_notebook(examples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = run_file(examples / "notebook" / "notebook.py")
    assert (
        names["snapshot"].size_bytes == (EXAMPLES / "container" / "orders" / "2026-01-05T07-00-00Z.csv").stat().st_size
    )
    assert names["stored"].collect().height == 2 + 4
    said = capsys.readouterr().out
    assert said.startswith("cached ")
    assert "40.50" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "stored"),
    [
        ("minimal", "data/orders/2026-01-12.parquet"),
        ("notebook", None),
        ("dg_project", "examples/dg_project/data/foundry/orders/2026-01-12.parquet"),
    ],
)
def test_the_commands_of_a_page_can_be_pasted(page: str, stored: str | None, examples: Path) -> None:
    block = snippets(examples / page / "README.md", "sh")[-1]
    home = examples.parent / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    # In place of `pip install -e examples/dg_project`.
    path = os.pathsep.join([str(examples / "dg_project" / "src"), str(EXAMPLES.parent)])
    result = run_in(examples.parent, home, "sh", "-e", "-c", block, PYTHONPATH=path)
    assert result.returncode == 0, result.output
    assert stored is None or pl.read_parquet(stored).height == 4


@pytest.fixture
def progress(container: SandboxContainer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where `progress_page` is served, for this container."""
    monkeypatch.setenv("FDTCC_HOST", container.host)
    monkeypatch.setenv("FDTCC_PORT", str(container.port))
    with serving(run_file(EXAMPLES / "progress_page" / "app.py")["app"]) as port:
        yield f"127.0.0.1:{port}"


def opened(server: str, origin: str | None = None) -> AbstractContextManager[ClientConnection]:
    """A page of the server itself, or of another origin."""
    return connect(f"ws://{server}/pull", additional_headers={"Origin": origin or f"http://{server}"})


@contextmanager
def asking(server: str, **wanted: str) -> Iterator[ClientConnection]:
    """A page that has asked for a dataset."""
    with opened(server) as page:
        page.send(json.dumps({"name": "orders", "from": "2026-01-05", "to": "2026-01-12", **wanted}))
        yield page


def told(page: ClientConnection) -> Any:
    """What the page is told next."""
    return json.loads(page.recv(timeout=20))


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_page_gets_each_message_and_then_the_file_as_long_as_it_is_open(progress: str) -> None:
    assert "<title>Pull a dataset</title>" in httpx.get(f"http://{progress}/").text
    with asking(progress) as page:
        assert told(page)["message"]["message"].startswith("Connection established")
        assert "Found 1 versions" in told(page)["message"]["message"]
        done = told(page)["done"]
        assert done["rows"] == 2
        link = f"http://{progress}/{done['link']}"
        response = httpx.get(link)
        assert len(response.content) == done["bytes"]
        assert response.headers["content-disposition"] == 'attachment; filename="orders.csv"'
        assert pl.read_csv(response.content)["customer"].to_list() == ["Ada", "Grace"]
    eventually(lambda: httpx.get(link).status_code == 404)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"name": "oders"}, r"dataset 'oders', window .*foundry_datasets\.toml"),
        ({"to": "2026-01-04"}, r"inverted"),
        ({"to": "soon"}, r"'soon'"),
        ({"from": "2025-01-05", "to": "2025-01-06"}, r"has no version that was pulled in this window"),
    ],
)
def test_a_failure_is_a_sentence_on_the_page(wanted: dict[str, str], said: str, progress: str) -> None:
    with asking(progress, **wanted) as page:
        while "error" not in (answer := told(page)):
            pass
    assert re.search(said, answer["error"])
    assert not answer["error"].startswith("get_single")


def test_leaving_the_page_cancels_the_pull(progress: str, container: SandboxContainer) -> None:
    container.inject("orders", faults.Silence())
    with asking(progress):
        eventually(lambda: container.open_sockets == 1)
    eventually(lambda: container.open_sockets == 0)


def test_what_is_no_request_is_answered_by_a_sentence(progress: str) -> None:
    with opened(progress) as page:
        page.send('{"name": "orders"}')
        assert told(page)["error"].startswith("Send a name, from and to: ")


def test_a_page_of_another_site_gets_nothing(progress: str) -> None:
    with pytest.raises(InvalidStatus), opened(progress, "https://example.com"):
        pass
    # The same by a name of that site, whose name server says that it is this machine.
    other, port = f"example.com:{progress.rpartition(':')[2]}", int(progress.rpartition(":")[2])
    with pytest.raises(InvalidStatus), socket.create_connection(("127.0.0.1", port)) as to_the_app:
        connect(f"ws://{other}/pull", sock=to_the_app, additional_headers={"Origin": f"http://{other}"}).close()
