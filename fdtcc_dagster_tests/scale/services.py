"""Servers of a deployment: real ones on loopback, on free ports, in directories of their own, ended by their id."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from fdtcc_dagster_tests.real_instance import end, free_port, wait_until

PACKAGES = "postgresql redis-server nginx"
POSTGRES = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
"""Where Debian has the programs of its versions, which are not on the PATH."""
_NODE = str(Path(__file__).parents[2] / ".node" / "node_modules" / ".bin")


def program(name: str, install: str = f"apt-get install {PACKAGES}") -> str:
    """The path of a program; a test skips without it, and fails in CI."""
    path = shutil.which(name, path=os.pathsep.join((*POSTGRES, _NODE, os.environ.get("PATH", ""))))
    if path is None:
        missing(f"no {name}: {install}")
    return path


def missing(what: str) -> NoReturn:
    """End a test that needs what is not installed: it is skipped, and fails in CI."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


@contextlib.contextmanager
def running(
    command: Sequence[str], log: Path, ready: Callable[[], object], environment: Mapping[str, str] | None = None,
    **options: Any,
) -> Iterator[subprocess.Popen[bytes]]:  # fmt: skip
    """Run a server, from when it is ready until the end of the block."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            **options,
        )  # fmt: skip
    try:

        def is_ready() -> bool:
            assert process.poll() is None, log.read_text()
            return bool(ready())

        wait_until(is_ready, 60, what=log.name)
        yield process
    finally:
        end(process)


def listens(port: int) -> bool:
    """Whether something accepts connections at a port of loopback."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def redis(directory: Path) -> Iterator[str]:
    """A Redis server that keeps nothing, as its URL without a database."""
    port = free_port()
    command = [program("redis-server"), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    with running(command, directory / "redis.log", lambda: listens(port), cwd=directory):
        yield f"redis://127.0.0.1:{port}"


def other_user() -> dict[str, Any]:
    """For root: options of a process that run it as another user."""
    if os.getuid():
        return {}
    import pwd  # which not every system has

    users = {user.pw_name: user for user in pwd.getpwall()}
    user = users.get("postgres") or users["nobody"]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
