"""One conversation with the container, without any I/O: frames in, one outcome out.

The I/O layer sends `Conversation.request()`, feeds every frame to `receive()` and the end of the connection to
`closed()`, and stops as soon as `outcome` is set. What the frames mean was seen on the wire of the real service: see
docs/protocol.md#frames and docs/protocol.md#cases.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, get_args

from fdtcc_dagster.errors import (
    DatasetNotFoundError,
    DatasetRetrievalError,
    EmptyDatasetError,
    FdtccError,
    NoVersionInWindowError,
    ProtocolError,
    ServiceConnectionLostError,
    did_you_mean,
)
from fdtcc_dagster.redaction import MOST_SHOWN, counted, excerpt, redact
from fdtcc_dagster.window import Window

Message = dict[str, Any]
"""A frame as a JSON object, `{"type": …, "success": …, "message": …}`, with RIDs and uuids redacted.

Texts of more than 64 KiB are cut.
"""

Origin = Literal["cached", "fetched"]
"""Whether the container had a version of the window, or pulled today's data from Foundry."""

MissingVersion = Literal["raise", "accept"]
"""What to do when a past window has no version: refuse today's data, or take it knowingly."""

_POINTER = re.compile(r"[0-9a-fA-F]{64}")
_VERSIONS_FOUND = re.compile(r"Found [1-9]\d* versions? for dataset ")
_NO_VERSION = re.compile(
    r"No versions between |No available versions found for dataset "
    r"|Downloading (?:dataset|all|batch) |Found \d[\d,._' \u00a0\u202f]* rows? in dataset "
)
# Digits, in groups of three or not. A point is none of the separators: it may begin decimals.
_ANNOUNCED_ROWS = re.compile(
    r"(?:Found|Downloading all) (\d{1,3}(?:[,_' \u00a0\u202f]\d{3}){1,5}|\d{1,18}) (?:rows?|row\(s\)) "
    r"(?:in|for) dataset ",
    re.ASCII | re.IGNORECASE,
)
_QUOTED = re.compile(r"'[^']*'")
_LIKE_ANNOUNCED_ROWS = re.compile(r"(?=.*(?:\d|\ball\b)).*\b(?:rows?|records?|entries)\b", re.IGNORECASE | re.DOTALL)
_UNKNOWN_DATASET = re.compile(r"ERROR \| .*(?:Not a single valid|unknown)", re.DOTALL)
_MOST_CAUSES = 3
_MOST_WARNINGS = 3
# How foundry-dev-tools writes a failure of Foundry's API: a message, the request with its parameters, the response.
_FOUNDRY_ERROR = re.compile(r"\b(ERROR_NAME|ERROR_CODE|STATUS) = (\S+)")
_FOUNDRY_SECTION = re.compile(r"-{3,}(?:REQUEST|PARAMETERS|RESPONSE)-{3,}")
_NOTHING_NEW = re.compile(r"Dataset \S+ could not be downloaded or does not exist")
# Two requests for one dataset share a temporary file, which the first one to end removes.
_COLLISION = re.compile(r"No such file or directory: \S*tmp_|Failed to zip\b")


@dataclass(frozen=True)
class Pointer:
    """A conversation that succeeded: which CSV holds the snapshot.

    Attributes:
        sha256: 64 lower-case hex digits: the SHA-256 of the CSV's bytes, and its name in the download URL.
        announced_rows: The number of rows that the container counted in Foundry, or None if it did not say so, as for
            a cached version.
        origin: Whether the snapshot is a cached version of the window or today's data.
    """

    sha256: str
    announced_rows: int | None
    origin: Origin


def check_missing_version(value: object) -> None:
    """Refuse what is no `MissingVersion`.

    Raises:
        ValueError: It is none.
    """
    if value not in (allowed := get_args(MissingVersion)):
        meant = did_you_mean(value, allowed)
        raise ValueError(f"missing_version={value!r} is not allowed; give {' or '.join(map(repr, allowed))}{meant}")


def check_pointer(sha256: object) -> str:
    """Check a pointer, so that it can never be a path.

    Returns:
        The pointer in lower case.

    Raises:
        ValueError: It is not 64 hex digits.
    """
    if isinstance(sha256, str) and _POINTER.fullmatch(sha256):
        return sha256.lower()
    raise ValueError(f"a pointer is the 64 hex digits of a SHA-256, not {excerpt(redact(sha256))!r}")


