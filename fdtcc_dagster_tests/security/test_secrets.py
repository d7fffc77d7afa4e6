"""Tokens and headers reach the proxy, and are written nowhere else."""

from __future__ import annotations

import copy
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster.components.resolved.errors import ResolutionException

from fdtcc_dagster import FoundryContainerResource, FoundryParquetIOManager
from fdtcc_dagster.client import FoundryDevToolsContainerClient
from fdtcc_dagster.client.endpoint import Endpoint
from fdtcc_dagster.components import FoundryDatasetsComponent
from fdtcc_dagster.secrets import with_values
from fdtcc_dagster_tests.components.project import Project
from fdtcc_dagster_tests.security.conftest import TOKEN, Proxied
from fdtcc_dagster_tests.security.witness import Witness

RESOURCE = FoundryContainerResource(bearer_token=dg.EnvVar("PROXY_TOKEN"), headers={"X-Key": dg.EnvVar("PROXY_KEY")})


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXY_TOKEN", TOKEN)
    monkeypatch.setenv("PROXY_KEY", "k3y-that-nobody-may-see")


def secured(port: int, ca_file: str | None, **overrides: Any) -> FoundryContainerResource:
    arguments = {
        "host": "127.0.0.1",
        "port": port,
        "secure": True,
        "ca_file": ca_file,
        "bearer_token": dg.EnvVar("PROXY_TOKEN"),
        "headers": {"X-Key": dg.EnvVar("PROXY_KEY")},
        "attempts": 2,
        **overrides,
    }
    return FoundryContainerResource(**arguments)


def test_a_run_writes_neither_the_token_nor_a_header(proxied: Proxied, ca_file: str, witness: Witness) -> None:
    with proxied() as (port, proxy):
        assert witness.run(secured(port, ca_file)).success
        assert witness.run(secured(port, ca_file), keys=("2026-01-01", "2026-01-02")).success
    assert {headers["X-Key"] for _, headers in proxy.seen} == {"k3y-that-nobody-may-see"}
    written = witness.written()
    assert "nobody-may-see" not in written
    # What is looked through has the configuration in it.
    assert "PROXY_TOKEN" in written


