"""The services of a Compose file as processes: no image and no engine, but their commands, mounts, users and checks.

All share a network of their own, in which each service's name is 127.0.0.1. Each has the mounts of its volumes and
secrets, and a root file system that is read-only if the file says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fdtcc_dagster_tests.real_instance import RealInstance, end, wait_until
from fdtcc_dagster_tests.scale.services import POSTGRES, missing, other_user, program, running

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
Service = dict[str, Any]
_MOUNTS = """
set -e
user=$1 group=$2 read_only=$3; shift 3
mount -t tmpfs tmpfs /srv
mount -t tmpfs tmpfs /run
mkdir -p /run/secrets /srv/dagster /srv/kept
number=0
for kept in $KEPT; do number=$((number + 1)); mkdir /srv/kept/$number; mount --bind $kept /srv/kept/$number; done
for pair in $MOUNTS; do
    source=${pair%%:*} target=${pair#*:}
    case $target in /srv/*|/run/*) if [ -d $source ]; then mkdir -p $target; else touch $target; fi;; esac
    mount --bind $source $target
done
for each in $TMPFS; do mount -t tmpfs tmpfs $each; chmod 1777 $each; done
number=0
for kept in $KEPT; do number=$((number + 1)); mkdir -p $kept; mount --bind /srv/kept/$number $kept; done
if [ $read_only = True ]; then for each in /srv /run /; do mount -o remount,bind,ro $each; done; fi
unset KEPT MOUNTS TMPFS
cd /srv
exec setpriv --reuid=$user --regid=$group --clear-groups --no-new-privs \\
    --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search -- "$@"
"""
"""Capabilities: Python itself may be in a directory that only root can search."""
_NETWORK = """
import fcntl, pathlib, socket, struct, sys, time
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS: IFF_UP
pathlib.Path(sys.argv[1]).touch()
time.sleep(600)
"""
"""Keeps a network of its own, with loopback only."""
_POSTGRES = """
set -e
printf %s "$POSTGRES_PASSWORD" >$PGDATA.password
initdb -D $PGDATA -U $POSTGRES_USER --auth=scram-sha-256 --pwfile=$PGDATA.password --no-sync --no-locale
echo "CREATE DATABASE $POSTGRES_DB" | postgres --single -D $PGDATA postgres
exec postgres -D $PGDATA -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off
"""
"""What the image of Postgres does."""


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Replace `${NAME}`, `${NAME:-default}` and `${NAME:?message}` as Compose does."""

    def value(found: re.Match[str]) -> str:
        name, operator, rest = found.groups()
        given = variables.get(name, "")
        assert given or operator == ":-", f"{name} is not set: {rest}"
        return given or rest

    return re.sub(r"\$\{(\w+)(?:(:-|:\?)([^}]*))?\}", value, text)


def variables_of(file: Path) -> dict[str, str]:
    """The variables of an `.env` file."""
    lines = [line.partition("=") for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return {name: value for name, _, value in lines}


def services_of(text: str, profile: str) -> dict[str, Service]:
    """The services of a Compose file that a profile starts."""
    services: dict[str, Service] = yaml.safe_load(text)["services"]
    return {name: each for name, each in services.items() if profile in each.get("profiles", [profile])}


def stages(services: Mapping[str, Service]) -> Iterator[list[str]]:
    """Which services can be started at a time, one after the other, by what each depends on."""
    started = set[str]()
    while len(started) < len(services):
        waits = {name: set(service.get("depends_on", {})) & set(services) for name, service in services.items()}
        stage = [name for name in services if name not in started and waits[name] <= started]
        assert stage, f"{set(services) - started} wait for each other"
        yield stage
        started.update(stage)


def hosts_of(services: Mapping[str, Service]) -> set[str]:
    """The names by which services are reached."""
    networks = [service["networks"] for service in services.values() if isinstance(service["networks"], dict)]
    return {*services, *(alias for each in networks for network in each.values() for alias in network["aliases"])}


def user_of(service: Service) -> tuple[int, int]:
    """The user and the group of a service: of the image of Postgres its own."""
    if "user" in service:
        user, group = service["user"].split(":")
        return int(user), int(group)
    return other_user()["user"], other_user()["group"]


def image_environment() -> dict[str, str]:
    """What the image sets."""
    (section,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    return dict(re.findall(r"(\w+)=(\S+)", section))


@dataclass
class Composition:
    """Services that run."""

    directory: Path
    network: subprocess.Popen[bytes]
    services: dict[str, Service]
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def volume(self, name: str) -> Path:
        """The directory of a named volume, which the user of its service owns; or that of a path."""
        return self.directory / "compose" / name if name.startswith("./") else self.directory / "volumes" / name

    def start(self, names: Iterable[str]) -> None:
        """Start services, and wait until their checks pass, as those do that depend on them."""
        with ThreadPoolExecutor() as threads:
            list(threads.map(self._start, names))

    def _start(self, name: str) -> None:
        service, log = self.services[name], self.directory / f"{name}.log"
        assert service.get("command") or name == "postgres", f"{name} needs its image"
        command, environment, options = self.process(service, service.get("command", []))
        # Many of these processes take seconds: none before there is something to check.
        ports = re.findall(r"\b\d{4}\b", " ".join(service["healthcheck"]["test"]))

        def is_healthy() -> bool:
            return all(map(self.listens, ports)) and (name == "daemon" or self.is_healthy(name))

        self.stack.enter_context(running(command, log, is_healthy, environment, **options))

    def is_healthy(self, name: str) -> bool:
        """Run the check of a service."""
        kind, *check = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        return self.run(name, *check).returncode == 0

    def run(self, name: str, *command: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command beside a service, as `docker compose exec` does."""
        whole, environment, options = self.process(self.services[name], command)
        return subprocess.run(whole, env=environment, capture_output=True, check=False, timeout=60, **options)

    def listens(self, port: str) -> bool:
        """Whether something in the network accepts connections at a port."""
        sockets = "".join(Path(f"/proc/{self.network.pid}/net/{kind}").read_text() for kind in ("tcp", "tcp6"))
        return re.search(rf":{int(port):04X} \S+ 0A ", sockets) is not None

    def process(self, service: Service, command: Sequence[str]) -> tuple[list[str], dict[str, str], dict[str, Any]]:
        """What runs a command as a service does: the command, its environment, and options of its process."""
        inside = ["nsenter", f"--net=/proc/{self.network.pid}/ns/net"]
        programs = os.pathsep.join(
            [str(Path(sys.executable).parent), *POSTGRES, "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        )
        environment = {"PATH": programs, **{name: str(value) for name, value in service.get("environment", {}).items()}}
        user, group = map(str, user_of(service))
        if "user" not in service:
            as_user = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--"]
            environment["PGDATA"] = str(self.volume("postgres") / "data")
            return [*inside, *as_user, *(command or ["sh", "-c", _POSTGRES])], environment, {"cwd": "/"}
        ours = "build" in service
        if ours:
            environment = {**image_environment(), **environment, "PYTHONPATH": f"/srv/location:{ROOT}"}
        mounts = {self.directory / "hosts": "/etc/hosts", **({DEPLOY / "location": "/srv/location"} if ours else {})}
        for volume in service.get("volumes", []):
            source, target = volume.split(":")[:2]
            mounts[self.volume(source)] = target
        for secret in service.get("secrets", []):
            mounts[self.volume(f"./secrets/{secret}")] = f"/run/secrets/{secret}"
        environment["MOUNTS"] = " ".join(f"{source}:{target}" for source, target in mounts.items())
        kept = {Path(path).resolve() for path in (ROOT, sys.prefix, sys.base_prefix)}
        hidden = [path for path in kept if any(map(path.is_relative_to, service["tmpfs"]))]
        environment.update(TMPFS=" ".join(service["tmpfs"]), KEPT=" ".join(map(str, hidden)))
        mounted = ["unshare", "--mount", "sh", "-c", _MOUNTS, "sh", user, group, str(service["read_only"])]
        return [*inside, *mounted, *command], environment, {"cwd": "/"}


class Published(RealInstance):
    """The webserver, from inside the network of its services."""

    def query(self, text: str, **variables: Any) -> Any:
        body = json.dumps({"query": text, "variables": variables})
        url = f"{self.url}/graphql"
        command = ["nsenter", f"--net=/proc/{self.environment['network']}/ns/net", "curl", "-s", url]
        options = ["-H", "Content-Type: application/json", "--data-binary", "@-"]
        ran = subprocess.run([*command, *options], input=body.encode(), capture_output=True, check=True, timeout=60)
        answer = json.loads(ran.stdout)
        assert "errors" not in answer, answer
        (value,) = answer["data"].values()
        return value


@contextlib.contextmanager
def composed(directory: Path, profile: str = "sandbox") -> Iterator[Composition]:
    """Run a copy of deploy/compose, prepared by its script, in a directory that every user can enter."""
    if os.getuid():
        missing("no root: only root can mount, and make networks")
    for name in ("nginx", "nsenter", "unshare", "setpriv", "openssl", "curl"):
        program(name)
    shutil.copytree(DEPLOY / "compose", directory / "compose", ignore=shutil.ignore_patterns(".env", "secrets"))
    subprocess.run([program("sh"), "prepare.sh"], cwd=directory / "compose", check=True, timeout=20)
    variables = variables_of(directory / "compose" / ".env")
    text = interpolate((directory / "compose" / "compose.yaml").read_text(), variables)
    services = services_of(text, profile)
    (directory / "hosts").write_text(f"127.0.0.1 localhost {' '.join(sorted(hosts_of(services)))}\n")
    for service in services.values():
        for volume in service.get("volumes", []):
            if not volume.startswith("./"):
                path = directory / "volumes" / volume.partition(":")[0]
                path.mkdir(parents=True, exist_ok=True)
                os.chown(path, *user_of(service))
    network = subprocess.Popen(
        [program("unshare"), "--net", sys.executable, "-c", _NETWORK, str(directory / "network")],
        start_new_session=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until((directory / "network").exists, 10, what="a network")
        composition = Composition(directory, network, services)
        with composition.stack:
            for names in stages(services):
                composition.start(names)
            yield composition
    finally:
        end(network)
