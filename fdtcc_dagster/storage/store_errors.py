"""What an object store refuses, and would refuse again: access, and a bucket that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upath import UPath

_NO_BUCKET = frozenset({"NoSuchBucket", "ContainerNotFound"})
_NO_ACCESS = frozenset({"401", "403", "ExpiredToken", "InvalidToken", "AuthorizationHeaderMalformed"})
"""Answers by which a store refuses credentials: HTTP statuses, and codes that S3 gives with the status 400."""

_NO_CREDENTIALS = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "DefaultCredentialsError",
        "RefreshError",
        "ClientAuthenticationError",
    }
)
"""Errors of botocore, google.auth and azure.core for credentials that are missing or refused."""

_NO_ANSWER = frozenset(
    {
        "ConnectionError",
        "HTTPClientError",
        "HttpResponseError",
        "ServiceRequestError",
        "ServiceResponseError",
        "HttpError",
        "TransportError",
        "ClientConnectionError",
        "ClientPayloadError",
        "TimeoutError",
    }
)
"""Errors of botocore, azure.core, gcsfs, google.auth, aiohttp and asyncio for a store that is not reached, or fails."""

_URL = re.compile(r"https?://\S+")
_SECRET_IN_URL = re.compile(r"[?&](access_token|upload_id)=")
"""Whoever has such a URL of gcsfs' errors can read or write."""


class StoreRefusedError(OSError):
    """An object store refuses what it is asked, and would refuse it again, so a retry does not help."""

    permanent = True


@contextmanager
def refusals_explained(path: UPath, *, puts: bool = False) -> Iterator[None]:
    """Raise what the store refuses for good as a `StoreRefusedError` that says what to do.

    A store that cannot be reached is an `OSError`, by which the rest of the package knows that it may pass, and not one
    of its library's own. Other errors stay as they are.

    Args:
        path: The object.
        puts: Whether it is put. Then, whatever is not found is its bucket.

    Raises:
        StoreRefusedError: The credentials are refused or missing, or the bucket does not exist.
        OSError: The store cannot be reached, or fails.
    """
    try:
        yield
    except Exception as error:
        said = _said(error)
        if said & _NO_BUCKET or (puts and isinstance(error, FileNotFoundError) and not said & {"NoSuchUpload"}):
            refused = "does not exist, and is not created: create it, or correct base_dir"
            # Without its cause, which may have the URL of an upload; whoever has that URL can write.
            raise StoreRefusedError(f"{path} cannot be reached: its bucket or container {refused}") from None
        if said & _NO_ACCESS:
            codes = ", ".join(sorted(said)) + (f": {text}" if (text := _text(error)) else "")
            raise StoreRefusedError(
                f"{path}: the object store refuses access ({codes}); check the credentials in storage_options, and "
                "that they are allowed to read, write and list objects there (where listing is not allowed, S3 refuses "
                "to say that an object does not exist)"
            ) from None
        if any(_SECRET_IN_URL.search(str(each)) for each in _with_causes(error)):
            raise OSError(f"{path}: the object store cannot be reached, or fails ({type(error).__name__})") from None
        if _NO_ANSWER & {base.__name__ for base in type(error).__mro__} and not isinstance(error, OSError):
            why = f"{type(error).__name__}: {_URL.sub('<URL>', _text(error))}"
            raise OSError(f"{path}: the object store cannot be reached, or fails ({why}); try again") from None
        raise


def _said(error: BaseException) -> set[str]:
    """The statuses and codes in an error and its causes, by the names that each of the three libraries has for them."""
    found: set[object] = set()
    for each in _with_causes(error):
        response = getattr(each, "response", None)
        if isinstance(response, Mapping):  # botocore
            found |= {response.get("Error", {}).get("Code")}
            found |= {response.get("ResponseMetadata", {}).get("HTTPStatusCode")}
        found |= {getattr(each, name, None) for name in ("status_code", "error_code")}  # azure.core
        if type(each).__module__.startswith("gcsfs"):
            found.add(getattr(each, "code", None))
        if str(each).startswith("Forbidden: "):  # gcsfs, which leaves the status out
            found.add(403)
        missing = _NO_CREDENTIALS & {base.__name__ for base in type(each).__mro__}
        if missing and not getattr(each, "retryable", False):
            found |= {401, *missing}
    return {str(getattr(each, "value", each)) for each in found if each is not None}


def _text(error: BaseException) -> str:
    """What the store says in a sentence, if it says something. gcsfs puts the URL, with an upload's id, before it."""
    if str(error).startswith("Forbidden: "):
        return str(error).partition("\n")[2]
    lines = str(error).splitlines()
    return lines[0] if lines else ""


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
