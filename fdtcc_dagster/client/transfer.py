"""The download: bytes from the container into a file that exists only once they are verified."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import time
import zlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Literal

import aiohttp

from fdtcc_dagster.client.endpoint import Endpoint
from fdtcc_dagster.client.errors import (
    ChecksumMismatchError,
    DatasetRetrievalError,
    IdleTimeoutError,
    ServiceConnectionLostError,
    ServiceUnavailableError,
)
from fdtcc_dagster.client.limits import Limits
from fdtcc_dagster.client.zipstream import inflate_member

Transport = Literal["csv", "zip"]
"""How a snapshot travels: as it is, or as a ZIP whose one member is inflated while it streams (S21)."""

OnProgress = Callable[[int], None]
"""`on_progress(bytes)`, called in the event loop."""

_READ_BYTES = 1 << 20


async def fetch(
    endpoint: Endpoint,
    sha256: str,
    directory: Path,
    *,
    transport: Transport = "csv",
    limits: Limits,
    on_progress: OnProgress | None = None,
) -> tuple[Path, int]:
    """Download a snapshot's CSV and verify it against its pointer (S19).

    Args:
        endpoint: The container.
        sha256: The pointer, 64 lower-case hex digits.
        directory: Where the file is put, with mode 0600; nothing is left there by a failure.
        transport: `"csv"`, or `"zip"` to inflate while streaming; the hash is of the inflated bytes (S21).
        limits: Of which all but `job_timeout` count here.
        on_progress: Called about once a second with the number of bytes of the CSV that have arrived.

    Returns:
        The file `<directory>/<sha256>.csv` and its size in bytes.

    Raises:
        ServiceUnavailableError: The container cannot be reached or answers with a failure. That may be a 404 for a
            moment, between its unlinking and moving the file (S17).
        ServiceConnectionLostError: The connection ended inside the body.
        IdleTimeoutError: No bytes came for `idle_timeout` seconds, or not all of them within `transfer_timeout`.
        ChecksumMismatchError: What arrived is not what the pointer names.
        DatasetRetrievalError: The ZIP is not of the form that the container makes.
        OSError: The file cannot be written.
    """
    path = directory / f"{sha256}.csv"
    part = directory / f".{sha256}.{secrets.token_hex(4)}.part"
    digest, size, told = hashlib.sha256(), 0, time.monotonic()
    try:
        with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            async with aclosing(_csv_bytes(endpoint, sha256, transport, limits)) as chunks:
                async for chunk in chunks:
                    digest.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
                    if on_progress is not None and time.monotonic() - told > 1.0:
                        told = time.monotonic()
                        on_progress(size)
        if part.stat().st_size != size:
            raise OSError(f"{size} bytes were written to {part.name}, but the file has {part.stat().st_size}")
        if digest.hexdigest() != sha256:
            raise ChecksumMismatchError(
                f"{size} bytes arrived with the SHA-256 {digest.hexdigest()}, but {sha256} was announced: "
                "truncated or altered on the way, or in the container; try again"
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path, size


def _csv_bytes(endpoint: Endpoint, sha256: str, transport: Transport, limits: Limits) -> AsyncGenerator[bytes, None]:
    body = _body(endpoint, endpoint.download_url(transport, sha256), limits)
    return body if transport == "csv" else _inflated(body, f"{sha256}.csv")


async def _inflated(body: AsyncGenerator[bytes, None], member: str) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(body), aclosing(inflate_member(body, member)) as inflated:
            async for chunk in inflated:
                yield chunk
    except zlib.error as error:
        raise ChecksumMismatchError(f"the ZIP arrived damaged: {error}; try again") from error
    except ValueError as error:
        raise DatasetRetrievalError(f"the container's ZIP cannot be read: {error}; use transport='csv'") from error


async def _body(endpoint: Endpoint, url: str, limits: Limits) -> AsyncGenerator[bytes, None]:
    timeout = aiohttp.ClientTimeout(
        total=limits.transfer_timeout, connect=limits.open_timeout, sock_read=limits.idle_timeout
    )
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, read_bufsize=_READ_BYTES) as session,
            session.get(
                url, headers=endpoint.headers, ssl=endpoint.ssl_context or True, allow_redirects=False
            ) as response,
        ):
            if response.status != 200:
                raise _refusal(response.status)
            async for chunk in response.content.iter_any():
                yield chunk
    except aiohttp.ServerTimeoutError as error:
        raise IdleTimeoutError(f"the container sent no bytes of the snapshot for {limits.idle_timeout:g} s") from error
    except (aiohttp.ClientConnectorError, asyncio.TimeoutError) as error:
        raise ServiceUnavailableError(
            "the container cannot be reached for the download; is it running, and are host and port right?"
        ) from error
    except aiohttp.ClientError as error:
        raise ServiceConnectionLostError(f"the connection ended inside the download: {error}") from error


def _refusal(status: int) -> ServiceUnavailableError:
    if status == 404:
        return ServiceUnavailableError("the container answers 404: it has no file for this pointer, or not yet")
    return ServiceUnavailableError(f"the container answers the download with HTTP {status}")
