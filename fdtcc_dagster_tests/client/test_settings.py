"""The settings that the client and the Dagster resource share."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import trustme

from fdtcc_dagster import FDTCC, FoundryContainerResource
from fdtcc_dagster.client.settings import ClientSettings

DEFAULTS: dict[str, Any] = {setting.name: setting.default for setting in fields(ClientSettings)}


def test_each_setting_is_an_argument_of_the_client() -> None:
    arguments = inspect.signature(FDTCC).parameters
    # What the client does for its user, and not how it reaches the container.
    assert set(arguments) - set(DEFAULTS) == {"log", "log_func", "missing_version"}
    assert {name: arguments[name].default for name in DEFAULTS} == DEFAULTS


def test_each_setting_is_a_field_of_the_resource() -> None:
    known = FoundryContainerResource.model_fields
    assert set(known) - set(DEFAULTS) == {"transport", "max_concurrency", "spool_directory"}
    assert all(field.description for field in known.values())
    assert FoundryContainerResource().get_client()._puller.settings == FDTCC(port=8888, headers={})._puller.settings


def test_each_setting_of_the_resource_reaches_the_container(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(authority))
    texts: dict[str, Any] = {
        "host": "elsewhere",
        "secure": True,
        "ca_file": str(authority),
        "headers": {"X-Key": "k"},
        "bearer_token": "t",
        "lock_database": "postgresql://user:password@host/database",
    }
    numbers = {name: default + 1 for name, default in DEFAULTS.items() if name not in texts}
    given = {**texts, **numbers}
    assert FoundryContainerResource().port == 8888 != given["port"]
    settings = FoundryContainerResource(**given).get_client()._puller.settings
    assert {name: getattr(settings, name) for name in DEFAULTS} == given
    # A setting that was added, and that this test would not change.
    assert [name for name in DEFAULTS if given[name] == DEFAULTS[name]] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(
            ({name: value}, f"{name}={value!r} must be")
            for name in DEFAULTS
            if isinstance(DEFAULTS[name], (int, float)) and name != "secure"
            for value in (True, -1, "1", float("nan"), None)
        ),
        *(({name: 0}, f"{name}=0 must be a") for name in DEFAULTS if name.endswith("_timeout") or name[:4] == "max_"),
        ({"attempts": 0}, "attempts=0 must be an integer of at least 1"),
        ({"attempts": 1.5}, "attempts=1.5 must be an integer of at least 1"),
    ],
)
def test_a_setting_that_is_no_number_of_its_kind_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClientSettings(**arguments)
