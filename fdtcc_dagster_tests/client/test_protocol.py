from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fdtcc_dagster.client.protocol import (
    Conversation,
    MissingVersion,
    Pointer,
    check_pointer,
    is_terminal,
    parse_frame,
    request_all,
)
from fdtcc_dagster.client.retry import is_retryable
from fdtcc_dagster.errors import (
    DatasetNotFoundError,
    DatasetRetrievalError,
    EmptyDatasetError,
    FdtccError,
    NoVersionInWindowError,
    ProtocolError,
    ServiceConnectionLostError,
)
from fdtcc_dagster.redaction import redact
from fdtcc_dagster.window import Window

NOW = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
DAY = timedelta(days=1)
PAST = Window(NOW - 10 * DAY, NOW - 3 * DAY)
CURRENT = Window(NOW - DAY, NOW + DAY)
SHA = "0123456789abcdef" * 4
UUID = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
RID = f"ri.foundry.main.dataset.{UUID}"


def frame(kind: str, success: bool = True, message: str = "", **more: Any) -> str:
    return json.dumps({"type": kind, "success": success, "message": message, **more})


ACK = frame("update", True, "Connection established, starting operation…", datasets=["cars"])
NEVER_PULLED = frame("neutral", False, "No available versions found for dataset 'cars'. No metadata file found.")
NO_VERSIONS = frame("update", True, "No versions between '2026-02-28' and '2026-03-07' found for dataset 'cars'.")
FOUND = frame("update", True, f"Found 2 versions for dataset '{UUID}' between 'a' and 'b'.")
DOWNLOADING = frame("update", True, "Downloading dataset 'cars' from Foundry...")
ROWS = frame("update", True, "Downloading all 120 rows for dataset 'cars'...")
BATCHES = frame("update", True, "Found 5000 rows in dataset 'cars', starting download in 3 batch(es).")
KEEPALIVE = frame("keepalive", True, "still here")
DONE = frame("final", True, "DONE", datasets=SHA)
FAILED = frame("final", True, "DONE", datasets=f"Dataset {RID} could not be downloaded or does not exist.")
CAUSE = frame("update", False, f"Failed to download dataset 'cars'. Permission denied on {RID}")
EMPTY = frame("final", False, "No rows found for dataset 'cars'.")
UNKNOWN = frame("error", False, "ERROR | Not a single valid RIDs found. Datasets 'cars' are unknown.")
MALFORMED = frame("final", False, "ERROR | Invalid JSON")

FIRST_PULL = [ACK, NEVER_PULLED, DOWNLOADING, ROWS, DONE]


def talk(*frames: str | bytes, window: Window = CURRENT, missing_version: MissingVersion = "raise") -> Conversation:
    conversation = Conversation("cars", window, now=NOW, missing_version=missing_version)
    for data in frames:
        conversation.receive(data)
    return conversation


def pointer_of(conversation: Conversation) -> Pointer:
    assert isinstance(conversation.outcome, Pointer), conversation.outcome
    return conversation.outcome


def failure_of(conversation: Conversation) -> FdtccError:
    assert isinstance(conversation.outcome, FdtccError), conversation.outcome
    return conversation.outcome


def test_request_names_one_dataset_and_both_inclusive_bounds_in_utc() -> None:
    """See docs/protocol.md#the-bounds-of-a-window."""
    berlin = timezone(timedelta(hours=2))
    window = Window(datetime(2026, 3, 1, tzinfo=berlin), datetime(2026, 3, 2, tzinfo=berlin))
    assert json.loads(Conversation("cars", window, now=NOW).request()) == {
        "names": ["cars"],
        "from_dt": "2026-02-28T22:00:00+00:00",
        "to_dt": "2026-03-01T21:59:59.999999+00:00",
    }


