from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest

from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.cli.conftest import Run
from fdtcc_dagster_tests.faults.conftest import Mount, mount  # noqa: F401  a fixture

CSV = "id,code\n1,007\n2,008\n"
FOUR = datetime(2026, 1, 5, 4, tzinfo=timezone.utc)
CACHED = ("--from", "2026-01-05", "--to", "2026-01-06")
YESTERDAY = (datetime.now(timezone.utc) - timedelta(days=1)).isoformat()


@pytest.fixture
def container(sandbox_container: SandboxContainer) -> SandboxContainer:
    sandbox_container.add_version("orders", FOUR, CSV)
    sandbox_container.set_live("live", CSV)
    return sandbox_container


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A directory of its own, for all that is in it at the end."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.mark.usefixtures("container")
def test_a_version_becomes_a_parquet_file(run: Run, out: Path) -> None:
    file = out / "orders.parquet"
    done = run("pull", "orders", *CACHED, "--out", file)
    assert done.code == 0
    assert f"{file}: 2 rows, cached, " in done.out
    assert "Found 1 versions for dataset '<uuid>'" in done.err
    assert pl.read_parquet(file).to_dict(as_series=False) == {"id": [1, 2], "code": ["007", "008"]}
    assert list(out.iterdir()) == [file]


@pytest.mark.usefixtures("container")
@pytest.mark.parametrize("transport", [[], ["--zip"]])
def test_by_default_the_window_is_open_and_today_s_data_are_pulled(run: Run, out: Path, transport: list[str]) -> None:
    file = out / "live.csv"
    done = run("pull", "live", "--from", YESTERDAY, "--out", file, "--json", *transport)
    assert done.code == 0
    assert done.json["origin"] == "fetched"
    assert (done.json["rows"], done.json["announced_rows"], done.json["outside_window"]) == (2, 2, False)
    assert done.json["schema"] == {"id": "Int64", "code": "String"}
    assert (file.read_text(), done.json["bytes"]) == (CSV, len(CSV))
    # As any other file, and not as private as what is on its way.
    (out / "other").touch()
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE((out / "other").stat().st_mode)


def test_a_name_may_look_like_an_address(run: Run, container: SandboxContainer, out: Path) -> None:
    for name in ("orders:2024", "https"):
        container.set_live(name, CSV)
        assert run("pull", name, "--from", YESTERDAY, "--out", out / "live.csv").code == 0


@pytest.mark.usefixtures("container")
@pytest.mark.parametrize("name", ["orders.parquet", "orders.csv"])
def test_a_schema_is_applied_strictly_and_a_failure_keeps_the_file(run: Run, out: Path, name: str) -> None:
    schema, file = out.parent / "schema.yaml", out / name
    schema.write_text("{id: Int64, code: String}")
    assert run("pull", "orders", *CACHED, "--out", file, "--schema", schema).code == 0
    before = file.read_bytes()
    schema.write_text("{id: Date, code: String}")
    done = run("pull", "orders", *CACHED, "--out", file, "--schema", schema)
    assert done.code == 8
    assert "'id'" in done.err
    assert "Traceback" not in done.err
    assert (list(out.iterdir()), file.read_bytes()) == ([file], before)


@pytest.mark.parametrize(
    ("dataset", "arguments", "fault", "code", "message"),
    [
        ("orders", ["--from", "2020-01-01", "--to", "2020-02-01"], None, 7, "--accept-today"),
        ("oders", CACHED, None, 5, "does not know this name"),
        ("orders", ["--from", "soon"], None, 2, "--from='soon' is not an ISO 8601 timestamp"),
        ("orders", ["--from", "2026-01-05", "--to", "soon"], None, 2, "--to='soon' is not an ISO 8601 timestamp"),
        ("orders", ["--from", "0001-01-01T00:00+14:00"], None, 2, "outside of the years"),
        ("orders", ["--from", "2999-01-01"], None, 7, "--from 2999-01-01 is in the future: it is 20"),
        ("a:1", [*CACHED, "--container", "localhost:no"], None, 2, "address must be"),
        ("orders", ["--from", "2026-01-06", "--to", "2026-01-05"], None, 2, "empty or inverted"),
        ("orders", ["--from", "2999-01-01", "--to", "2999-02-01"], None, 7, "2999"),
        ("live", ["--from", YESTERDAY], faults.JobFailure("out of credits"), 6, "out of credits"),
        ("live", ["--from", YESTERDAY], faults.AnnouncedRows(3), 8, "3 rows"),
        ("orders", CACHED, faults.RefusedHandshake(401), 3, "See also: fdtcc check 127.0.0.1:"),
    ],
)
def test_an_expected_failure_has_its_exit_code_and_leaves_nothing(
    run: Run,
    container: SandboxContainer,
    out: Path,
    dataset: str,
    arguments: list[str],
    fault: faults.Fault | None,
    code: int,
    message: str,
) -> None:
    if fault is not None:
        container.inject(None if isinstance(fault, faults.RefusedHandshake) else dataset, fault, times=None)
    done = run("pull", dataset, *arguments, "--out", out / "x.parquet")
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert list(out.iterdir()) == []


def test_an_attempt_that_fails_is_said_once(
    run: Run, container: SandboxContainer, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda *_: 0.01)  # of the wait
    container.inject("orders", faults.ServiceRestart(1))
    done = run("pull", "orders", *CACHED, "--out", out / "x.csv")
    assert done.code == 0
    assert done.err.count("attempt 1 of 3 failed, next one in ") == 1


