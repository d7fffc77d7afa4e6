"""A real Postgres server on loopback, in a directory of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

USER, PASSWORD = "dagster", "passw0rd-that-nobody-may-see"


@dataclass
class PostgresServer:
    """A server that runs, or has been stopped."""

    programs: Path
    directory: Path
    port: int

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        self.run("pg_ctl", "-w", "-l", str(self.directory / "log"), "-o", options, "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-w", "-m", "immediate", "stop")

    def run(self, program: str, *arguments: str) -> None:
        """Run one of Postgres' programs, which refuse to be run by root."""
        command = [str(self.programs / program), "-D", str(self.directory / "data"), *arguments]
        # Not a pipe: the server would keep it open.
        with (self.directory / "output").open("w") as output:
            subprocess.run(command, check=True, stdout=output, stderr=output, user=_user(), cwd=self.directory)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server, and stop it in the end; skip the test where Postgres is not installed."""
    found = shutil.which("initdb") or next(iter(Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    if found is None:
        pytest.skip("needs Postgres: apt-get install postgresql")
    # Not pytest's own, which only its user can enter.
    with tempfile.TemporaryDirectory(prefix="postgres-") as name, socket.create_server(("127.0.0.1", 0)) as free:
        server = PostgresServer(Path(found).resolve().parent, Path(name), free.getsockname()[1])
        password = server.directory / "password"
        password.write_text(PASSWORD)
        if user := _user():
            shutil.chown(server.directory, user)
            shutil.chown(password, user)
        server.run("initdb", "-U", USER, "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync")
        free.close()
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _user() -> str | None:
    return "nobody" if os.getuid() == 0 else None
