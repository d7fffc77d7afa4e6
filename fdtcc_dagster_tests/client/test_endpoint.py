"""Addresses, headers and tokens of a container: what they become, and what is refused."""

from __future__ import annotations

import pytest

from fdtcc_dagster.client import FoundryDevToolsContainerClient
from fdtcc_dagster.client.endpoint import Endpoint


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