def test_request_of_all_is_of_the_instant_now_in_utc() -> None:
    """See docs/protocol.md#the-bounds-of-a-window."""
    now = NOW.astimezone(timezone(timedelta(hours=-5)))
    assert json.loads(request_all(["a", "b"], now)) == {
        "names": ["a", "b"],
        "from_dt": "2026-03-10T12:00:00+00:00",
        "to_dt": "2026-03-10T12:00:00+00:00",
    }


def test_first_pull_of_a_current_window_is_fetched_with_its_rows() -> None:
    """See docs/protocol.md#when-success-is-false."""
    assert pointer_of(talk(*FIRST_PULL)) == Pointer(SHA, 120, "fetched")


def test_batches_announce_their_rows() -> None:
    """See docs/protocol.md#rows-can-be-lost."""
    assert pointer_of(talk(ACK, DOWNLOADING, BATCHES, DONE)).announced_rows == 5000


def test_version_of_a_past_window_is_cached_and_has_no_announced_rows() -> None:
    """See docs/protocol.md#a-version-in-the-window."""
    assert pointer_of(talk(ACK, FOUND, DONE, window=PAST)) == Pointer(SHA, None, "cached")


@pytest.mark.parametrize("word", [NEVER_PULLED, NO_VERSIONS, DOWNLOADING, ROWS, BATCHES])
def test_past_window_is_refused_at_the_first_word_of_a_download(word: str) -> None:
    """The client can hang up there: docs/protocol.md#no-version-in-the-window."""
    conversation = talk(ACK, word, window=PAST)
    error = failure_of(conversation)
    assert isinstance(error, NoVersionInWindowError)
    assert 'missing_version="accept"' in str(error)
    assert (error.dataset, error.window) == ("cars", PAST)
    conversation.receive(DONE)
    assert conversation.outcome is error


def test_download_after_a_found_version_is_refused_too() -> None:
    assert isinstance(failure_of(talk(ACK, FOUND, DOWNLOADING, DONE, window=PAST)), NoVersionInWindowError)


@pytest.mark.parametrize(
    "silence",
    [
        [],
        [ACK],
        [ACK, KEEPALIVE],
        [frame("update", True, "Found 0 versions for dataset 'x' between 'a' and 'b'.")],
        [frame("hint", True, "Found 2 versions for dataset 'x' between 'a' and 'b'.")],
    ],
)
def test_past_window_is_refused_when_no_word_about_a_version_was_said(silence: list[str]) -> None:
    assert isinstance(failure_of(talk(*silence, DONE, window=PAST)), NoVersionInWindowError)


@pytest.mark.parametrize(
    ("window", "guarded"),
    [
        (Window(NOW, NOW + DAY), False),
        (Window(NOW - DAY, NOW), True),
        (Window(NOW - DAY, NOW + timedelta(microseconds=1)), False),
        (Window(NOW + DAY, NOW + 2 * DAY), True),
        (PAST, True),
    ],
)
def test_only_a_window_that_contains_now_may_be_pulled_live(window: Window, guarded: bool) -> None:
    outcome = talk(*FIRST_PULL, window=window).outcome
    assert isinstance(outcome, NoVersionInWindowError) == guarded
    assert isinstance(outcome, Pointer) != guarded


def test_accept_takes_todays_data_and_says_so() -> None:
    conversation = talk(ACK, NO_VERSIONS, DOWNLOADING, ROWS, DONE, window=PAST, missing_version="accept")
    assert pointer_of(conversation) == Pointer(SHA, 120, "fetched")
    assert pointer_of(talk(DONE, window=PAST, missing_version="accept")).origin == "fetched"


def test_unknown_name_ends_the_conversation_although_the_socket_stays_open() -> None:
    """See docs/protocol.md#an-unknown-name."""
    error = failure_of(talk(UNKNOWN))
    assert isinstance(error, DatasetNotFoundError)
    assert "'cars'" in str(error)
    assert "foundry_datasets.toml" in str(error)


def test_other_errors_are_terminal_as_well() -> None:
    error = failure_of(talk(frame("error", False, "ERROR | The disk is full")))
    assert isinstance(error, DatasetRetrievalError)
    assert "disk is full" in str(error)