def parse_frame(data: str | bytes) -> Message:
    """Read the JSON object of a frame, without redaction.

    Raises:
        ProtocolError: The frame is binary, not JSON, or not an object.
    """
    if isinstance(data, bytes):
        raise ProtocolError(
            f"the container sent a binary frame of {counted(len(data), 'byte')} where JSON text was expected"
        )
    try:
        # Very deep nesting ends in a RecursionError.
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(
            f"the container sent a frame that is not JSON: {excerpt(redact(data, MOST_SHOWN))!r}"
        ) from error
    if not isinstance(message, dict):
        raise ProtocolError(f"the container sent a frame that is not an object: {excerpt(redact(data, MOST_SHOWN))!r}")
    return message


def is_terminal(message: Message) -> bool:
    """Tell whether a frame ends the conversation: the container itself leaves the socket open."""
    return message.get("type") in ("final", "error")


class Conversation:
    """The state of one request for one dataset: see docs/protocol.md#several-names.

    Args:
        dataset: The dataset's name.
        window: The window to request.
        now: The current aware instant: only a window that contains it may be answered with today's data.
        missing_version: `"raise"` ends the conversation with `NoVersionInWindowError` as soon as the container says
            that it has no version of a window which does not contain `now`; `"accept"` takes today's data.
        announced_rows: What the container counted in an earlier attempt, if it did.

    Attributes:
        outcome: The pointer or the failure, as soon as there is one.
        announced_rows: How many rows the container has announced; None if it did not say so.
        has_announced: Whether it has done so in this conversation, and not only in an earlier one.
        warnings: What may be wrong with its messages, to be logged and removed; there are a few at most.
    """

    def __init__(
        self,
        dataset: str,
        window: Window,
        *,
        now: datetime,
        missing_version: MissingVersion = "raise",
        announced_rows: int | None = None,
    ) -> None:
        self.dataset = dataset
        self.window = window
        self.outcome: Pointer | FdtccError | None = None
        self._guarded = missing_version == "raise" and not window.contains(now)
        self.announced_rows = announced_rows
        self.has_announced = False
        self.warnings: list[str] = []
        self._origin: Origin | None = None
        self._warned = 0
        self._failures: deque[str] = deque(maxlen=_MOST_CAUSES)
        self._last = "nothing"

    def request(self) -> str:
        """The request: one JSON text frame, always with both dates, in UTC."""
        return json.dumps({"names": [self.dataset], **self.window.wire()})

    def receive(self, data: str | bytes) -> Message | None:
        """Take a frame.

        Returns:
            The frame, redacted, to be shown or logged; None if it is no frame or comes after the outcome.
        """
        if self.outcome is not None:
            return None
        try:
            message = parse_frame(data)
        except ProtocolError as error:
            self.outcome = self._error(ProtocolError, f"{error}; is another service listening at this address?")
            return None
        shown: Message = redact(message, MOST_SHOWN)
        kind, text = message.get("type"), str(shown.get("message", ""))
        if kind != "keepalive":
            self._last = excerpt(text)
        if kind == "error":
            self.outcome = self._refused(text)
        elif kind == "final":
            self.outcome = self._ended(message, text)
        elif kind in ("update", "neutral"):
            self._follow(message, text)
        return shown

    def closed(self, reason: str) -> None:
        """Take the end of the connection, such as `"close code 1012"`; an earlier terminal frame wins over it."""
        if self.outcome is None:
            self.outcome = self._error(
                ServiceConnectionLostError,
                f"the connection ended ({reason}) before a result; the last message was: "
                f"{self._last.rstrip('.')}. The container may have been restarted: try again",
            )

    def _follow(self, message: Message, text: str) -> None:
        accepted = message.get("datasets")
        if isinstance(accepted, list) and self.dataset not in accepted:
            self.outcome = self._error(
                DatasetNotFoundError,
                "the container's acknowledgement leaves the name out; check it against foundry_datasets.toml",
            )
            return
        if rows := _ANNOUNCED_ROWS.match(text.strip()):
            self.announced_rows, self.has_announced = int("".join(filter(str.isdigit, rows[1]))), True
        elif (
            message.get("success") is not False
            and self._warned < _MOST_WARNINGS
            and _LIKE_ANNOUNCED_ROWS.match(_QUOTED.sub("", text))
        ):
            self._warned += 1
            self.warnings.append(
                f"the container's message {excerpt(text)!r} looks like an announcement of rows, but no number of rows "
                "can be read in it: they are not compared with the rows that arrive"
            )
        if _VERSIONS_FOUND.match(text):
            self._origin = "cached"
        elif _NO_VERSION.match(text):
            self._origin = "fetched"
            if self._guarded:
                self.outcome = self._error(
                    NoVersionInWindowError,
                    "the container has no version that was pulled in this window, and would deliver today's data "
                    "instead. A version cannot be pulled in hindsight: leave the partition missing, or set "
                    'missing_version="accept" on the dataset to store today\'s data in its place',
                )
        elif message.get("success") is False and message.get("type") == "update":
            self._failures.append(_cause(text))

    def _refused(self, text: str) -> FdtccError:
        if _UNKNOWN_DATASET.match(text):
            return self._error(
                DatasetNotFoundError,
                f"the container does not know this name ({excerpt(text)}); check it against foundry_datasets.toml",
            )
        return self._error(
            DatasetRetrievalError, f"the container refused the request: {_sentence(excerpt(text))} Its log may say why"
        )

    def _ended(self, message: Message, text: str) -> Pointer | FdtccError:
        if message.get("success") is not True:
            shown = excerpt(text)
            if text.startswith("No rows found"):
                return self._error(
                    EmptyDatasetError, f"the dataset has no rows in Foundry ({shown}): nothing is stored"
                )
            if text.startswith("ERROR"):
                return self._error(
                    ProtocolError,
                    f"the container could not process the request: {_sentence(shown)} Its version may not fit",
                )
            return self._error(
                DatasetRetrievalError, f"the container reports failure: {_sentence(shown)} Its log may say why"
            )
        named = message.get("datasets")
        pointer = named[0] if isinstance(named, list) and len(named) == 1 else named
        if not (isinstance(pointer, str) and _POINTER.fullmatch(pointer)):
            return self._failed(str(redact(pointer, MOST_SHOWN)))
        if self._guarded and self._origin != "cached":
            return self._error(
                NoVersionInWindowError,
                "the container gave a pointer without saying that it found a version of this past window, so the "
                f"data may be today's; the last message was: {self._last}",
            )
        return Pointer(pointer.lower(), self.announced_rows, self._origin or "fetched")

    def _failed(self, text: str) -> FdtccError:
        """A failed job ends with success and the text of its exception; the cause came before."""
        causes = list(self._failures)
        if not (causes and _NOTHING_NEW.match(text)):
            causes = [*causes, _cause(text)]
        cause = "; ".join(causes)
        if not _COLLISION.search(f"{text} {cause}"):
            return self._error(
                DatasetRetrievalError,
                f"the container's job failed: {_sentence(cause)} Correct it in Foundry or in the container",
            )
        error = self._error(
            DatasetRetrievalError,
            f"the container's job collided with one of another client for the same dataset at the same time ({cause}): "
            "try again; runs on several machines need a Dagster pool for the dataset",
        )
        error.temporary = True
        return error

    def _error(self, kind: type[FdtccError], text: str) -> FdtccError:
        return kind(f"dataset {self.dataset!r}, window {self.window}: {text}", dataset=self.dataset, window=self.window)


