"""The options that say where the container is, and the client that they make."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import click

if TYPE_CHECKING:
    from fdtcc_dagster.client import FoundryDevToolsContainerClient

Function = TypeVar("Function", bound=Callable[..., Any])

CONTAINER, TOKEN = "FDTCC_CONTAINER", "FDTCC_BEARER_TOKEN"
DEFAULT_HOST, DEFAULT_PORT = "localhost", 8888
_SCHEMES = {"http": 80, "https": 443}
_WITH_PORT = re.compile(r"(\[[^\]]*\]|[^:/@?#]+):(\d+)")
TOKEN_HELP = f"A proxy's bearer token is taken from the environment variable {TOKEN}."


class Address(NamedTuple):
    """Where a container is.

    Attributes:
        host: Its host.
        port: Its port.
        secure: Whether the URL that was given has `https`.
    """

    host: str
    port: int
    secure: bool = False


def is_address(text: str) -> bool:
    """Tell whether a text is `HOST:PORT` or a URL, as opposed to the name of a dataset."""
    return _WITH_PORT.fullmatch(text) is not None or text.startswith(tuple(f"{scheme}://" for scheme in _SCHEMES))


def address_of(text: str | None) -> Address:
    """Read `HOST:PORT`, `HOST` or a URL; None: that of the environment variable, or else of this machine.

    Raises:
        click.UsageError: It is none of these. What it says is not shown: it may contain a password.
    """
    text = text or os.environ.get(CONTAINER) or f"{DEFAULT_HOST}:{DEFAULT_PORT}"
    scheme, separator, rest = text.partition("://")
    if separator and scheme in _SCHEMES and "@" not in rest:
        try:
            url = urlsplit(text)
            if url.hostname and url.path.strip("/") in ("", "fdtc-api") and not (url.query or url.fragment):
                return Address(url.hostname, url.port or _SCHEMES[scheme], scheme == "https")
        except ValueError:
            pass
    elif match := _WITH_PORT.fullmatch(text):
        return Address(match[1], int(match[2]))
    elif re.fullmatch(r"[^:/@?#]+", text):
        return Address(text, DEFAULT_PORT)
    raise click.UsageError(
        "the container's address must be HOST:PORT, HOST or a URL such as https://HOST:PORT, without user and path"
    )


def container_options(function: Function) -> Function:
    """The options `--container`, `--secure` and `--ca-file`."""
    container = click.option(
        "--container",
        metavar="HOST[:PORT]",
        is_eager=True,  # read before the arguments, of which the first may be an address, too
        help=f"The container's address or URL.  [default: {CONTAINER}, or {DEFAULT_HOST}:{DEFAULT_PORT}]",
    )
    ca_file = click.option(
        "--ca-file", metavar="PEM", type=click.Path(dir_okay=False), help="The authorities to trust; implies --secure."
    )
    secure = click.option("--secure", is_flag=True, help="A proxy in front of the container speaks TLS.")
    return container(secure(ca_file(function)))


def client_of(
    address: Address, *, secure: bool, ca_file: str | None, **settings: Any
) -> FoundryDevToolsContainerClient:
    """Make a client; the token comes from the environment, where no list of processes shows it."""
    from fdtcc_dagster.client import FoundryDevToolsContainerClient

    token, secure = os.environ.get(TOKEN) or None, secure or address.secure or ca_file is not None
    if token is not None and not secure:
        click.echo(f"fdtcc: {TOKEN} is sent unencrypted; use --secure if the proxy speaks TLS", err=True)
    return FoundryDevToolsContainerClient(
        address.host,
        address.port,
        secure=secure,
        ca_file=ca_file,
        bearer_token=token,
        missing_version="raise",
        **settings,
    )
