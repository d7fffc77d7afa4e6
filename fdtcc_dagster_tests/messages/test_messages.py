"""All messages that a user can see, as they are: the pages beside this file, which `--update-messages` rewrites."""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster_tests.messages.scenes import Scene
from fdtcc_dagster_tests.messages.transcript import cases, rewritten

PACKAGE = Path(__file__).parents[2] / "fdtcc_dagster"
PAGES = sorted(Path(__file__).parent.glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_said_is_what_the_page_says(
    page: Path,
    sandbox_container: SandboxContainer,
    tmp_path: Path,
    pytestconfig: pytest.Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    written = page.read_text(encoding="utf-8")
    with contextlib.ExitStack() as stack:
        said = rewritten(written, Scene(sandbox_container, tmp_path, stack).say)
    if pytestconfig.getoption("update_messages"):
        page.write_text(said, encoding="utf-8")
    else:
        assert said == written, "if the new message reads better: pytest fdtcc_dagster_tests/messages --update-messages"


SAID_BY = re.compile(
    r"\w*(?:Error|Exception|Failure|SkipReason)|_?error|_?failed|_?mismatch|_malformed|_notice|_unavailable|missing|_write"
)
"""Functions and classes whose texts users read; other literals are names, descriptions and code."""
LOGGED_BY = {"info", "warning", "error", "log"}
ELSEWHERE = {
    "client/database_lock.py": "needs Postgres: client/test_database_lock.py",
    "demo": "the demo without its data: test_demo.py",
    "interrupts.py": "ends threads, and nobody sees it",
    "sandbox/conversation.py": "what the container itself says: sandbox/test_conversation.py",
    "sandbox/server.py": "what the container itself says: sandbox/test_server.py",
    "storage/checksums.py": "an invariant of files that are our own",
    "storage/store_errors.py": "needs object stores: storage/test_store_errors.py, storage/test_object_store.py",
}
"""Modules and packages whose messages are on no page, and why; or which tests show them."""
NOT_ON_A_PAGE = {
    "module … has no attribute": "as Python's own",
    "The partitions of this run are stored, but": "needs a code location: calendar/test_partition_mapping_runs.py",
    "partitions of time windows are mapped": "an invariant: the mapping refuses them when it is made",
    "horizon=… is not later than start": "an argument of our own",
    "has no refresh within 400 days of": "an invariant: every rule has a refresh each year",
    "the crons … of the calendar": "an invariant, proven for each calendar: calendar/test_ticks.py",
    "not stored": "needs a range with gaps: checks/test_partition_checks.py",
    "cannot verify what it has stored": "needs another IO manager: checks/test_file_checks.py",
    "the container announced no number of rows": "a cached version: checks/test_partition_checks.py",
    "The checks of the stored partitions could not be": "a defect in a check: checks/test_partition_checks.py",
    "no columns were recorded": "needs another IO manager: checks/test_partition_checks.py",
    "of --out cannot be written to": "not for root: cli/test_pull.py",
    "is no directory that only this user can write to": "needs another user: client/test_directories.py",
    "cannot be written to; set": "not for root: client/test_directories.py",
    "set TMPDIR to a directory that is writable": "not for root: client/test_directories.py",
    "bytes left": "needs a full disk: faults/test_disks.py",
    "it does not begin with a member": "needs another archive: client/test_download.py",
    "its member is not deflated": "needs another archive: client/test_download.py",
    "its member is not named": "needs another archive: client/test_download.py",
    "what arrived is no ZIP of the container's form": "needs another archive: client/test_download.py",
    "for the download within": "needs a server that is full: client/test_download.py",
    "on this machine holds the dataset's lock": "needs a stopped process: client/test_locks.py",
    "the container does not say which names it knows": "client/test_check.py",
    "the snapshot's CSV cannot be written": "needs a full disk: faults/test_disks.py",
    "but its pull ended only at": "needs a clock: client/test_pull.py",
    "a conversation ends with an outcome or an exception": "an invariant",
    "Received: ": "logged at level INFO: client/test_client.py",
    "Requesting …, window": "logged at level INFO: client/test_client.py",
    "the container is asked to pull anew": "needs a version that lost rows: client/test_pull.py",
    "in which nothing has changed for two days": "logged at level INFO: client/test_spool.py",
    "which a process that was killed has left": "logged at level INFO: client/test_spool.py",
    "this system has no file locks": "needs another system: client/test_spool.py",
    "the download began anew with other bytes": "ends a reader, which reads again: client/test_spool_file.py",
    "bytes were written to": "a defect of a disk: client/test_spool_file.py",
    "the file is shorter than its": "a file that somebody cut: client/test_spool_file.py",
    "the download was ended": "ends a reader, and the download's error is shown: client/test_spool_file.py",
    "give different resources": "needs a project: components/test_loading.py",
    "must be a mapping of arguments": "an invariant: the model refuses it first",
    "the run was interrupted": "needs a signal: test_termination.py",
    "max_concurrency=… must be at least 1": "from the environment only: ingest/test_step.py",
    "Cut …… from a snapshot of": "needs another IO manager: test_other_io_managers.py",
    "Messages of the container that are not shown": "ingest/test_run_log.py",
    "arrived…, …/s": "needs time: test_run_log.py",
    "minutes so far": "needs time: test_run_log.py",
    "the slices have …, with": "an invariant",
    "The output is None: nothing is stored": "storage/test_outputs.py",
    "cannot be a path: between slashes": "test_io_manager.py",
    "leads out of": "test_io_manager.py",
    "has a slash in one of its dimensions": "test_io_manager.py",
    "the CSV cannot be read after row": "a record that Polars reads otherwise: pandas_csv/test_source.py",
    "the CSV's header cannot be read": "of Python's csv: pandas_csv/test_source.py",
    "its records are not of": "a record that Polars reads otherwise: pandas_csv/test_source.py",
    "The dataset has no transactions": "what the container itself says: sandbox/test_store.py",
    "the upload was": "ends a thread: storage/test_object_store.py",
    "storing was stopped": "ends a thread: storage/test_publishing.py",
    "needs a package": "of an extra that is not installed: storage/test_object_store.py",
    "an unfinished upload of": "needs an object store: storage/test_object_store.py",
    "was replaced while it was copied": "needs an object store: storage/test_object_store.py",
}
"""Other messages that are on no page, and why; or which tests show them."""


def messages_in(module: Path) -> Iterator[str]:
    """The messages of a module, with `…` for what is filled in."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if SAID_BY.fullmatch(name) or name in LOGGED_BY:
                for argument in [*node.args, *(each.value for each in node.keywords if each.arg == "text")]:
                    yield from _literals(argument)


def _literals(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(each.value) if isinstance(each, ast.Constant) else "…" for each in node.values)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield re.sub(r"%[srd]", "…", node.value)
    elif isinstance(node, (ast.BinOp, ast.IfExp)):
        for each in (node.left, node.right) if isinstance(node, ast.BinOp) else (node.body, node.orelse):
            yield from _literals(each)


def is_said(message: str, said: str) -> bool:
    """Tell whether a text has a message on one of its lines."""
    return re.search(re.escape(message).replace("…", ".*"), said) is not None


def all_said() -> str:
    """What all pages say."""
    return "\n".join(said for page in PAGES for _, said in cases(page.read_text(encoding="utf-8")))


def test_every_message_is_on_a_page_or_says_why_not() -> None:
    missing, needed, said = [], set[str](), all_said()
    for module in sorted(PACKAGE.rglob("*.py")):
        name = module.relative_to(PACKAGE).as_posix()
        for message in messages_in(module):
            reasons = [part for part in NOT_ON_A_PAGE if part in message]
            elsewhere = any(f"{name}/".startswith(f"{each}/") for each in ELSEWHERE)
            if len(message.strip("… .:,")) > 3 and not elsewhere and not is_said(message, said):
                needed.update(reasons)
                missing += [] if reasons else [f"{name}: {message}"]
    assert missing == [], "add a call that causes it to a page, and run pytest --update-messages"
    assert set(NOT_ON_A_PAGE) - needed == set(), "these are on a page, or are said no more"
    assert not [each for each in ELSEWHERE if not (PACKAGE / each).exists()]


def test_what_the_documentation_quotes_is_on_a_page() -> None:
    docs = PACKAGE.parent / "docs"
    tables = (docs / "troubleshooting.md").read_text(encoding="utf-8").partition("## By symptom")[0]
    tables += (docs / "connect.md").read_text(encoding="utf-8").partition("## Is it there?")[2].partition("\n## ")[0]
    quoted = re.findall(r"^\| `(.+?)` \|", tables, re.MULTILINE)
    assert len(quoted) > 30
    # Inside of a sentence of the other pages, in quotation marks.
    for page in ("errors.md", "connect.md", "upgrading.md"):
        prose = re.sub(r"^```.*?^```", "", (docs / page).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        text = " ".join(prose.split())
        quoted += re.findall(r"(?<![`(=\w])\"([^\"`]{8,})\"", text)
    parts = {part.strip(" ,;:()") for message in quoted for part in message.split("…")}
    known = "\n".join([all_said(), *NOT_ON_A_PAGE])
    assert [part for part in parts if part not in known] == []
