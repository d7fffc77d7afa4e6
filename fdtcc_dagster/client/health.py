"""Whether a container is there: what its health endpoint says, which costs it nothing, and what is wrong otherwise."""

from __future__ import annotations

import asyncio
import errno
import json
import ssl
from dataclasses import replace

from fdtcc_dagster.client.connection_errors import lasting_failure, malformed, refused, unreachable, unreadable
from fdtcc_dagster.client.endpoint import Endpoint
from fdtcc_dagster.errors import ServiceUnavailableError
from fdtcc_dagster.redaction import excerpt, redact

PORTS = {8000: "the reference client's default", 8888: "where the container's own image listens"}
"""The ports that are taken for each other."""
_LONGEST_SECONDS = 5.0
_MOST_BYTES = 1 << 16
_REFUSED = f"[Errno {errno.ECONNREFUSED}]"


async def ask_health(endpoint: Endpoint, seconds: float) -> str:
    """Ask a container whether it is online.

    Args:
        endpoint: Where it is.
        seconds: How long to wait for the answer.

    Returns:
        What it says of itself.

    Raises:
        ServiceUnavailableError: It is not, or something else listens there.
    """
    import aiohttp  # here, because it takes long: code locations load without it

    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=seconds)) as session,
            session.get(
                endpoint.health_url,
                headers={"Accept-Encoding": "identity", **endpoint.headers},
                ssl=endpoint.ssl_context or True,
                allow_redirects=False,
            ) as response,
        ):
            if response.status != 200:
                raise refused(endpoint, response.status, handshake=True)
            if (refusal := unreadable(endpoint, response.headers)) is not None:
                raise refusal
            body = b""
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > _MOST_BYTES:
                    break
    except aiohttp.ClientConnectorCertificateError as error:
        # In older versions of aiohttp it has no `os_error`.
        cause = error.certificate_error
        raise unreachable(endpoint, cause if isinstance(cause, OSError) else OSError(str(cause))) from None
    except aiohttp.ClientConnectorError as error:
        raise unreachable(endpoint, error.os_error) from None
    except asyncio.TimeoutError:
        raise ServiceUnavailableError(
            f"{endpoint} did not answer GET /fdtc-api/ within {seconds:g} s: it may be busy, or something else listens "
            "there"
        ) from None
    except (aiohttp.ClientError, OSError) as error:
        raise await lasting_failure(endpoint, error, seconds, handshake=True) or malformed(endpoint, error) from None
    return _said(endpoint, body)


def _said(endpoint: Endpoint, body: bytes) -> str:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or "online" not in said:
        raise ServiceUnavailableError(
            f"something else listens where {endpoint} should: it answers GET /fdtc-api/ with HTTP 200, and not as a "
            "container does; check host and port",
            permanent=True,
        )
    message = excerpt(redact(said.get("message", "")))
    if said["online"] is not True:
        raise ServiceUnavailableError(f"{endpoint} says that it is not online: {message!r}; its log may say why")
    return message


async def is_online(endpoint: Endpoint, open_timeout: float) -> bool:
    """Tell whether a container answers that it is online, within five seconds or the time for a connection."""
    try:
        await ask_health(endpoint, min(open_timeout, _LONGEST_SECONDS))
    except ServiceUnavailableError:
        return False
    return True


async def explained(endpoint: Endpoint, error: ServiceUnavailableError, seconds: float) -> ServiceUnavailableError:
    """Return a failure of `ask_health`, or a better one: TLS is spoken there, or the container is at the other port.

    Without `secure`, the port is asked for a TLS handshake, and nothing is sent to it.
    """
    seconds = min(seconds, _LONGEST_SECONDS)
    context = None if endpoint.secure else _any_certificate()
    try:
        connecting = asyncio.open_connection(endpoint.host, endpoint.port, ssl=context)
        _, writer = await asyncio.wait_for(connecting, seconds)
    except (OSError, EOFError, asyncio.TimeoutError) as failure:
        is_refused = isinstance(failure, ConnectionRefusedError) or _REFUSED in str(failure)
        return await _at_the_other_port(endpoint, error, seconds) if is_refused else error
    writer.transport.abort()
    if endpoint.secure:
        return error
    return ServiceUnavailableError(f"{endpoint} speaks TLS: set secure=True", permanent=True)


def _any_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def _at_the_other_port(
    endpoint: Endpoint, error: ServiceUnavailableError, seconds: float
) -> ServiceUnavailableError:
    other = next((port for port in PORTS if endpoint.port in PORTS and port != endpoint.port), None)
    if other is None:
        return error
    # Without credentials: nobody has given them for this port.
    there = await is_online(replace(endpoint, port=other, headers={}), seconds)
    hint = f"A container answers at port {other}" if there else f"Nor does a container answer at port {other}"
    return ServiceUnavailableError(f"{error} {hint}, {PORTS[other]}.", permanent=error.permanent)
