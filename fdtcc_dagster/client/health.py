"""Whether a container is there at all: its health endpoint, which costs it nothing."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import urlsplit

from fdtcc_dagster.client.clock import AwakeClock
from fdtcc_dagster.client.connection_errors import is_repeated, malformed, refused, unreadable
from fdtcc_dagster.client.endpoint import Endpoint
from fdtcc_dagster.errors import ServiceUnavailableError

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9]\d\d)")
_STATUS_LINE_BYTES = len("HTTP/1.1 200")
_LONGEST_SECONDS = 5.0
_MOST_BYTES = 1 << 16


async def is_online(endpoint: Endpoint, open_timeout: float) -> bool:
    """Tell whether a container answers that it is online, within five seconds or the time for a connection."""
    import aiohttp  # here, because it takes long: code locations load without it

    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=min(open_timeout, _LONGEST_SECONDS))) as session,
            session.get(
                endpoint.health_url,
                headers={"Accept-Encoding": "identity", **endpoint.headers},
                ssl=endpoint.ssl_context or True,
                allow_redirects=False,
            ) as response,
        ):
            if response.status != 200 or unreadable(endpoint, response.headers) is not None:
                return False
            return b'"online"' in await response.content.read(_MOST_BYTES)
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError):
        return False


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
    return malformed(endpoint, error) if status is None or is_repeated(error) else None


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
