"""Hosts, addresses, headers and tokens of a container: what they become, and what is refused."""

from __future__ import annotations

import re
import socket
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from fdtcc_dagster import FDTCC, FoundryContainerResource
from fdtcc_dagster.client import FoundryDevToolsContainerClient
from fdtcc_dagster.client.endpoint import Endpoint, check_host, identity_of
from fdtcc_dagster.components import FoundryDatasetsComponent
from fdtcc_dagster.sandbox import SandboxContainer


def test_addresses() -> None:
    assert Endpoint("h", 1).websocket_url == "ws://h:1/fdtc-api/dataset/get"
    assert Endpoint("h", 1, secure=True).websocket_url == "wss://h:1/fdtc-api/dataset/get"
    assert (
        Endpoint("::1", 1, secure=True).download_url("csv", "ab") == "https://[::1]:1/fdtc-api/dataset/download/csv/ab"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"secure": "yes"}, "secure='yes' must be True or False"),
        ({"secure": 1}, "secure=1 must be True or False"),
        ({"ca_file": "ca.pem"}, "set secure=True"),
        ({"secure": True, "ca_file": "/no/such/file"}, "ca_file='/no/such/file' cannot be used"),
        ({"secure": True, "ca_file": __file__}, "must be a PEM file"),
        ({"secure": True, "ca_file": 3}, "ca_file=3 must be a path"),
        ({"headers": [("a", "b")]}, "headers must be a mapping"),
        ({"headers": {"a b": "c"}}, "a header's name"),
        ({"headers": {"a\r\nb": "c"}}, "a header's name"),
        ({"headers": {"Host": "c"}}, "belongs to the protocol"),
        ({"headers": {"sec-websocket-key": "c"}}, "belongs to the protocol"),
        ({"headers": {"a": "s3cret\r\nb: c"}}, "the value of the header 'a' must be"),
        ({"headers": {"a": "s3cret\n"}}, "the value of the header 'a' must be"),
        ({"headers": {"a": "s3cr\xe9t"}}, "the value of the header 'a' must be"),
        ({"headers": {"a": b"s3cret"}}, "the value of the header 'a' must be"),
        ({"bearer_token": ""}, "bearer_token must be text"),
        ({"bearer_token": "s3cret\n"}, "bearer_token must be text"),
        ({"bearer_token": "Bearer s3cret"}, "bearer_token must be text"),
        ({"bearer_token": 53}, "bearer_token must be text"),
        ({"bearer_token": "s3cret", "headers": {"authorization": "s3cret"}}, "give one"),
        ({"transfer_timeout": 0}, "transfer_timeout=0 must be a positive number of seconds"),
        ({"max_bytes": 0}, "max_bytes=0 must be a positive number of bytes"),
        ({"max_bytes": 1.5}, "max_bytes=1.5 must be a positive number of bytes"),
        ({"max_bytes": True}, "max_bytes=True must be a positive number of bytes"),
    ],
)
def test_what_cannot_be_meant_is_refused_without_showing_it(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        FoundryDevToolsContainerClient("h", 1, **arguments)  # type: ignore[arg-type]
    assert "s3cr" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("project-fdt-container", "project-fdt-container"),
        ("my_host", "my_host"),
        ("größe.example.", "größe.example."),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("[0:0:0:0:0:0:0:1]", "::1"),
    ],
)
def test_names_and_addresses_are_hosts(given: str, host: str) -> None:
    assert check_host(given) == host


@pytest.mark.parametrize(
    ("host", "meant"),
    [
        ("localhost:8888", ": give host='localhost', port=8888"),
        ("127.0.0.1:99", ": give host='127.0.0.1', port=99"),
        ("[::1]:8000", ": give host='::1', port=8000"),
        ("http://localhost:8888/fdtc-api/", ": give host='localhost', port=8888"),
        ("https://container", ": give host='container', secure=True"),
        ("container/path", ": give host='container'"),
        ("user:word@container", ": give host='container'"),
        ("container?word", ": give host='container'"),
        ("container#word", ": give host='container'"),
        ("https://container/word", ": give host='container', secure=True"),
        ("localhost:0", ": give host='localhost' and a port from 1 to 65535"),
        *((host, "") for host in ("0x7f000001", "0X7F.1", "127.0.0.0x1", "-a", "a-", "a.-b", "//word word")),
        *((host, "") for host in ({"word": 1}, ["word"])),
        *((host, "") for host in ("", " ", "a b", "a\x00b", "a\nb", "a\u200bb", "a..b", "x" * 64, "999.1.1.1", "1.2")),
        *((host, "") for host in ("localhost:99999", "[::1", "fe80::1%eth0", "http://", None, 3, b"host")),
    ],
)
def test_what_is_no_host_is_refused_at_once_with_what_was_meant(host: Any, meant: str) -> None:
    message = re.escape(f" must be a host name or an address, without scheme, port and path{meant}")
    for make in (FDTCC, FoundryContainerResource):
        with pytest.raises(ValueError, match=rf"{message}( \[type|$)") as caught:
            make(host=host)
        assert "word" not in str(caught.value)


def test_the_brackets_of_an_address_are_no_part_of_it() -> None:
    assert FDTCC("[::1]").host == FoundryContainerResource(host="[::1]").host == "::1"


@pytest.mark.parametrize("port", [0, "0", -1, 65536, True, "x", None])
def test_a_port_beyond_the_range_is_refused_at_once(port: Any) -> None:
    with pytest.raises(ValueError, match="port"):
        FDTCC(port=port)
    with pytest.raises(ValueError, match="port"):
        FoundryContainerResource(port=port)


def test_yaml_says_it_at_its_line() -> None:
    with pytest.raises(Exception, match="give host='localhost', port=8888"):
        FoundryDatasetsComponent.resolve_from_yaml("resource:\n  host: localhost:8888\n")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.0.1.2", "::1", "[::1]", "::ffff:127.0.0.1"]
)
def test_all_ways_to_write_this_machine_are_one(host: str) -> None:
    assert Endpoint(host, 8888).identity == identity_of(host, 8888) == "localhost:8888"


def test_an_address_has_one_identity() -> None:
    assert identity_of("[2001:DB8:0::1]", 1) == identity_of("2001:db8::1", 1) != identity_of("2001:db8::2", 1)
    assert identity_of("Container.example.com.", 1) == identity_of("container.example.com", 1) != "localhost:1"


@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_a_container_at_an_ipv6_address_is_pulled_from(host: str, tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    now = datetime.now(timezone.utc)
    with SandboxContainer(host="::1") as container:
        container.set_live("orders", "id\n1\n")
        client = FDTCC(host, container.port, attempts=1)
        snapshot = await client.pull(
            "orders", now - timedelta(hours=1), now + timedelta(hours=1), directory=tmp_path, transport="zip"
        )
    assert snapshot.path.read_text() == "id\n1\n"