@pytest.mark.parametrize(
    "fault", ["refused at the handshake", "refused at the download", "not trusted", "not sendable"]
)
def test_a_run_that_fails_writes_neither(
    proxied: Proxied, ca_file: str, witness: Witness, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv("PROXY_TOKEN", f"wr0ng-{TOKEN}")
    with proxied() as (port, proxy):
        resource = secured(port, ca_file)
        if fault == "refused at the download":
            proxy.let_through = "/get"
        elif fault == "not trusted":
            resource = secured(port, None)
        elif fault == "not sendable":
            monkeypatch.setenv("PROXY_TOKEN", f"{TOKEN}\n")
        result = witness.run(resource)
    failure = witness.failure(result)
    assert ("must be text without" if fault == "not sendable" else "ServiceUnavailableError") in failure
    assert "nobody-may-see" not in witness.written()


def test_a_run_that_has_no_token_says_which_variable_is_missing(
    proxied: Proxied, ca_file: str, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROXY_TOKEN")
    with proxied() as (port, _), pytest.raises(dg.DagsterInvalidConfigError, match="PROXY_TOKEN"):
        witness.run(secured(port, ca_file))
    assert "nobody-may-see" not in witness.written()


@pytest.mark.parametrize(
    "resource",
    [
        FoundryContainerResource(bearer_token=TOKEN),
        FoundryContainerResource(headers={"X-Key": TOKEN}),
        FoundryContainerResource(lock_database=f"postgresql://user:{TOKEN}@host/database"),
        FoundryParquetIOManager(base_dir="s3://bucket", storage_options={"key": "k", "secret": TOKEN}),
        FoundryParquetIOManager(base_dir="s3://b", storage_options={"client_kwargs": {"aws_session_token": TOKEN}}),
        FoundryParquetIOManager(base_dir="gs://bucket", storage_options={"token": {"private_key": TOKEN}}),
        FoundryParquetIOManager(base_dir="az://bucket", storage_options={"connection_string": TOKEN}),
        # Of base64, of which one in 64 begins with a slash.
        FoundryParquetIOManager(base_dir="s3://bucket", storage_options={"secret": f"/{TOKEN}"}),
        FoundryParquetIOManager(base_dir="s3://bucket", storage_options={"endpoint_url": f"http://user:{TOKEN}@host"}),
        FoundryParquetIOManager(base_dir="s3://bucket", storage_options={"config_kwargs": {"l": [{"secret": TOKEN}]}}),
        FoundryParquetIOManager(base_dir="az://bucket", storage_options={"account_host": f"h?sv=1&sig={TOKEN}"}),
    ],
)
def test_a_secret_that_dagster_would_store_is_refused_and_not_shown(
    resource: FoundryContainerResource | FoundryParquetIOManager,
) -> None:
    assert TOKEN not in f"{resource!r} {resource}"

    @dg.asset(required_resource_keys={"container"})
    def orders() -> None: ...

    uses: list[Callable[[], object]] = [
        lambda: dg.Definitions.validate_loadable(dg.Definitions([orders], resources={"container": resource})),
        lambda: dg.materialize([orders], resources={"container": resource}),
    ]
    for use in uses:
        with pytest.raises(dg.DagsterInvalidDefinitionError, match=r'is a secret.*dg.EnvVar\("NAME"\)') as caught:
            use()
        assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"bearer_token": [TOKEN]},
        {"headers": TOKEN},
        {"headers": {"X-Key": [TOKEN]}},
        {"bearer_tokn": TOKEN},
        {"port": TOKEN},
    ],
)
def test_an_error_of_the_resource_shows_no_input(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="1 validation error") as caught:
        FoundryContainerResource(**arguments)
    assert TOKEN not in f"{caught.value} {caught.value!r}"


def test_a_setting_that_is_misspelled_is_not_passed_over() -> None:
    with pytest.raises(ValueError, match="secrue"):
        FoundryContainerResource(secrue=True)  # type: ignore[call-arg]
    # The field's name in Python, of which `storage_options` is the alias.
    with pytest.raises(ValueError, match="cloud_storage_options") as caught:
        FoundryParquetIOManager(base_dir="s3://bucket", cloud_storage_options={"secret": TOKEN})
    assert TOKEN not in str(caught.value)


def test_what_is_no_secret_may_be_given_as_it_is() -> None:
    client = {"region_name": "eu", "endpoint_url": "http://127.0.0.1:9000"}
    for token in ("google_default", "/var/run/secrets/key.json", dg.EnvVar("TOKEN")):
        options = {"key": "k", "anon": False, "token": token, "client_kwargs": client}
        FoundryParquetIOManager(base_dir="s3://bucket", storage_options=options).get_resource_definition()


def test_no_repr_has_a_secret() -> None:
    with RESOURCE.process_config_and_initialize_cm() as resolved:
        assert resolved.bearer_token == TOKEN
        client = resolved.get_client()
    endpoint = Endpoint("h", 1, headers={"Authorization": f"Bearer {TOKEN}"})
    for value in (resolved, client, client._puller, endpoint, [endpoint]):
        assert "nobody-may-see" not in f"{value!r} {value}"
    # Frozen: what was checked is what is sent.
    with pytest.raises(TypeError, match="does not support item assignment"):
        endpoint.headers["Host"] = "elsewhere"  # type: ignore[index]
    assert isinstance(copy.copy(client), FoundryDevToolsContainerClient)


