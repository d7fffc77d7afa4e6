"""The container as a Dagster resource."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Literal

import dagster as dg
from pydantic import Field, PrivateAttr, field_validator

from fdtcc_dagster.client import FoundryDevToolsContainerClient, Snapshot, Window
from fdtcc_dagster.client.endpoint import check_host
from fdtcc_dagster.client.protocol import Message, MissingVersion
from fdtcc_dagster.waiting import wait_for


class FoundryContainerResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # generic only for old-style values
    """A Foundry DevTools Container, as the resource `foundry_container`."""

    # Until a run resolves it, an `EnvVar.int` is 0: where that is no value, it is refused when it is used.
    host: str = Field(default="project-fdt-container", description="The container's host.")
    port: int = Field(
        default=8000, description="The container's port. The service's own image listens on 8888.", ge=0, lt=65536
    )
    transport: Literal["csv", "zip"] = Field(
        default="csv", description="How snapshots travel: 'csv' as they are, 'zip' compressed, for slow links."
    )
    open_timeout: float = Field(default=60.0, description="Seconds for a connection and its handshake.", gt=0)
    idle_timeout: float = Field(
        default=600.0,
        description="Seconds without any message or byte. The container is silent for minutes while it writes.",
        gt=0,
    )
    job_timeout: float = Field(default=14_400.0, description="Seconds for the container's whole job.", gt=0)
    attempts: int = Field(default=3, description="How often a request is tried when a failure is passing.", ge=0)
    max_concurrency: int = Field(
        default=4,
        description="How many partitions of a run are pulled at a time, and so how many snapshots the spool holds.",
        ge=0,
    )
    spool_directory: str | None = Field(
        default=None,
        description="Existing directory for snapshots on their way; None: the system's temporary directory. "
        "It needs room for the CSV.",
    )

    @field_validator("host")
    @classmethod
    def _check_host(cls, host: str) -> str:
        return check_host(host)

    _spools: list[Path] = PrivateAttr(default_factory=list)

    def get_client(self) -> FoundryDevToolsContainerClient:
        """Give a client of the container, for code that wants the client's own interface.

        Returns:
            A client that refuses today's data for a past window, as the assets do.
        """
        return FoundryDevToolsContainerClient(
            self.host,
            self.port,
            missing_version="raise",
            open_timeout=self.open_timeout,
            idle_timeout=self.idle_timeout,
            job_timeout=self.job_timeout,
            attempts=self.attempts,
        )

    @contextmanager
    def spool(self) -> Iterator[Path]:
        """Give a directory for snapshots, which is removed with all that is in it, whatever happens.

        Yields:
            A new directory that only this user can read.

        Raises:
            OSError: `spool_directory` does not exist or cannot be written to.
        """
        with tempfile.TemporaryDirectory(prefix="fdtcc-", dir=self.spool_directory) as directory:
            self._spools.append(Path(directory))
            try:
                yield Path(directory)
            finally:
                self._spools.remove(Path(directory))

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
        missing_version: MissingVersion = "raise",
        now: datetime | None = None,
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
            missing_version: `"raise"` or `"accept"`.
            now: The current aware instant; None asks the clock.

        Returns:
            The snapshot.

        Raises:
            FdtccError: As `FoundryDevToolsContainerClient.pull` does.
        """

        async def work(report: Callable[[Callable[[], None]], None]) -> Snapshot:
            return await self.get_client().pull(
                name,
                window.from_dt,
                window.to_dt,
                directory=directory,
                on_message=None if on_message is None else lambda message: report(partial(on_message, message)),
                on_progress=None if on_progress is None else lambda *sizes: report(partial(on_progress, *sizes)),
                transport=self.transport,
                missing_version=missing_version,
                now=now,
            )

        return wait_for(work, lambda call: call())
