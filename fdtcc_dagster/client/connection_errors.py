"""Why there is no connection or no usable answer, with what to do: for the WebSocket and the downloads.

This is the only place that says which HTTP statuses and answers may pass by themselves. No text of a server is quoted
without redaction, nothing of a body is quoted, and no header that was sent. Where a library does not tell what went
wrong, the container's health endpoint is asked for a status, which costs it nothing.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from fdtcc_dagster.client.clock import AwakeClock
from fdtcc_dagster.client.endpoint import Endpoint
from fdtcc_dagster.errors import ServiceUnavailableError
from fdtcc_dagster.redaction import excerpt, redact

_KNOWN_ENCODINGS = frozenset({"", "identity", "gzip", "deflate"})
"""A body is asked for as it is; those that aiohttp undoes without an optional package are read all the same."""
_TOO_LONG = "one of its headers has more than 8 KiB"
_NO_HTTP = "it is no valid HTTP, or goes on after the end that its Content-Length or last chunk names"
_MALFORMED = {
    "BadHttpMessage": _NO_HTTP,
    "BadStatusLine": _NO_HTTP,
    "ContentEncodingError": "its body has a Content-Encoding that cannot be undone, although none was asked for",
    "HeaderLineTooLong": _TOO_LONG,
    "InvalidHeader": "one of its headers is invalid",
    "LineTooLong": _TOO_LONG,
    "TooManyHeaders": "it has too many headers",
}
"""What is wrong, by the names of the errors of aiohttp and websockets, whose own texts quote the answer."""
_PASSES_WEBSOCKETS = "a proxy passes the headers Upgrade and Connection on"
_REPEATED = frozenset(_MALFORMED) - {"BadHttpMessage", "BadStatusLine"}
_OF_HEADERS = re.compile(r"[^:]*(header|line too long|content-length|transfer-encoding)", re.IGNORECASE)
"""An error's own words, in front of what it quotes, where its type does not say what is wrong."""

_EXPIRED, _NOT_YET_VALID, _WRONG_NAME, _WRONG_ADDRESS = 10, 9, 62, 64
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9]\d\d)")
_STATUS_LINE_BYTES = len("HTTP/1.1 200")
_LONGEST_SECONDS = 5.0


def refused(endpoint: Endpoint, status: int, *, handshake: bool) -> ServiceUnavailableError:
    """Make the error for an HTTP status that is neither 101 nor 200; `permanent` if a retry would be refused again.

    At the handshake, 403 is also what the container says while its own credentials are missing, which may pass: see
    docs/protocol.md#the-handshake. It gives its downloads to everybody.
    """
    where = f"{endpoint} answers with HTTP {status}"
    if status == 404 and handshake:
        return ServiceUnavailableError(
            f"{where}: it may be restarting behind a proxy, or something else listens there: check host and port, and "
            f"that {_PASSES_WEBSOCKETS}"
        )
    if status == 404:
        # For a moment, between unlinking and moving the file: docs/protocol.md#two-requests-at-once.
        return ServiceUnavailableError("the container answers 404: it has no file for this pointer, or not yet")
    if 300 <= status < 400:
        return ServiceUnavailableError(
            f"{where}, a redirect, which is not followed: give the address that it leads to as host, port and secure",
            permanent=True,
        )
    if status in (401, 407) or (status == 403 and not handshake):
        advice = "check bearer_token and headers" if endpoint.headers else "set bearer_token or headers"
        return ServiceUnavailableError(
            f"{where}: a proxy in front of the container refuses the credentials; {advice}", permanent=True
        )
    if status == 403:
        advice = ", or a proxy in front of it refuses bearer_token and headers" if endpoint.headers else ""
        return ServiceUnavailableError(f"{where}; its Foundry credentials may be missing{advice}")
    if handshake and status in (200, 426):
        return ServiceUnavailableError(
            f"{where}, and not by a WebSocket: something else listens there, or a proxy in front of it does not pass "
            f"the handshake on: check host and port, and that {_PASSES_WEBSOCKETS}",
            permanent=True,
        )
    if status == 400 and not endpoint.secure:
        return ServiceUnavailableError(
            f"{where}; if a proxy in front of it speaks TLS, set secure=True", permanent=True
        )
    return ServiceUnavailableError(f"{where}; its log may say why", permanent=not _may_pass(status))


def _may_pass(status: int) -> bool:
    """Tell whether the same request may succeed after a status.

    Proxies have their own statuses beyond 511 for a container that is not there, and 404 while none is registered.
    """
    return status in (404, 408, 425, 429) or (status >= 500 and status not in (501, 505))


def unreadable(endpoint: Endpoint, headers: Mapping[str, str]) -> ServiceUnavailableError | None:
    """Make the `permanent` error for an answer whose body cannot be read, by its headers; None if it can be read."""
    for name, known in (("Content-Encoding", _KNOWN_ENCODINGS), ("Transfer-Encoding", {"", "identity", "chunked"})):
        value = headers.get(name, "").strip().lower()
        if value not in known:
            return _malformed(endpoint, f"its body has the {name} {excerpt(redact(value))!r}, which was not asked for")
    return None


