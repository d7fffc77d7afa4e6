"""The sandbox as a context manager: a server in its own thread."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import web

from fdtcc_dagster.sandbox.blobs import Blobs
from fdtcc_dagster.sandbox.fault_hooks import Fault, HandshakeFault
from fdtcc_dagster.sandbox.server import Server
from fdtcc_dagster.sandbox.service import Service
from fdtcc_dagster.sandbox.store import Data, Store, dataset_rid


class SandboxContainer:
    r"""A Foundry DevTools Container on this machine: a real server that speaks its protocol, without Foundry.

    It serves HTTP and WebSockets from its own thread between `with` and the end of the block, or between `start()`
    and `stop()`. Everything here may be called from any thread, and while it is serving.

    Args:
        root: A directory with a folder per dataset: `<dataset>/<pulled-at>.csv` is a version, named by
            `version_file_name`, and `<dataset>/live.csv` what Foundry holds today, by default the newest version. A
            file `<dataset>.csv` beside the folders is the same as that live.csv. The directory is only read, and listed
            once. None: no datasets but those that are added.
        port: The TCP port; 0 takes a free one.
        host: The address to listen on.
        clock: Gives the current instant as an aware datetime; by default the machine's. Versions that are recorded
            by live pulls are dated by it.
        keepalive_interval: Seconds between keepalives.
        batch_size: Rows beyond which a dataset with a column `id` is pulled in batches.
        pull_seconds: Seconds that a live pull takes beyond what it needs.

    Raises:
        FileNotFoundError: `root` does not exist.
        NotADirectoryError: `root` is not a directory.
        ValueError: A CSV in it is neither `live.csv` nor named after an instant.

    Example:
        ```python
        with SandboxContainer() as container:
            container.set_live("orders", "id,amount\n1,9.5\n")
            snapshot = await FDTCC(container.host, container.port).pull("orders", ...)
        ```
    """

    def __init__(
        self,
        root: str | Path | None = None,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        clock: Callable[[], datetime] | None = None,
        keepalive_interval: float = 50.0,
        batch_size: int = 1_000_000,
        pull_seconds: float = 0.0,
    ) -> None:
        self._host = host
        self._port = port
        self._blobs = Blobs(Path(tempfile.mkdtemp(prefix="fdtcc-sandbox-")))
        # Also for a container that is never entered, or that raises below.
        self._remove = weakref.finalize(self, self._blobs.remove)
        self._store = Store(None if root is None else Path(root), self._blobs, clock or _now)
        self._service = Service(
            self._store,
            self._blobs,
            keepalive_interval=keepalive_interval,
            batch_size=batch_size,
            pull_seconds=pull_seconds,
        )
        self._thread: threading.Thread | None = None
        self._stop: Callable[[], object] | None = None

    @property
    def host(self) -> str:
        """The address that it listens on."""
        return self._host

    @property
    def port(self) -> int:
        """The port that it listens on; 0 before the first start if none was given."""
        return self._port

    @property
    def url(self) -> str:
        """The base of its HTTP addresses, without a slash at the end."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def start(self) -> None:
        """Serve; after `stop()` again, on the same port and with the same data.

        Raises:
            OSError: The port is taken, or the address is not of this machine.
            RuntimeError: It is serving already, or its `with` block has ended.
        """
        if self._thread is not None:
            raise RuntimeError(f"the sandbox is already serving at {self.url}")
        if not self._remove.alive:
            raise RuntimeError("the sandbox's data is gone since its `with` block has ended; make a new one")
        listener = _listen(self._host, self._port)
        self._port = listener.getsockname()[1]
        self._service.stopping.clear()
        ready: Future[Callable[[], object]] = Future()
        thread = threading.Thread(target=self._run, args=(listener, ready), name="fdtcc-sandbox", daemon=True)
        thread.start()
        self._stop = ready.result()
        self._thread = thread

    def stop(self) -> None:
        """Stop serving: all connections are reset, as when the service is killed. Data and faults are kept."""
        if self._thread is None or self._stop is None:
            return
        self._service.stopping.set()
        self._stop()
        self._thread.join()
        self._thread = self._stop = None

    def __enter__(self) -> SandboxContainer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._remove()

    def add_version(self, name: str, pulled_at: datetime, data: Data) -> str:
        """Add a version of a dataset, and the dataset if it is new.

        Args:
            name: The dataset's name.
            pulled_at: The instant of its pull, an aware datetime.
            data: The CSV as bytes or text, the path of a file (copied now), or a Polars frame (`to_pandas_csv`).

        Returns:
            The version's pointer: the SHA-256 of its bytes in hex.

        Raises:
            ValueError: `pulled_at` has no time zone.
        """
        return self._store.add_version(name, pulled_at, data)

    def set_live(self, name: str, data: Data) -> str:
        """Set what Foundry holds today, which a live pull delivers; add the dataset if it is new.

        Args:
            name: The dataset's name.
            data: As for `add_version`. A header without rows is an empty dataset.

        Returns:
            The pointer that a live pull of it will have.
        """
        return self._store.set_live(name, data)

    def versions(self, name: str) -> list[tuple[datetime, str]]:
        """Return a dataset's versions, oldest first: the instant of the pull in UTC, and the pointer."""
        return [(version.pulled_at, self._store.pointer(version)) for version in self._store.versions(name)]

    def names(self) -> list[str]:
        """Return the names of all datasets, sorted."""
        return self._store.names()

    @property
    def ignored(self) -> list[Path]:
        """What is in `root` and means nothing, but for what is hidden by a dot."""
        return list(self._service.store.ignored)

    def rid(self, name: str) -> str:
        """Return the RID that stands for a dataset in some messages; the same for the same name always."""
        return dataset_rid(name)

    def inject(self, name: str | None, fault: Fault, times: int | None = 1, *, skip: int = 0) -> None:
        """Let something go wrong.

        Args:
            name: The dataset in whose conversations or downloads it happens; None for whichever comes next. Faults of
                the handshake come before any name, so theirs must be None.
            fault: One of `fdtcc_dagster.sandbox.faults`.
            times: How often it happens; None for always.
            skip: How many conversations (or downloads, or handshakes) it leaves alone first.

        Raises:
            ValueError: The dataset is unknown, a handshake's fault has a name, or a number makes no sense.
        """
        if isinstance(fault, HandshakeFault) and name is not None:
            raise ValueError(f"{fault} happens in a handshake, which names no dataset: inject it with the name None")
        if name is not None and name not in self.names():
            raise ValueError(f"the sandbox has no dataset '{name}'; add it first, by add_version or set_live")
        if (times is not None and times < 1) or skip < 0:
            raise ValueError(f"times={times} must be at least 1, or None for always, and skip={skip} not negative")
        self._service.faults.inject(name, fault, times, skip)

    def clear_faults(self) -> None:
        """Forget all faults that have not happened yet."""
        self._service.faults.clear()

    @property
    def requests(self) -> list[Any]:
        """The requests received, oldest first, as parsed JSON; malformed ones are left out."""
        return self._service.seen.requests()

    @property
    def open_sockets(self) -> int:
        """The number of WebSockets that are open now."""
        return self._service.seen.sockets()

    @property
    def downloads(self) -> dict[str, int]:
        """The number of downloads, CSV and ZIP, that were answered by a body, by pointer."""
        return self._service.seen.downloads()

    @property
    def max_conversations(self) -> dict[str, int]:
        """The highest number of simultaneous conversations by dataset; one ends with its terminal frame."""
        return self._service.seen.most_conversations()

    def _run(self, listener: socket.socket, ready: Future[Callable[[], object]]) -> None:
        try:
            asyncio.run(self._serve(listener, ready))
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)
        finally:
            listener.close()

    async def _serve(self, listener: socket.socket, ready: Future[Callable[[], object]]) -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()
        runner = web.AppRunner(
            Server(self._service).application(), access_log=None, handler_cancellation=True, shutdown_timeout=1.0
        )
        await runner.setup()
        try:
            await web.SockSite(runner, listener).start()
            ready.set_result(lambda: loop.call_soon_threadsafe(stopped.set))
            await stopped.wait()
        finally:
            await runner.cleanup()


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OverflowError as error:
        raise ValueError(f"port={port} must be an integer from 0 to 65535") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            error.errno, f"the sandbox cannot listen on {host}:{port}: {reason}; give another port, or 0 for a free one"
        ) from error