@pytest.mark.usefixtures("container")
def test_today_s_data_are_taken_on_request_and_said_to_be_so(run: Run, out: Path) -> None:
    past = ("--from", "2020-01-01", "--to", "2020-02-01")
    done = run("pull", "orders", *past, "--out", out / "x.csv", "--accept-today")
    assert done.code == 0
    assert "These are today's data" in done.out


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [("x.txt", 2, "must end in .parquet or .csv"), ("no/x.csv", 9, "does not exist"), ("d.csv", 9, "is a directory")],
)
def test_a_place_that_cannot_be_used_is_refused_before_anything_is_pulled(
    run: Run, container: SandboxContainer, out: Path, name: str, code: int, message: str
) -> None:
    (out / "d.csv").mkdir()
    done = run("pull", "orders", *CACHED, "--out", out / name)
    assert done.code == code
    assert message in done.err
    assert container.requests == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[1]", "at least one column"),
        (b"{id: Int46}", "write 'Int64'"),
        (b"{id: [", "s.yaml' is not YAML: while parsing a flow node"),
        (b"id: Int64\nid: String", "line 2: the key 'id'"),
        (b'{"id": "Int64", "id": "String"}', "s.yaml', line 1: the key 'id' is there twice; keep one of them"),
        (b"when: 2026-02-30", "s.yaml': column 'when': '2026-02-30' is not a data type"),
        (b"a: &a [*a]", "s.yaml', line 1: the value contains itself"),
        (b"id: \xff", "s.yaml' is not UTF-8"),
    ],
)
def test_a_schema_that_is_none_is_named(run: Run, out: Path, text: bytes, message: str) -> None:
    (out / "s.yaml").write_bytes(text)
    done = run("pull", "orders", *CACHED, "--out", out / "x.csv", "--schema", out / "s.yaml")
    assert done.code == 2
    assert "s.yaml" in done.err
    assert message in done.err


def test_a_schema_that_does_not_exist_is_named(run: Run, out: Path) -> None:
    done = run("pull", "orders", *CACHED, "--out", out / "x.csv", "--schema", out / "s.yaml")
    assert done.code == 9
    assert "s.yaml': No such file" in done.err


def noise(size: int) -> str:
    """A CSV that no Parquet file compresses to much less."""
    source = random.Random(1)  # noqa: S311
    return "text\n" + "".join(f"{source.randbytes(500).hex()}\n" for _ in range(size // 1000))


@pytest.mark.parametrize("name", ["x.parquet", "x.csv"])
def test_a_full_disk_is_an_error_and_leaves_nothing(
    run: Run,
    container: SandboxContainer,
    out: Path,
    mount: Mount,  # noqa: F811
    name: str,
) -> None:
    container.add_version("orders", FOUR + timedelta(hours=1), noise(1_000_000))
    mount(out, size="512k")
    done = run("pull", "orders", *CACHED, "--out", out / name)
    assert done.code == 9
    assert "No space left on device" in done.err
    assert list(out.iterdir()) == []


@pytest.mark.usefixtures("container")
def test_a_read_only_disk_is_an_error(run: Run, out: Path, mount: Mount) -> None:  # noqa: F811
    mount(out, read_only=True)
    done = run("pull", "orders", *CACHED, "--out", out / "x.csv")
    assert done.code == 9
    assert "cannot be written to" in done.err


@pytest.mark.parametrize(
    "fault", [faults.ThrottledBody(20_000), faults.Silence(1)], ids=["in the download", "in the conversation"]
)
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_leaves_nothing(run: Run, container: SandboxContainer, out: Path, fault: faults.Fault) -> None:
    container.add_version("orders", FOUR + timedelta(hours=1), noise(100_000))
    container.inject("orders", fault)
    (out / "x.parquet").write_text("the previous one")

    def interrupt() -> None:
        while not (container.downloads or (isinstance(fault, faults.Silence) and container.requests)):
            time.sleep(0.01)
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    done = run("pull", "orders", *CACHED, "--out", out / "x.parquet")
    interrupting.join()
    assert done.code == 130
    assert done.err.endswith("fdtcc: interrupted; nothing was kept\n")
    assert [path.name for path in out.iterdir()] == ["x.parquet"]
    assert (out / "x.parquet").read_text() == "the previous one"


def test_ctrl_c_twice_leaves_nothing_in_a_process_either(container: SandboxContainer, out: Path) -> None:
    container.add_version("orders", FOUR + timedelta(hours=1), noise(100_000))
    container.inject("orders", faults.ThrottledBody(20_000))
    where = f"{container.host}:{container.port}"
    command = [sys.executable, "-m", "fdtcc_dagster.cli", "pull", "orders", *CACHED, "--container", where]
    with subprocess.Popen(
        [*command, "--out", str(out / "x.csv")],
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not container.downloads and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=20)
    assert (process.returncode, stdout) == (130, "")
    assert "Traceback" not in stderr
    assert list(out.iterdir()) == []


def test_the_import_of_dagster_is_not_needed() -> None:
    program = "import fdtcc_dagster.cli.pull, fdtcc_dagster.storage.publishing, fdtcc_dagster.ingest.overlap, sys"
    program += "; sys.exit('dagster' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