def is_malformed(error: Exception) -> bool:
    """Tell whether aiohttp failed because of the answer itself, and not because the connection ended."""
    return not {"ClientResponseError", "ContentEncodingError"}.isdisjoint(map(_name, _chain(error)))


def _is_repeated(error: Exception) -> bool:
    """Tell whether an answer of aiohttp or websockets cannot be read because of its headers, which a retry gets, too.

    What is wrong with a body or a status line may be wrong in this answer only.
    """
    return any(_name(each) in _REPEATED or _OF_HEADERS.match(_words(each)) for each in _chain(error))


def malformed(endpoint: Endpoint, error: Exception, *, permanent: bool = True) -> ServiceUnavailableError:
    """Make the error for an answer that is not valid HTTP.

    Args:
        endpoint: Where it came from.
        error: The failure of reading it. Its text quotes the answer, so raise the new error without a cause.
        permanent: Whether the next answer will not be better.
    """
    names = [_name(each) for each in _chain(error)]
    seen = next((_MALFORMED[name] for name in names if name in _MALFORMED), f"it is no valid HTTP ({names[-1]})")
    return _malformed(endpoint, seen, permanent=permanent)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes; an error of aiohttp is wrapped twice."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _name(error: BaseException) -> str:
    return type(error).__name__


def _words(error: BaseException) -> str:
    return str(getattr(error, "message", error))


def _malformed(endpoint: Endpoint, seen: str, *, permanent: bool = True) -> ServiceUnavailableError:
    advice = "" if endpoint.secure else "; if it speaks TLS, set secure=True"
    return ServiceUnavailableError(
        f"the answer of {endpoint} cannot be read: {seen}. Something else may listen there, or a proxy in front of it "
        f"changes its answers: check host, port and that proxy{advice}",
        permanent=permanent,
    )


def unreachable(endpoint: Endpoint, error: Exception) -> ServiceUnavailableError:
    """Make the error for a connection or a handshake that failed.

    It is `permanent` if a certificate is not trusted or only one side uses TLS, which no retry changes. Raise it
    without a cause: a cause of a failed handshake may contain the server's own text.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return ServiceUnavailableError(
            f"the certificate of {endpoint} is not trusted ({error.verify_message}): {_advice(error.verify_code)}",
            permanent=True,
        )
    if isinstance(error, ssl.SSLError):
        plain = error.reason == "WRONG_VERSION_NUMBER"
        advice = "it seems to speak plain HTTP: set secure=False, or give the port that speaks TLS"
        return ServiceUnavailableError(
            f"{endpoint} does not complete a TLS handshake ({error.reason}); "
            + (advice if plain else "its log may say why"),
            permanent=plain,
        )
    advice = "" if endpoint.secure else " If a proxy in front of it speaks TLS, set secure=True."
    seen = excerpt(redact(str(error)))
    return ServiceUnavailableError(
        f"{endpoint} cannot be reached ({seen}); is it running, and are host and port right?{advice}"
    )


def slow(endpoint: Endpoint, seconds: float, max_handshakes: int) -> ServiceUnavailableError:
    """Make the error for a handshake that a container which is online has dropped or not answered in time."""
    return ServiceUnavailableError(
        f"{endpoint} is up but answers slowly: a handshake was dropped or not answered after {seconds:.1f} s. It runs "
        "a command of 1.5 s for each, and drops one after 10 s: let fewer clients begin at once (here "
        f"max_handshakes={max_handshakes}, for each machine), or give it more processors"
    )


def _advice(verify_code: int) -> str:
    if verify_code in (_WRONG_NAME, _WRONG_ADDRESS):
        return "give the host by a name that the certificate is for, or have one issued for this name"
    if verify_code == _EXPIRED:
        return "it must be renewed"
    if verify_code == _NOT_YET_VALID:
        return "check this machine's clock"
    return "give the certificate of the authority that issued it as ca_file"


async def lasting_failure(
    endpoint: Endpoint, error: Exception, open_timeout: float, *, handshake: bool
) -> ServiceUnavailableError | None:
    """Make the error for an answer that an HTTP library cannot read, or None if the container is fine otherwise.

    Its status comes first, if it has one. The library does not tell it, so the container is asked for it.
    """
    try:
        with AwakeClock(min(open_timeout, _LONGEST_SECONDS)) as clock:
            status = await clock.within(_status(endpoint))
    except (OSError, EOFError, asyncio.TimeoutError):
        return None
    if status is not None and status != 200:
        return refused(endpoint, status, handshake=handshake)
    return malformed(endpoint, error) if status is None or _is_repeated(error) else None


async def _status(endpoint: Endpoint) -> int | None:
    """The status that an answer begins with, whatever follows; None if it is not HTTP."""
    url = urlsplit(endpoint.health_url)
    headers = {"Host": url.netloc, "Accept-Encoding": "identity", "Connection": "close", **endpoint.headers}
    request = [f"GET {url.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port, ssl=endpoint.ssl_context)
    try:
        writer.write("\r\n".join([*request, "", ""]).encode())
        begin = _STATUS_LINE.match(await reader.readexactly(_STATUS_LINE_BYTES))
    except asyncio.IncompleteReadError as ended:
        if b"HTTP/1.".startswith(ended.partial[:7]):
            raise
        return None
    finally:
        writer.transport.abort()
    return int(begin[1]) if begin else None
