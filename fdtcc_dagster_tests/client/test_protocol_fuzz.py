"""Hundreds of thousands of frames, valid, mutated and random: whatever comes, a conversation keeps its promises."""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fdtcc_dagster import errors
from fdtcc_dagster.client.protocol import Conversation, MissingVersion, Pointer
from fdtcc_dagster.errors import FdtccError, NoVersionInWindowError
from fdtcc_dagster.window import Window
from fdtcc_dagster_tests.client.test_protocol import CURRENT, DAY, KNOWN_FRAMES, NOW, PAST, RID, SHA, UUID
from fdtcc_dagster_tests.fuzz import examples

SETTINGS: list[tuple[Window, MissingVersion]] = [
    (PAST, "raise"), (PAST, "accept"), (CURRENT, "raise"), (CURRENT, "accept"),
    (Window(NOW + DAY, NOW + 2 * DAY), "raise"),
]  # fmt: skip
FIELDS = ["type", "success", "message", "datasets", "dataset", ""]
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 1.5, float("nan"), float("inf"), 10**400, "", " ", "update", "neutral", "keepalive",
    "final", "error", "FINAL", ["final"], {"final": True}, "DONE", SHA, SHA.upper(), f"{SHA}\n", f"{SHA}0", SHA[1:],
    f"../{SHA[3:]}", f"{SHA[:32]}/{SHA[33:]}", "\u0660" * 64, [SHA], [SHA, SHA], [[SHA]], {"sha": SHA}, ["cars"],
    ["trains"], [], {}, "cars", RID, [RID], {RID: [UUID]}, UUID, f"-{RID}-", "\ud800", "\x00", "\u2028", "\x1b[2J",
    "No versions between", "Found 1 version for dataset ", "Found 0 versions for dataset ", "Downloading dataset ",
    "Found 12 rows in dataset ", f"Downloading all {'9' * 30} rows for dataset ", "ERROR | unknown", "No rows found",
    *(json.loads(frame)["message"] for frame in KNOWN_FRAMES),
]  # fmt: skip
RAW: list[str | bytes] = [
    b"", b"\x00", b"\xff\xfe", KNOWN_FRAMES[0].encode(), "", " ", "null", "1", "[]", "{}", '"final"', "{", "}", "NaN",
    "-", '{"type": "final"}', '{"type": "final", "success": true}', '{"type": "error"}',
    '{"type": "update", "type": "final"}',
    "[" * 3_000, '{"a":' * 3_000, "9" * 5_000, "\ud800", '{"message": "\\ud800"}', '{"\\udfff": "\\ud800"}',
    '{"type": "final", "success": false, "message": "\\ud800"}', '{"type": "update", "message": 1e999}', "\ufeff{}",
    '{"type": "final", "success": true, "datasets": "\\ud800"}', '{"type": "error", "message": ["\\udcff"]}',
]  # fmt: skip
CHARACTERS = ["", '"', "\\", "{", "}", ",", "x", "\u00e4", "\ud800", "0"]
ENDS = ["close code 1000", "close code 1012", "without a close frame"]


def frames_of(data: bytes) -> Iterator[str | bytes]:
    """Read bytes as choices in a grammar of frames."""
    choices = iter(data)

    def choose(items: Any) -> Any:
        return items[next(choices) % len(items)]

    def number() -> int:
        return next(choices) << 8 | next(choices)

    try:
        while True:
            kind, frame = next(choices) % 8, choose(KNOWN_FRAMES)
            if kind == 4:
                frame = json.dumps({**json.loads(frame), choose(FIELDS): choose(VALUES)})
            elif kind == 5:
                cut = number() % (len(frame) + 1)
                frame = frame[:cut] + choose(CHARACTERS) + frame[cut + 1 :]
            elif kind == 6:
                frame = choose(RAW)
            elif kind == 7:
                frame = frame[: number() % (len(frame) + 1)]
            yield frame
    except (StopIteration, RuntimeError):
        return


def fields(frame: str | bytes) -> dict[str, Any]:
    try:
        message = json.loads(frame) if isinstance(frame, str) else None
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def says_version(frame: dict[str, Any]) -> bool | None:
    """Whether a frame says that there is a version of the window, or that there is none; None: neither."""
    text = frame.get("message")
    if frame.get("type") not in ("update", "neutral") or not isinstance(text, str):
        return None
    if re.match(r"Found [1-9][0-9]* versions? for dataset ", text):
        return True
    words = (
        r"No versions between |No available versions found for dataset "
        r"|Found \d[\d,._' \u00a0\u202f]* rows? in dataset "
        r"|Downloading (dataset|all|batch) "
    )
    return False if re.match(words, text) else None


def check(outcome: object, said: list[str | bytes], window: Window, missing_version: MissingVersion) -> None:
    frames = [fields(frame) for frame in said]
    about_versions = [answer for frame in frames if (answer := says_version(frame)) is not None]
    guarded = missing_version == "raise" and not window.contains(NOW)
    if isinstance(outcome, Pointer):
        last = frames[-1]
        assert (last["type"], last["success"]) == ("final", True)
        assert not any(frame.get("type") in ("final", "error") for frame in frames[:-1])
        assert re.fullmatch(r"[0-9a-f]{64}", outcome.sha256)
        assert last["datasets"] in (outcome.sha256, outcome.sha256.upper(), [outcome.sha256], [outcome.sha256.upper()])
        assert outcome.announced_rows is None or 0 <= outcome.announced_rows < 10**18
        assert outcome.origin == ("cached" if about_versions[-1:] == [True] else "fetched")
        assert not guarded or (about_versions and all(about_versions))
        return
    assert isinstance(outcome, FdtccError)
    assert type(outcome).__name__ in vars(errors)
    assert (outcome.dataset, outcome.window) == ("cars", window)
    assert "'cars'" in str(outcome)
    assert UUID not in str(outcome)
    assert len(str(outcome)) < 2_000
    str(outcome).encode()
    if isinstance(outcome, NoVersionInWindowError):
        assert guarded


@pytest.fixture
def _no_collection_of_garbage() -> Iterator[None]:
    """What is collected at the bottom of a recursion, such as an earlier test's, cannot even say why it fails."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collection_of_garbage")
@settings(max_examples=examples(1_000), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(min_size=500, max_size=1_600), st.sampled_from(SETTINGS), st.integers(1, 40))
def test_whatever_frames_come(data: bytes, setting: tuple[Window, MissingVersion], lost_after: int) -> None:
    window, missing_version = setting
    conversation, said = Conversation("cars", window, now=NOW, missing_version=missing_version), list[str | bytes]()
    for frame in frames_of(data):
        said.append(frame)
        shown = conversation.receive(frame)
        text = json.dumps(shown, ensure_ascii=False)
        assert UUID not in text
        text.encode()
        if len(said) == lost_after and conversation.outcome is None:
            conversation.closed(ENDS[lost_after % len(ENDS)])
            assert isinstance(conversation.outcome, FdtccError)
        if conversation.outcome is not None:
            outcome = conversation.outcome
            check(outcome, said, window, missing_version)
            assert conversation.receive(frame) is None
            conversation.closed("later")
            assert conversation.outcome is outcome
            conversation, said = Conversation("cars", window, now=NOW, missing_version=missing_version), []
    conversation.closed("at last")
    check(conversation.outcome, said, window, missing_version)
