"""Whether a container is there at all: its `GET /fdtc-api/`, which costs it nothing."""

from __future__ import annotations

import asyncio

from fdtcc_dagster.client.endpoint import Endpoint
from fdtcc_dagster.client.refusals import unreadable

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