def test_first_final_wins() -> None:
    """An empty dataset is followed by a second, successful final: docs/protocol.md#an-empty-dataset."""
    error = failure_of(talk(ACK, EMPTY, frame("final", True, "DONE", datasets="some prose"), DONE))
    assert isinstance(error, EmptyDatasetError)
    conversation = talk(DONE, frame("final", True, "DONE", datasets="f" * 64))
    assert pointer_of(conversation).sha256 == SHA


def test_failed_job_ends_with_success_and_is_a_failure_with_its_cause() -> None:
    """See docs/protocol.md#a-failed-job."""
    error = failure_of(talk(ACK, DOWNLOADING, CAUSE, FAILED))
    assert isinstance(error, DatasetRetrievalError)
    assert "Permission denied" in str(error)
    assert "could not be downloaded" not in str(error)


def test_only_the_last_causes_are_kept() -> None:
    causes = [frame("update", False, f"cause {number}") for number in range(9)]
    text = str(failure_of(talk(*causes, FAILED)))
    assert "cause 8" in text
    assert "cause 5" not in text


@pytest.mark.parametrize(
    "datasets",
    [
        None, "", SHA[:-1], SHA + "0", "g" * 64, f"{SHA}\n", f" {SHA}", f"../{SHA}", [], [SHA, SHA], [[SHA]],
        {"a": SHA},
        7, True, [None],
    ],
)  # fmt: skip
def test_anything_but_64_hex_digits_is_no_pointer(datasets: object) -> None:
    assert isinstance(failure_of(talk(frame("final", True, "DONE", datasets=datasets))), DatasetRetrievalError)
    assert isinstance(failure_of(talk(frame("final", True, "DONE"))), DatasetRetrievalError)


@pytest.mark.parametrize("datasets", [SHA, [SHA], SHA.upper(), [SHA.upper()]])
def test_pointer_is_a_string_or_a_list_in_any_case(datasets: object) -> None:
    """See docs/protocol.md#a-first-pull."""
    assert pointer_of(talk(frame("final", True, "DONE", datasets=datasets))).sha256 == SHA


@pytest.mark.parametrize("success", [False, None, "true", 1])
def test_final_without_success_is_a_failure_even_with_a_pointer(success: Any) -> None:
    assert isinstance(failure_of(talk(frame("final", success, "no", datasets=SHA))), DatasetRetrievalError)


def test_acknowledgement_without_the_name_is_a_failure() -> None:
    """See docs/protocol.md#an-unknown-name."""
    error = failure_of(talk(frame("update", True, "Connection established", datasets=["trains"])))
    assert isinstance(error, DatasetNotFoundError)


def test_final_wins_over_the_close_that_follows() -> None:
    """See docs/protocol.md#a-malformed-request."""
    conversation = talk(MALFORMED)
    conversation.closed("close code 1008")
    error = failure_of(conversation)
    assert isinstance(error, ProtocolError)
    assert "Invalid JSON" in str(error)


def test_close_before_the_end_is_a_lost_connection_and_names_the_last_message() -> None:
    """See docs/protocol.md#when-the-service-goes-away."""
    conversation = talk(ACK, DOWNLOADING, KEEPALIVE)
    conversation.closed("close code 1012")
    error = failure_of(conversation)
    assert isinstance(error, ServiceConnectionLostError)
    assert "1012" in str(error)
    assert "Downloading dataset 'cars'" in str(error)


@pytest.mark.parametrize("data", [b"\x00", "", "hello", "[1]", '"text"', "1", "null", "[" * 100_000, "9" * 5_000])
def test_what_is_no_json_object_is_a_protocol_error(data: str | bytes) -> None:
    error = failure_of(talk(data))
    assert isinstance(error, ProtocolError)
    assert "another service" in str(error)
    with pytest.raises(ProtocolError):
        parse_frame(data)


