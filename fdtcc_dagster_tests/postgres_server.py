"""A real Postgres server on loopback, in a directory of its own."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fdtcc_dagster_tests.real_instance import free_port
from fdtcc_dagster_tests.scale.services import other_user, program

USER, PASSWORD = "dagster", "passw0rd-that-nobody-may-see"


@dataclass
class PostgresServer:
    """A server that runs, or has been stopped."""

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

    def run(self, name: str, *arguments: str) -> None:
        """Run one of Postgres' programs, which refuse to be run by root."""
        command = [program(name), "-D", str(self.directory / "data"), *arguments]
        # Not a pipe: the server would keep it open.
        with (self.directory / "output").open("w") as output:
            subprocess.run(command, check=True, stdout=output, stderr=output, cwd=self.directory, **other_user())


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server, and stop it in the end."""
    program("initdb")
    # Not pytest's own, which only its user can enter.
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        server = PostgresServer(Path(name), free_port())
        password = server.directory / "password"
        password.write_text(PASSWORD)
        if user := other_user():
            for path in (server.directory, password):
                os.chown(path, user["user"], user["group"])
        server.run("initdb", "-U", USER, "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync", "--no-locale")
        server.start()
        try:
            yield server
        finally:
            server.stop()