def _sentence(text: str) -> str:
    """A text of the container with an end, so that something can follow it."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def request_all(names: Sequence[str], now: datetime) -> str:
    """The request of `get`: a fresh pull of each name.

    If dates are left out, the service takes a fixed window of the past, in which there is no version; so the reference
    client always causes a pull. A window of the single instant `now` does the same, without relying on that default.
    """
    instant = now.astimezone(timezone.utc).isoformat()
    return json.dumps({"names": list(names), "from_dt": instant, "to_dt": instant})


def request_names(names: Sequence[str]) -> str:
    """The request that asks which of some names the container knows; see `known_names`.

    It says which names it accepts before it reads the dates. These are none, so that the job of a dataset of which it
    has a version ends there. The others have to be left: see docs/protocol.md#which-names-are-known.
    """
    return json.dumps({"names": list(names), "from_dt": "no date", "to_dt": "no date"})


def known_names(message: Message) -> frozenset[str] | None:
    """The names that the container knows, of those of `request_names`; None if a message does not say it.

    Raises:
        ProtocolError: It answers something else.
    """
    kind, accepted = message.get("type"), message.get("datasets")
    if kind == "update" and isinstance(accepted, list):
        return frozenset(map(str, accepted))
    text = str(redact(message.get("message", ""), MOST_SHOWN))
    if kind == "error" and _UNKNOWN_DATASET.match(text):
        return frozenset()
    if kind in ("error", "final"):
        raise ProtocolError(f"the container does not say which names it knows: {excerpt(text)}")
    return None


def _cause(text: str) -> str:
    """The cause in a failure of the service, without the request that Foundry refused."""
    fields = ", ".join(f"{name} = {value}" for name, value in _FOUNDRY_ERROR.findall(text))
    head = excerpt(_FOUNDRY_SECTION.split(text)[0])
    return f"{head} ({excerpt(fields)})" if fields else head
