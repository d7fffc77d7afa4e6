"""The container as a Dagster resource."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import (
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from fdtcc_dagster.arguments import instance_of, kind_of, no_variable, unless_variable, with_unknown_named
from fdtcc_dagster.client import FoundryDevToolsContainerClient, Snapshot
from fdtcc_dagster.client.directories import expand_home, fall_back_to
from fdtcc_dagster.client.endpoint import check_host
from fdtcc_dagster.client.protocol import Message, MissingVersion
from fdtcc_dagster.client.settings import ClientSettings
from fdtcc_dagster.client.spool import spool_directory
from fdtcc_dagster.dagster_internals import ConfigurableResourceFactoryResourceDefinition, PartialResource
from fdtcc_dagster.evidence import Evidence
from fdtcc_dagster.secrets import refuse_plain_secrets
from fdtcc_dagster.window import Window

if TYPE_CHECKING:
    from typing_extensions import Self

RESOURCE_KEY = "foundry_container"
SECRETS = ("bearer_token", "headers", "lock_database")
"""The fields whose values are shown nowhere."""


def check_resource(resource: object) -> None:
    """Check that something is the container, or will be when it is configured."""
    if not (isinstance(resource, PartialResource) and issubclass(resource.resource_cls, FoundryContainerResource)):
        kinds = (FoundryContainerResource, dg.ResourceDefinition)
        meant = "FoundryContainerResource, such as FoundryContainerResource(host=…)"
        instance_of("resource", resource, kinds, meant, kind_of)


def check_container(dataset: str, container: object, key: str) -> None:
    """Check that a run got the container as its resource with a key.

    Raises:
        dagster.Failure: It is something else, and will be in each attempt.
    """
    if not isinstance(container, FoundryContainerResource):
        raise dg.Failure(
            f"dataset {dataset!r}: the resource {key!r} is {kind_of(container)}; "
            "give a FoundryContainerResource in the definitions' resources",
            allow_retries=False,
        )


class FoundryContainerResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # generic only for old-style values
    """A Foundry DevTools Container, as the resource `foundry_container`."""

    # A misspelled `secure` must not be passed over, and an error must not show what stands where a token should.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    # Until a run resolves it, an `EnvVar.int` is 0: where that is no value, it is refused when it is used.
    host: str = Field(
        default=ClientSettings.host, description="The container's host: a name, or an IPv4 or IPv6 address."
    )
    port: int = Field(
        default=8888,  # the client has the reference client's default
        description="The container's port; the service's own image listens on 8888.",
        ge=0,
        lt=65536,
    )
    transport: Literal["csv", "zip"] = Field(
        default="csv", description="How snapshots travel: 'csv' as they are, 'zip' compressed, for slow links."
    )
    open_timeout: float = Field(
        default=ClientSettings.open_timeout, description="Seconds for a connection and its handshake.", gt=0
    )
    idle_timeout: float = Field(
        default=ClientSettings.idle_timeout,
        description="Seconds without any message or byte. The container is silent for minutes while it writes.",
        gt=0,
    )
    job_timeout: float = Field(
        default=ClientSettings.job_timeout, description="Seconds for the container's whole job.", gt=0
    )
    transfer_timeout: float = Field(
        default=ClientSettings.transfer_timeout, description="Seconds for a whole download.", gt=0
    )
    attempts: int = Field(
        default=ClientSettings.attempts,
        description="How often a request or a download is tried when a failure is passing.",
        ge=0,
    )
    retry_delay: float = Field(
        default=ClientSettings.retry_delay,
        description="Seconds before the second attempt; the delay doubles each time, up to a minute.",
        ge=0,
    )
    max_concurrency: int = Field(
        default=4,
        description="How many partitions of a run are pulled at a time, and so how many snapshots the spool holds.",
        ge=0,
    )
    spool_directory: str | None = Field(
        default=None,
        description="Existing directory for snapshots on their way; None: the system's temporary directory. "
        "It needs room for as many CSVs as max_concurrency says, and for the rows of slices.",
    )
    max_bytes: int = Field(
        default=ClientSettings.max_bytes,
        description="Bytes of a snapshot's CSV beyond which its download fails.",
        ge=0,
    )
    max_handshakes: int = Field(
        default=ClientSettings.max_handshakes,
        description="How many handshakes with the container there are at a time on this machine; the others wait.",
        ge=0,
    )
    max_record_bytes: int = Field(
        default=ClientSettings.max_record_bytes,
        description="Bytes of one record of a snapshot's CSV, which is held in memory as a whole, beyond which reading "
        "it fails.",
        ge=0,
    )
    secure: bool = Field(
        default=ClientSettings.secure,
        description="Whether a proxy in front of the container speaks TLS; its certificate is verified.",
    )
    ca_file: str | None = Field(
        default=None,
        description="With secure: a PEM file with the authorities to trust, instead of those of the system.",
    )
    bearer_token: str | None = Field(
        default=None, description="A token that the proxy wants: an EnvVar, so that it is stored nowhere.", repr=False
    )
    headers: dict[str, str] = Field(
        default={}, description="Other headers that the proxy wants; each value an EnvVar, as the token.", repr=False
    )

    lock_database: str | None = Field(
        default=None,
        description="The URL of a Postgres database that keeps the pulls of several machines apart: an EnvVar, as it "
        "has a password.",
        repr=False,
    )

    @model_validator(mode="wrap")
    @classmethod
    def _name_unknown(cls, values: Any, check: ModelWrapValidatorHandler[Self]) -> Self:
        return with_unknown_named(cls, values, check)

    @field_validator("host", mode="before")
    @classmethod
    def _check_host(cls, host: object) -> object:
        return host if isinstance(host, dg.EnvVar) else check_host(host)

    @field_validator(
        "port", "attempts", "max_concurrency", "max_bytes", "max_handshakes", "max_record_bytes", mode="before"
    )
    @classmethod
    def _check_count(cls, value: object, info: ValidationInfo) -> object:
        no_variable(str(info.field_name), value, integer=True)
        # Until a run resolves it, an `EnvVar.int` is 0, too. To pydantic, True is 1.
        if isinstance(value, bool) or (type(value) in (int, str) and value in (0, "0")):
            to = " from 1 to 65535" if info.field_name == "port" else " of at least 1"
            raise ValueError(f"{info.field_name}={value!r} must be an integer{to}")
        return value

    @field_validator("open_timeout", "idle_timeout", "job_timeout", "transfer_timeout", "retry_delay", mode="wrap")
    @classmethod
    def _check_seconds(cls, value: object, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> object:
        name = str(info.field_name)
        if name == "retry_delay" and cls.model_fields[name].annotation is float:
            no_variable(name, value)  # the zero that an `EnvVar.int` is would be allowed here, and fail in the run
        if isinstance(value, bool):
            kind = "a positive number of seconds" if info.field_name != "retry_delay" else "a number of seconds"
            raise ValueError(f"{info.field_name}={value!r} must be {kind}")
        return unless_variable(name, value, check)

    @field_validator("transport", "secure", mode="wrap")
    @classmethod
    def _check_choice(cls, value: object, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> object:
        return unless_variable(str(info.field_name), value, check)

    @field_validator("spool_directory", "ca_file", mode="before")
    @classmethod
    def _take_path(cls, path: object, info: ValidationInfo) -> object:
        if isinstance(path, (str, os.PathLike)) and not isinstance(path, dg.EnvVar):
            expand_home(str(info.field_name), path)
        return os.fspath(path) if isinstance(path, os.PathLike) else path

    def get_resource_definition(self) -> ConfigurableResourceFactoryResourceDefinition:
        """Give Dagster the definition, of which it stores the configuration and shows it in its UI.

        Returns:
            The definition.

        Raises:
            dagster.DagsterInvalidDefinitionError: A secret is not an `EnvVar`, so its value would be in there.
        """
        refuse_plain_secrets("FoundryContainerResource", {name: getattr(self, name) for name in SECRETS})
        return super().get_resource_definition()

    _spools: list[Path] = PrivateAttr(default_factory=list)

    def get_client(self) -> FoundryDevToolsContainerClient:
        """Give a client of the container, for code that wants the client's own interface.

        Returns:
            A client that refuses today's data for a past window, as the assets do.
        """
        settings = {setting.name: getattr(self, setting.name) for setting in fields(ClientSettings)}
        return FoundryDevToolsContainerClient(**settings, missing_version="raise")

    @contextmanager
    def spool(self) -> Iterator[Path]:
        """Give a directory for snapshots, which is removed with all that is in it, whatever happens.

        What killed processes have left beside it is removed first.

        Yields:
            A new directory that only this user can read.

        Raises:
            OSError: `spool_directory` does not exist or cannot be written to.
        """
        if self.spool_directory:
            fall_back_to(expand_home("spool_directory", self.spool_directory))
        with spool_directory(self.spool_directory) as directory:
            self._spools.append(directory)
            try:
                yield directory
            finally:
                self._spools.remove(directory)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Remove what an asset could not: its function is suspended while its IO manager fails.

        Args:
            context: Dagster's context of the resource.
        """
        for directory in self._spools:
            shutil.rmtree(directory, ignore_errors=True)

    def pull(
        self,
        name: str,
        window: Window,
        *,
        directory: Path,
        on_message: Callable[[Message], None] | None = None,
        on_progress: Callable[[int, int | None], None] | None = None,
        on_notice: Callable[[Message], None] | None = None,
        missing_version: MissingVersion = "raise",
        now: datetime | None = None,
        evidence: Evidence | None = None,
    ) -> Snapshot:
        """Pull one dataset, from sync code; see `FoundryDevToolsContainerClient.pull`.

        An interrupt of the calling thread, such as Dagster's on termination, closes the socket and removes what has
        arrived before it is raised.

        Args:
            name: The dataset's name.
            window: The window to request.
            directory: Where the CSV is put, such as that of `spool()`.
            on_message: Called in this thread with every message of the container.
            on_progress: Called in this thread, about once a second, with the number of bytes that have arrived, and
                their total or None.
            on_notice: Called in this thread with what the client itself waits for; see
                `FoundryDevToolsContainerClient.pull`.
            missing_version: `"raise"` or `"accept"`.
            now: The current aware instant; None asks the clock.
            evidence: As for `FoundryDevToolsContainerClient.pull`.

        Returns:
            The snapshot.

        Raises:
            FdtccError: As `FoundryDevToolsContainerClient.pull` does.
        """
        return self.get_client().pull_sync(
            name,
            window.from_dt,
            window.to_dt,
            directory=directory,
            on_message=on_message,
            transport=self.transport,
            missing_version=missing_version,
            now=now,
            on_progress=on_progress,
            on_notice=on_notice,
            evidence=evidence,
        )
