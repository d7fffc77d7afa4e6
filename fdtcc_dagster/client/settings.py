"""Where the container is, how long to wait for it, how often to try, and how much to accept from it.

Why the defaults are so long: docs/protocol.md#the-handshake and docs/protocol.md#keepalives-and-silence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fdtcc_dagster.client.database_lock import check_database
from fdtcc_dagster.client.directories import expand_home
from fdtcc_dagster.client.endpoint import Endpoint
from fdtcc_dagster.pandas_csv.blocks import MAX_RECORD_BYTES

_TOKEN = re.compile(r"[\x21-\x7e]+")
_POSITIVE = {
    "open_timeout": "seconds",
    "idle_timeout": "seconds",
    "job_timeout": "seconds",
    "transfer_timeout": "seconds",
    "max_bytes": "bytes",
    "max_handshakes": "handshakes",
    "max_record_bytes": "bytes",
}


@dataclass(frozen=True)
class ClientSettings:
    """The settings that a client and the Dagster resource share; `FoundryDevToolsContainerClient` describes them.

    Raises:
        ValueError: A setting is not of the kind described there.
    """

    host: str = "project-fdt-container"
    port: int = 8000
    secure: bool = False
    ca_file: str | Path | None = None
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    bearer_token: str | None = field(default=None, repr=False)
    open_timeout: float = 60.0
    idle_timeout: float = 600.0
    job_timeout: float = 14_400.0
    transfer_timeout: float = 14_400.0
    attempts: int = 3
    retry_delay: float = 1.0
    max_bytes: int = 64 << 30
    max_handshakes: int = 2
    max_record_bytes: int = MAX_RECORD_BYTES
    lock_database: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.endpoint  # noqa: B018  an address that cannot be used is refused before any work
        for name, unit in _POSITIVE.items():
            value = getattr(self, name)
            if not (_is_number(value, *((int, float) if unit == "seconds" else (int,))) and value > 0):
                raise ValueError(f"{name}={value!r} must be a positive number of {unit}")
        if not (_is_number(self.attempts, int) and self.attempts >= 1):
            raise ValueError(f"attempts={self.attempts!r} must be an integer of at least 1")
        if self.lock_database is not None:
            check_database(self.lock_database)
        if not (_is_number(self.retry_delay, int, float) and self.retry_delay >= 0):
            raise ValueError(f"retry_delay={self.retry_delay!r} must be a number of seconds that is not negative")

    @cached_property
    def endpoint(self) -> Endpoint:
        """The container's address, and what a reverse proxy in front of it wants.

        Raises:
            ValueError: A setting is not valid; values of headers and the token are not shown.
        """
        if self.ca_file is not None and not isinstance(self.ca_file, (str, Path)):
            raise ValueError(f"ca_file={self.ca_file!r} must be a path")
        if self.headers is not None and not isinstance(self.headers, Mapping):
            raise ValueError("headers must be a mapping of names to values")
        headers = dict(self.headers or {})
        if self.bearer_token is not None:
            if not isinstance(self.bearer_token, str) or not _TOKEN.fullmatch(self.bearer_token):
                raise ValueError("bearer_token must be text without spaces, line breaks and non-ASCII characters")
            if any(str(name).lower() == "authorization" for name in headers):
                raise ValueError("bearer_token is sent as the header Authorization, which is in headers too: give one")
            headers["Authorization"] = f"Bearer {self.bearer_token}"
        ca_file = None if self.ca_file is None else str(expand_home("ca_file", self.ca_file))
        return Endpoint(self.host, self.port, self.secure, ca_file, headers)


def _is_number(value: object, *types: type) -> bool:
    return isinstance(value, types) and not isinstance(value, bool)
