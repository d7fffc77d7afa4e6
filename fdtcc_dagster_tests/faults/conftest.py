from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import dagster as dg
import pytest

from fdtcc_dagster_tests.faults.scene import Scene, scene
from fdtcc_dagster_tests.faults.site import FaultySite
from fdtcc_dagster_tests.scale.services import missing

Mount = Callable[..., None]


@pytest.fixture
def place() -> Iterator[Scene]:
    with scene() as place:
        yield place


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """One for each case: what a run learns of a snapshot counts for every later one."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def site(place: Scene, tmp_path: Path, instance: dg.DagsterInstance) -> FaultySite:
    return FaultySite(place, tmp_path, instance)


@pytest.fixture
def mount() -> Iterator[Mount]:
    """Make a directory a disk of its own, or change what it is: `mount(directory, size="512k", read_only=True)`."""
    if os.geteuid() != 0:
        missing("no root: only root can mount a small disk")
    with ExitStack() as unmounting:

        def mount(directory: Path, *, size: str = "1m", read_only: bool = False) -> None:
            options = f"size={size},mode=0755,{'ro' if read_only else 'rw'}"
            if directory.is_mount():
                _call("mount", "-o", f"remount,{options}", str(directory))
            else:
                _call("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory))
                unmounting.callback(_call, "umount", str(directory))

        yield mount


def _call(*command: str) -> None:
    subprocess.run(command, check=True, timeout=30)