def test_yaml_leaves_the_environment_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    component = FoundryDatasetsComponent.resolve_from_yaml(
        """
        resource:
          host: container
          secure: true
          bearer_token: "{{ env.PROXY_TOKEN }}"
          headers: {X-Key: "{{env.PROXY_KEY}}"}
          lock_database: "{{ env.LOCKS }}"
        io_manager:
          base_dir: s3://bucket
          storage_options:
            secret: "{{ env.PROXY_TOKEN }}"
            client_kwargs: {region_name: "{{ env.PROXY_KEY }}", several: ["{{ env.PROXY_TOKEN }}"]}
        """
    )
    resource = component.resource
    assert isinstance(resource, FoundryContainerResource)
    assert isinstance(resource.bearer_token, dg.EnvVar)
    stored = resource.get_resource_definition().config_schema.as_field().default_value_as_json_str
    assert '"bearer_token": {"env": "PROXY_TOKEN"}' in stored
    assert '"lock_database": {"env": "LOCKS"}' in stored
    io_manager = component.io_manager
    assert isinstance(io_manager, FoundryParquetIOManager)
    options = io_manager.get_resource_definition().config_schema.as_field().default_value_as_json_str
    assert '"region_name": {"env": "PROXY_KEY"}, "several": [{"env": "PROXY_TOKEN"}]}' in options
    assert '"secret": {"env": "PROXY_TOKEN"}' in options
    assert with_values({"several": [{"env": "PROXY_TOKEN"}]}) == {"several": [TOKEN]}
    assert "nobody-may-see" not in stored + options
    monkeypatch.setenv("LOCKS", "postgresql://user:password@host/database")
    with resource.process_config_and_initialize_cm() as resolved:
        assert (resolved.bearer_token, resolved.headers) == (TOKEN, {"X-Key": "k3y-that-nobody-may-see"})


SECRET_IN_YAML = [
    f"lock_database: postgresql://user:{TOKEN}@host/database",
    f"bearer_token: {TOKEN}",
    f"bearer_token: [{TOKEN}]",
    f'bearer_token: "{TOKEN}{{{{ env.PROXY_KEY }}}}"',
    f"headers: {{Authorization: {TOKEN}}}",
    f"headers: {{Authorization: [{TOKEN}]}}",
    f"headers: {TOKEN}",
    'headers: {Authorization: "Basic {{ env.PROXY_KEY }}"}',
]
SECRET_OF_THE_STORE = [
    f"storage_options: {{secret: {TOKEN}}}",
    f"storage_options: {{client_kwargs: {{aws_secret_access_key: {TOKEN}}}}}",
    f'storage_options: {{endpoint_url: "http://user:{TOKEN}@{{{{ env.PROXY_KEY }}}}"}}',
]


def test_yaml_with_more_than_the_environment_variable_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything else in it, for Dagster shows the lines of YAML around those that are wrong."""
    project = Project(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "src")
    places = [("resource", secret) for secret in SECRET_IN_YAML]
    places += [("io_manager", secret) for secret in SECRET_OF_THE_STORE]
    for owner, secret in places:
        (project.defs / "defs.yaml").write_text(
            "type: fdtcc_dagster.FoundryDatasetsComponent\n"
            f"attributes:\n  {owner}:\n    no_such_setting: 1\n    port: many\n"
            f"    {secret}\n"
        )
        with pytest.raises(Exception, match="error") as caught:
            dg.load_from_defs_folder(path_within_project=project.defs)
        shown = "".join(traceback.format_exception(caught.value))
        name = secret.partition(":")[0]
        assert re.search(name + r"(\[.*\])? of .* is a secret.*\{\{ env.NAME \}\}. and nothing else", shown), shown
        assert re.search(rf"{owner}\.{name}\S* at \S+defs\.yaml:6\b", shown), shown
        assert "nobody-may-see" not in shown


def test_yaml_with_a_secret_of_the_wrong_shape_is_refused_without_showing_it() -> None:
    with pytest.raises(ResolutionException) as caught:
        FoundryDatasetsComponent.resolve_from_yaml(
            """
            resource: {bearer_token: "{{ [env.PROXY_KEY] }}"}
            """
        )
    assert "nobody-may-see" not in str(caught.value)
