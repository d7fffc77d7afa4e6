"""Whether a container can be used: its health, its handshake, and the names that it knows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from fdtcc_dagster.client.health import ask_health, explained
from fdtcc_dagster.client.protocol import known_names, parse_frame, request_names
from fdtcc_dagster.client.settings import ClientSettings
from fdtcc_dagster.errors import ServiceUnavailableError


@dataclass(frozen=True)
class ContainerCheck:
    """A container that can be used, as `FoundryDevToolsContainerClient.check` found it.

    Attributes:
        message: What it says of itself.
        health_seconds: How long its health endpoint took to answer.
        handshake_seconds: How long a handshake took. 1.5 seconds are usual; it drops one after 10.
        known: Dataset → whether it knows the name, for the names that were asked for.
    """

    message: str
    health_seconds: float
    handshake_seconds: float
    known: Mapping[str, bool] = field(default_factory=dict)


async def check_container(settings: ClientSettings, names: Sequence[str]) -> ContainerCheck:
    """Implements `FoundryDevToolsContainerClient.check`."""
    # Here, because websockets takes long to import: code locations load without it.
    from fdtcc_dagster.client.websocket import connected, converse

    endpoint, began = settings.endpoint, time.monotonic()
    try:
        message = await ask_health(endpoint, settings.open_timeout)
    except ServiceUnavailableError as error:
        raise await explained(endpoint, error, settings.open_timeout) from None
    answered = handshake = time.monotonic()

    def on_begin() -> None:
        nonlocal handshake
        handshake = time.monotonic()

    async with connected(settings, on_begin) as connection:
        opened, known = time.monotonic(), dict.fromkeys(names, False)
        patience = replace(settings, idle_timeout=settings.open_timeout)
        if names:
            async with aclosing(converse(connection, request_names(names), patience)) as frames:
                async for frame in frames:
                    # The container goes on with the first name until this side has closed.
                    if (found := known_names(parse_frame(frame))) is not None:
                        known = {name: name in found for name in names}
                        break
    return ContainerCheck(message, answered - began, opened - handshake, known)