def test_unknown_types_and_keepalives_are_shown_and_decide_nothing() -> None:
    conversation = Conversation("cars", CURRENT, now=NOW)
    for text in (KEEPALIVE, frame("progress", False, "40 %"), "{}", '{"type": ["final"]}'):
        assert conversation.receive(text) == json.loads(text)
        assert conversation.outcome is None


def test_nothing_is_shown_after_the_outcome() -> None:
    conversation = talk(DONE)
    assert conversation.receive(KEEPALIVE) is None


def test_messages_are_shown_without_rids_and_uuids() -> None:
    """See docs/protocol.md#rids-in-messages."""
    conversation = Conversation("cars", CURRENT, now=NOW)
    shown = conversation.receive(frame("update", True, f"{RID} {UUID.upper()}", datasets=["cars"], more={UUID: [RID]}))
    assert shown == {
        "type": "update",
        "success": True,
        "message": "<rid> <uuid>",
        "datasets": ["cars"],
        "more": {"<uuid>": ["<rid>"]},
    }


@pytest.mark.parametrize(
    "frames",
    [
        [frame("error", False, f"ERROR | {RID} {UUID}")],
        [frame("error", False, f"ERROR | Not a single valid RIDs found: {RID} {UUID}")],
        [frame("final", False, f"ERROR | {RID} {UUID}")],
        [frame("final", False, f"No rows found for {RID} {UUID}")],
        [frame("final", False, f"{RID} {UUID}")],
        [CAUSE, FAILED],
        [frame("final", True, "DONE", datasets=[{RID: [UUID]}, RID])],
        [frame("update", True, f"{RID} {UUID}")],
        [frame("update", True, f"{'x' * 150}{RID} {'y' * 20} {UUID}")],
        [f"{RID} {UUID}"],
        [json.dumps([RID, UUID])],
        [json.dumps({"type": "error", "message": {UUID: [RID]}})],
    ],
)
def test_errors_carry_no_rids_and_uuids(frames: list[str]) -> None:
    """See docs/protocol.md#rids-in-messages."""
    conversation = talk(*frames)
    conversation.closed("the end")
    text = str(failure_of(conversation))
    assert not re.search(r"\bri\.|3f2504e0", text)


def test_deep_nesting_is_cut_and_never_an_exception() -> None:
    for depth in (50, 400, 600, 900, 5_000):
        nested = "[" * depth + json.dumps(RID) + "]" * depth
        conversation = talk(f'{{"type": "update", "message": {nested}, "datasets": {nested}}}', f'{{"x": {nested}}}')
        conversation.closed("the end")
        assert RID not in str(failure_of(conversation))
    assert "…" in json.dumps(redact(json.loads("[" * 50 + "]" * 50)), ensure_ascii=False)


@pytest.mark.parametrize(
    "text",
    [
        "Downloading all 5,000 rows for dataset 'cars'...",
        "Downloading all 5 000 rows for dataset 'cars'...",
        "Downloading all 5\u202f000 rows for dataset 'cars'...",
        "Downloading all 5_000 rows for dataset 'cars'...",
        "Downloading all 5000 row(s) for dataset 'cars'...",
        "downloading all 5000 rows for dataset 'cars'...",
        "Found 5,000 rows in dataset 'cars', starting download in 3 batch(es).",
        "Found 5'000 rows in dataset 'cars', starting download in 3 batch(es).",
    ],
)
def test_rows_are_announced_with_and_without_separators(text: str) -> None:
    conversation = talk(ACK, NEVER_PULLED, DOWNLOADING, frame("update", True, text), DONE)
    assert pointer_of(conversation).announced_rows == 5000
    assert conversation.warnings == []


