"""Hosts: names and addresses, as they are given and as they are compared."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

_LABEL = re.compile(r"(?!-)[\w-]{1,63}(?<!-)")
_NUMBER = re.compile(r"0x[0-9a-f]*|\d+", re.IGNORECASE)
"""A last label that systems take for an IPv4 address, or a part of one."""
_MAY_HOLD_SECRETS = re.compile(r"[@?#/\\]")
_MOST_SHOWN = 300
_THIS_MACHINE = frozenset({"localhost", "localhost.localdomain", "ip6-localhost"})


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
