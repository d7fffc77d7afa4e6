"""Where the fault matrix takes place: one dataset in a container, seen through a proxy."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import polars as pl

from fdtcc_dagster.client.download import Transport
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.tcp_proxy import Kind, NetworkFault, TcpProxy

NAME = "orders"
SCHEMA = {"id": "Int64", "token": "String"}
ROWS = 20_000
ATTEMPTS = 3


def rows(count: int = ROWS) -> list[str]:
    """Rows that a ZIP cannot make much smaller, as strings without line ends."""
    return [
        f"{number},{hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()}" for number in range(count)
    ]


def csv_of(lines: list[str]) -> str:
    return "\n".join(["id,token", *lines, ""])


def zipped_size() -> int:
    """The size of the container's ZIP of `CSV`, in bytes."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as writer:
        writer.writestr(f"{SHA256}.csv", CSV)
    return len(archive.getvalue())


CSV = csv_of(rows())
SHA256 = hashlib.sha256(CSV.encode()).hexdigest()
FRAME = pl.read_csv(CSV.encode(), schema=pl.Schema({"id": pl.Int64, "token": pl.String}))
FRAMES = 7
"""Acknowledgement, "No available versions", four updates and the final one: docs/protocol.md#a-first-pull."""


@dataclass
class Scene:
    """A container, a proxy in front of it, and the pull that gets a fault.

    Attributes:
        container: The container.
        proxy: The proxy.
        skip: How many pulls of the dataset come before that one.
    """

    container: SandboxContainer
    proxy: TcpProxy
    skip: int = 0

    def inject(self, fault: faults.Fault, times: int | None = None) -> None:
        """Inject a fault into the container."""
        name = None if isinstance(fault, faults.HandshakeFault) else NAME
        self.container.inject(name, fault, times, skip=self.skip)

    def inject_network(self, kind: Kind, fault: NetworkFault, times: int | None = None) -> None:
        """Inject a fault into the network."""
        self.proxy.inject(kind, fault, times, skip=self.skip)

    def attempts(self) -> tuple[int, int]:
        """How many conversations and downloads the pull has tried."""
        seen = self.proxy.seen
        return seen.get("conversation", 0) - self.skip, seen.get("download", 0) - self.skip


@contextmanager
def scene() -> Iterator[Scene]:
    """Give a container that holds the dataset today and was never asked for it, and a proxy in front of it."""
    with SandboxContainer(keepalive_interval=0.1) as container, TcpProxy(container.host, container.port) as proxy:
        container.set_live(NAME, CSV)
        yield Scene(container, proxy)


Arrange = Callable[[Scene], None]


@dataclass(frozen=True)
class Case:
    """One thing that goes wrong.

    Attributes:
        name: What goes wrong.
        arrange: Makes it go wrong.
        error: What the pull ends with; None: it succeeds all the same.
        conversations: How many are tried.
        downloads: How many are tried.
        limits: Arguments of the client.
        transport: How the snapshot travels.
        waits: How many waits there are between attempts; None: one before each but the first.
        others: Whether other partitions of the same run are stored.
    """

    name: str
    arrange: Arrange
    error: type[Exception] | None
    conversations: int = 1
    downloads: int = 0
    limits: Mapping[str, float] = field(default_factory=dict)
    transport: Transport = "csv"
    waits: int | None = None
    others: bool = True

    @property
    def expected_waits(self) -> int:
        """How many waits there are between attempts."""
        return self.conversations - 1 + max(self.downloads - 1, 0) if self.waits is None else self.waits