@pytest.mark.parametrize(
    "text",
    [
        "Downloading all 5000.0 rows for dataset 'cars'...",
        "Downloading all 5.000 rows for dataset 'cars'...",
        "Downloading all 5e3 rows for dataset 'cars'...",
        "Downloading all 50,00 rows for dataset 'cars'...",
        "Downloading all rows for dataset 'cars'...",
        "Found 5000 records in dataset 'cars', starting download in 3 batch(es).",
        "Fetching 5000 rows of dataset 'cars'",
        "Dataset 'cars' has 5000 rows",
        "5000 rows found in dataset 'cars'",
        "Counted 5,000 entries of dataset 'cars'",
        f"Found {'9' * 19} rows in dataset 'cars', starting download in 3 batch(es).",
    ],
)
def test_what_only_looks_like_an_announcement_is_a_warning(text: str) -> None:
    conversation = talk(ACK, NEVER_PULLED, DOWNLOADING, frame("update", True, text), DONE)
    assert pointer_of(conversation).announced_rows is None
    (warning,) = conversation.warnings
    assert "looks like an announcement of rows" in warning


def test_nothing_else_that_the_container_says_looks_like_an_announcement() -> None:
    named = frame("update", True, "Downloading dataset '3 rows' from Foundry...")
    batch = frame("update", True, "Downloading batch 1 of 3 for dataset 'my rows'…")
    assert talk(ACK, NEVER_PULLED, named, DOWNLOADING, ROWS, batch, DONE).warnings == []
    assert talk(ACK, FOUND, DONE).warnings == []


def test_check_pointer_gives_lower_case_and_refuses_paths() -> None:
    assert check_pointer(SHA.upper()) == SHA
    for wrong in ("", SHA[1:], f"{SHA}/", f"../{SHA[3:]}", None, SHA.encode(), f"{SHA}\n"):
        with pytest.raises(ValueError, match="64 hex digits"):
            check_pointer(wrong)
    with pytest.raises(ValueError, match="<rid>"):
        check_pointer(RID)


def test_terminal_frames() -> None:
    """See docs/protocol.md#an-unknown-name and docs/protocol.md#the-first-terminal-frame-decides."""
    assert [is_terminal({"type": kind}) for kind in ("final", "error", "update", "neutral", "keepalive", None)] == [
        True, True, False, False, False, False,
    ]  # fmt: skip


KNOWN_FRAMES = [
    ACK, NEVER_PULLED, NO_VERSIONS, FOUND, DOWNLOADING, ROWS, BATCHES, KEEPALIVE, DONE, FAILED, CAUSE, EMPTY, UNKNOWN,
    MALFORMED,
]  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([SHA, RID, "cars"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
messages = st.sampled_from([json.loads(text)["message"] for text in KNOWN_FRAMES]) | json_values
odd_frames = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["update", "neutral", "keepalive", "final", "error", "x"]) | json_values,
        "success": st.booleans() | json_values,
        "message": messages,
        "datasets": st.sampled_from([SHA, [SHA], SHA.upper(), ["cars"], "prose"]) | json_values,
    },
).map(json.dumps)
cut_frames = st.tuples(st.sampled_from(KNOWN_FRAMES), st.integers(0, 200)).map(lambda cut: cut[0][: cut[1]])
any_frames = (
    st.sampled_from(KNOWN_FRAMES)
    | odd_frames
    | cut_frames
    | json_values.map(json.dumps)
    | st.text(max_size=20)
    | st.binary(max_size=5)
)


@settings(max_examples=300, deadline=None)
@given(st.lists(any_frames, max_size=8), st.sampled_from([PAST, CURRENT]), st.sampled_from(["raise", "accept"]))
def test_any_frames_have_an_outcome_and_the_guard_holds(
    frames: list[str | bytes], window: Window, missing_version: MissingVersion
) -> None:
    conversation = Conversation("cars", window, now=NOW, missing_version=missing_version)
    seen: list[dict[str, Any]] = []
    for data in frames:
        if conversation.outcome is None and isinstance(data, str) and data.startswith("{"):
            try:
                seen.append(json.loads(data))
            except ValueError:
                seen.append({})
        shown = conversation.receive(data)
        assert UUID not in str(shown)
    conversation.closed("the end")
    outcome = conversation.outcome
    if isinstance(outcome, Pointer):
        last = seen[-1]
        assert last["type"] == "final"
        assert last["success"] is True
        assert SHA in str(last["datasets"]).lower()
        assert re.fullmatch("[0-9a-f]{64}", outcome.sha256)
        said = " ".join(str(message.get("message")) for message in seen)
        if window is PAST and missing_version == "raise":
            assert re.search(r"Found \d+ versions? for dataset", said)
            assert outcome.origin == "cached"
            assert "Downloading" not in " ".join(
                str(message.get("message")) for message in seen if message.get("type") in ("update", "neutral")
            )
    else:
        assert isinstance(outcome, FdtccError)
        assert UUID not in str(outcome)
        assert outcome.dataset == "cars"


