"""Where the container is, as it is given and as it is compared, and what a proxy in front of it needs."""

from __future__ import annotations

import logging
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import MappingProxyType
from urllib.parse import urlsplit

logger = logging.getLogger(__name__)

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*[\x21-\x7e]")
_OURS = frozenset(
    {"accept-encoding", "connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding"}
    | {"upgrade"}
)
_LABEL = re.compile(r"(?!-)[\w-]{1,63}(?<!-)")
_NUMBER = re.compile(r"0x[0-9a-f]*|\d+", re.IGNORECASE)
"""A last label that systems take for an IPv4 address, or a part of one."""
_MAY_HOLD_SECRETS = re.compile(r"[@?#/\\]")
_MOST_SHOWN = 300
_THIS_MACHINE = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


@dataclass(frozen=True)
class Endpoint:
    """The address of a container, and how to get through the reverse proxy in front of it.

    Attributes:
        host: The host's name or address.
        port: The port.
        secure: Whether to use TLS (`https`, `wss`); certificate and host name are then verified.
        ca_file: A PEM file with the certificates of the authorities to trust, instead of the system's.
        headers: Sent with the handshake and with each download. Their values are never shown.

    Raises:
        ValueError: An attribute is not valid, or the file has no certificates.
    """

    host: str
    port: int
    secure: bool = False
    ca_file: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "host", check_host(self.host))
        if not isinstance(self.port, int) or isinstance(self.port, bool) or not 0 < self.port < 1 << 16:
            raise ValueError(f"port={self.port!r} must be an integer from 1 to 65535")
        if not isinstance(self.secure, bool):
            raise ValueError(f"secure={self.secure!r} must be True or False")
        if self.ca_file is not None and not self.secure:
            raise ValueError("ca_file is for TLS: set secure=True, or leave ca_file out")
        # A copy that nobody changes after it was checked.
        object.__setattr__(self, "headers", MappingProxyType(dict(self.headers)))
        _check_headers(self.headers)
        if self.headers and not self.secure:
            logger.warning(
                "headers for %s are sent unencrypted: set secure=True, unless something else encrypts them", self
            )
        if self.secure:
            self.ssl_context  # noqa: B018  a file that cannot be read is refused before any work

    def __str__(self) -> str:
        return f"the container at {self._authority}"

    @property
    def websocket_url(self) -> str:
        """The address of the WebSocket."""
        return self._url("ws", "dataset/get")

    @property
    def health_url(self) -> str:
        """The address of the health endpoint."""
        return self._url("http")

    @property
    def identity(self) -> str:
        """The same text for all ways to write the same host and port."""
        return identity_of(self.host, self.port)

    def download_url(self, transport: str, sha256: str) -> str:
        """The address of a snapshot, as `"csv"` or `"zip"`."""
        return self._url("http", f"dataset/download/{transport}/{sha256}")

    @cached_property
    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS context that verifies the server's certificate and name; None without TLS."""
        if not self.secure:
            return None
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"ca_file={self.ca_file!r} cannot be used ({error}): it must be a PEM file with the certificates of "
                "the authorities to trust"
            ) from error

    def _url(self, scheme: str, path: str = "") -> str:
        return f"{scheme}{'s' if self.secure else ''}://{self._authority}/fdtc-api/{path}"

    @property
    def _authority(self) -> str:
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def _check_headers(headers: Mapping[str, str]) -> None:
    """Refuse headers that cannot be sent as they are, or that would replace those of HTTP itself; no value is shown."""
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError("a header's name must be of letters, digits and hyphens")
        if name.lower() in _OURS or name.lower().startswith("sec-websocket-"):
            raise ValueError(f"the header {name!r} belongs to the protocol, and cannot be set")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(
                f"the value of the header {name!r} must be ASCII text without line breaks, and not end with a space"
            )


def check_host(host: object) -> str:
    """Check a host: a name, an IPv4 address, or an IPv6 address with or without brackets.

    Returns:
        The host, without brackets.

    Raises:
        ValueError: It is not a host. If it has a port, a scheme or a path, the error says what to give.
    """
    if isinstance(host, str) and _is_host(host):
        return str(_address(host) or host)
    raise ValueError(
        f"host={_shown(host)} must be a host name or an address, without scheme, port and path{_meant(host)}"
    )


def _shown(host: object) -> str:
    if not isinstance(host, str):
        return "None" if host is None else f"<{type(host).__name__}>"
    # What stands before an @ may be a password, and what stands in a path or behind it a token.
    return "…" if _MAY_HOLD_SECRETS.search(host.partition("://")[2] or host) else repr(host[:_MOST_SHOWN])


def identity_of(host: str, port: int) -> str:
    """The same text for all ways to write a host and port; locks and evidence are named by it."""
    name = host.lower().rstrip(".")
    address = _address(name)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if name in _THIS_MACHINE or name.startswith("127.") or (address is not None and address.is_loopback):
        name = "localhost"
    elif address is not None:
        name = str(address)
    return f"{name}:{port}"


def _is_host(host: str) -> bool:
    address = _address(host)
    if address is not None:
        # Of a URL, a zone of an address would be part of the path.
        return "%" not in str(address)
    # What looks like an IPv4 address, and is none, is no name either.
    labels = host.removesuffix(".").split(".")
    return len(host) < 254 and all(map(_LABEL.fullmatch, labels)) and not _NUMBER.fullmatch(labels[-1])


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        if host.startswith("[") and host.endswith("]"):
            return IPv6Address(host[1:-1])
        return ip_address(host)
    except ValueError:
        return None


def _meant(host: object) -> str:
    """What to give instead, if that can be told."""
    if not isinstance(host, str) or not host.isprintable():
        return ""
    try:
        url = urlsplit(host if "//" in host else f"//{host}")
        meant, port = url.hostname or "", url.port
    except ValueError:
        return ""
    if not _is_host(meant):
        return ""
    if port == 0:
        return f": give host={meant!r} and a port from 1 to 65535"
    arguments = [f"host={meant!r}", *([f"port={port}"] if port else []), *["secure=True"] * (url.scheme == "https")]
    return f": give {', '.join(arguments)}"
