from __future__ import annotations

import click
import pytest

from fdtcc_dagster.cli.container import CONTAINER, TOKEN, Address, address_of, client_of, is_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:8000", ("localhost", 8000, False)),
        ("project-fdt-container", ("project-fdt-container", 8888, False)),
        ("[::1]:8888", ("[::1]", 8888, False)),
        ("https://fdtc.example.com", ("fdtc.example.com", 443, True)),
        ("https://fdtc.example.com:8443/fdtc-api/", ("fdtc.example.com", 8443, True)),
        ("http://localhost:8888", ("localhost", 8888, False)),
        ("http://[::1]:8888", ("::1", 8888, False)),
    ],
)
def test_an_address_is_read(text: str, address: tuple[str, int, bool]) -> None:
    assert address_of(text) == address


@pytest.mark.parametrize(
    "text",
    ["https://me:s3cret@host", "me:s3cret@host:8888", "http://host/s3cret", "http://host:s3cret", "ftp://s3cret"],
)
def test_what_is_no_address_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(click.UsageError, match="HOST:PORT") as caught:
        address_of(text)
    assert "s3cret" not in str(caught.value)


def test_without_one_it_is_that_of_the_environment_or_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CONTAINER, raising=False)
    assert address_of(None) == ("localhost", 8888, False)
    monkeypatch.setenv(CONTAINER, "https://fdtc.example.com")
    assert address_of(None) == ("fdtc.example.com", 443, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost:8888", True),
        ("https://host", True),
        ("orders", False),
        ("foundry.sales.orders", False),
        ("a:b", False),
    ],
)
def test_an_address_is_told_from_a_dataset(text: str, expected: bool) -> None:
    assert is_address(text) is expected


def test_the_token_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(TOKEN, "s3cret")
    client = client_of(Address("localhost", 443, secure=True), secure=False, ca_file=None)
    assert client._puller.settings.bearer_token == "s3cret"  # noqa: S105
    assert client._puller.settings.secure
    assert capsys.readouterr().err == ""
    client_of(Address("localhost", 8888), secure=False, ca_file=None)
    assert capsys.readouterr().err.startswith(f"fdtcc: {TOKEN} is sent unencrypted; use --secure")