FOUNDRY_ERROR = (
    "Failed to download dataset 'cars'. The user has no access to the dataset\n"
    f"{'-' * 36}REQUEST{'-' * 36}\nMETHOD = POST\nCONTENT-TYPE = application/json\nENDPOINT = /api/v1/{'x' * 300}\n"
    f"{'-' * 35}PARAMETERS{'-' * 35}\nauthorization = Bearer s3cret\n"
    f"{'-' * 36}RESPONSE{'-' * 36}\nERROR_NAME = Catalog:PermissionDenied\nERROR_CODE = PERMISSION_DENIED\n"
    f"ERROR_INSTANCE_ID = {UUID}\nSTATUS = 403\n"
)


def test_status_and_name_of_foundrys_error_are_kept_and_its_request_is_not() -> None:
    error = failure_of(talk(ACK, NEVER_PULLED, DOWNLOADING, frame("update", False, FOUNDRY_ERROR), FAILED))
    assert isinstance(error, DatasetRetrievalError)
    assert str(error).endswith(
        "job failed: Failed to download dataset 'cars'. The user has no access to the dataset "
        "(ERROR_NAME = Catalog:PermissionDenied, ERROR_CODE = PERMISSION_DENIED, STATUS = 403). "
        "Correct it in Foundry or in the container"
    )
    assert not is_retryable(error)


@pytest.mark.parametrize(
    "text",
    [f"[Errno 2] No such file or directory: '/data/cars/tmp_{UUID}_0.csv'", "Failed to zip file for dataset 'cars'"],
)
def test_a_collision_with_another_client_is_named_and_retryable(text: str) -> None:
    for frames in (
        [frame("final", True, "DONE", datasets=text)],
        [frame("update", False, f"Failed to download dataset 'cars'. {text}"), FAILED],
    ):
        error = failure_of(talk(ACK, NEVER_PULLED, DOWNLOADING, *frames))
        assert isinstance(error, DatasetRetrievalError)
        assert "collided with one of another client" in str(error)
        assert is_retryable(error)


def test_what_is_kept_of_frames_is_bounded_and_printable() -> None:
    control = "\x1b[31m\x07\u202e" * 3000
    frames = [frame("update", success=False, message=text) for text in (control, "STATUS = 400 " * 3000)]
    text = str(failure_of(talk(*frames * 10, frame("final", datasets=control))))
    assert len(text) < 5_000
    shown = talk().receive(frame("update", message="x" * 1_000_000))
    assert shown is not None
    assert len(shown["message"]) < 70_000
    assert text.isprintable()
    assert r"\x1b[31m\x07\u202e" in text


def test_the_same_warning_is_given_a_few_times() -> None:
    conversation = talk(*[frame("update", message=f"About {number} rows or so") for number in range(20)])
    assert len(conversation.warnings) == 3


@pytest.mark.parametrize("digits", ["9" * 5000, "1" + ",000" * 2000])
def test_an_absurd_number_of_rows_is_none(digits: str) -> None:
    conversation = talk(frame("update", message=f"Downloading all {digits} rows for dataset 'cars'..."))
    assert conversation.announced_rows is None
    assert max(map(len, conversation.warnings)) < 1000
