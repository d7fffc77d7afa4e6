"""Dagster on several hosts: Postgres, Redis, a webserver, a daemon, a code server, and Celery workers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fdtcc_dagster.client.directories import STATE_DIRECTORY
from fdtcc_dagster_tests.postgres_server import postgres_server
from fdtcc_dagster_tests.real_instance import RealInstance, answers, free_port
from fdtcc_dagster_tests.scale.hosts import WRITABLE, restricted_host
from fdtcc_dagster_tests.scale.services import listens, redis, running

LOCATION = "fdtcc_dagster_tests.scale.location"
ROOT = Path(__file__).parents[2]
REDELIVERED_AFTER = 30
"""Seconds, for a test; longer than any step takes."""
INSTANCE = """
telemetry:
  enabled: false
storage:
  postgres:
    postgres_url:
      env: TEST_POSTGRES
compute_logs:
  module: dagster.core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
concurrency:
  pools:
    granularity: op
    default_limit: {pool_limit}
run_monitoring:
  enabled: true
  poll_interval_seconds: 5
  max_runtime_seconds: {max_runtime}
  free_slots_after_run_end_seconds: 5
run_retries:
  enabled: true
  max_retries: 2
  retry_on_asset_or_op_failure: false
"""
WORKERS = f"""
execution:
  config:
    broker:
      env: TEST_BROKER
    backend:
      env: TEST_RESULTS
    config_source:
      task_acks_late: true
      task_reject_on_worker_lost: true
      worker_prefetch_multiplier: 1
      broker_transport_options:
        visibility_timeout: {REDELIVERED_AFTER}
        unacked_restore_interval: 2
        unacked_restore_throttle: 1
"""


@dataclass(frozen=True)
class Worker:
    """A Celery worker, as on a host of its own."""

    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Kill all its processes, as a host that loses its power."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass(frozen=True)
class Deployment:
    """A running deployment, without workers yet."""

    instance: RealInstance
    directory: Path
    environment: Mapping[str, str]

    @contextlib.contextmanager
    def workers(self) -> Iterator[list[Worker]]:
        """Run two workers: one of two processes with a home of its own, and one of one process on a restricted host."""
        (self.directory / "first").mkdir()
        with contextlib.ExitStack() as stack:
            restricted = stack.enter_context(restricted_host(self.directory / "second", cpus=1.0))
            first = self._command("first", self.directory / "first", ["HOME", STATE_DIRECTORY], processes=2)
            second = self._command("second", WRITABLE, [], processes=1)
            ready = {name: self.directory / f"{name}.log" for name in ("first", "second")}
            yield [
                Worker(stack.enter_context(running(command, log, started, self.environment)))
                for command, log, started in (
                    (first, ready["first"], lambda: True),
                    (
                        [*restricted, *second],
                        ready["second"],
                        lambda: all(" ready." in log.read_text() for log in ready.values()),
                    ),
                )
            ]

    def _command(self, name: str, seen: Path, more: Sequence[str], processes: int) -> list[str]:
        """Prepare the directory of a worker's host, which the worker itself sees at another path."""
        directory = self.directory / name
        owner = directory.stat()
        # Celery itself needs a temporary directory.
        places = ["DAGSTER_HOME", "TEST_SPOOL", "TMPDIR", *more]
        for place in places:
            (directory / place).mkdir()
            os.chown(directory / place, owner.st_uid, owner.st_gid)
        (directory / "DAGSTER_HOME" / "dagster.yaml").write_text((self.directory / "home" / "dagster.yaml").read_text())
        (directory / "workers.yaml").write_text(WORKERS)
        return [
            "env", *(f"{place}={seen / place}" for place in places),
            *["dagster-celery", "worker", "start", "-A", "dagster_celery.app"],
            "-y", str(seen / "workers.yaml"), "-n", name, "--", f"--concurrency={processes}",
        ]  # fmt: skip


@contextlib.contextmanager
def deployment(
    directory: Path, more: Mapping[str, str], *, pool_limit: int, max_runtime: int = 600
) -> Iterator[Deployment]:
    """Run everything but the workers.

    Args:
        directory: An empty directory.
        more: Environment variables of the code location.
        pool_limit: How many steps of a pool there are at a time.
        max_runtime: The seconds after which a run is ended, and retried.
    """
    home = directory / "home"
    home.mkdir(parents=True)
    (home / "dagster.yaml").write_text(INSTANCE.format(pool_limit=pool_limit, max_runtime=max_runtime))
    code_port, web_port = free_port(), free_port()
    (directory / "workspace.yaml").write_text(
        f"load_from:\n  - grpc_server: {{host: 127.0.0.1, port: {code_port}, location_name: scale}}\n"
    )
    url = f"http://127.0.0.1:{web_port}"
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(redis(directory))
        database = stack.enter_context(postgres_server())
        environment = {
            **os.environ,
            "DAGSTER_HOME": str(home),
            # SQLAlchemy 2.1 takes `postgresql://` for psycopg 3, and Dagster installs psycopg2.
            "TEST_LOCKS": database.url,
            "TEST_POSTGRES": database.url.replace("://", "+psycopg2://", 1),
            # Workers have another one, but Dagster reads each variable of a resource when it plans a run, too.
            "TEST_SPOOL": str(directory),
            "TEST_BROKER": f"{broker}/0",
            "TEST_RESULTS": f"{broker}/1",
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
            "PYTHONPATH": str(ROOT),
            "PYTHONUTF8": "1",
            **more,
        }

        def start(name: str, command: str, ready: Callable[[str], object]) -> None:
            log = directory / f"{name}.log"
            stack.enter_context(
                running(command.split(), log, lambda: ready(log.read_text()), environment, cwd=directory)
            )

        code = f"dagster api grpc -m {LOCATION} -h 127.0.0.1 -p {code_port}"
        start("code", code, lambda _: listens(code_port))
        start("webserver", f"dagster-webserver -w workspace.yaml -h 127.0.0.1 -p {web_port}", lambda _: answers(url))
        start("daemon", "dagster-daemon run -w workspace.yaml", lambda log: "is configured with" in log)
        yield Deployment(RealInstance(url, directory, environment), directory, environment)
