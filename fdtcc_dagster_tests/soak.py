"""Mixed pulls with random faults for a long time: `python -m fdtcc_dagster_tests.soak --minutes 30`.

The container runs in a process of its own, is restarted now and then, and lets something go wrong in many requests.
In this process, threads pull datasets of all kinds by both transports, parse them with and without a schema, and store
them. Every few seconds all of them pause, and what the process holds is measured. The exit code is 1 if an outcome is
neither a partition with the right rows nor a typed error that its request may have, if there were too few of any kind
to show anything, or if memory, threads, sockets or files have grown.
"""

from __future__ import annotations

import argparse
import collections
import logging
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import polars as pl

from fdtcc_dagster import FdtccError, FoundryContainerResource, FoundryParquetIOManager
from fdtcc_dagster.client.directories import lock_directory
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster.window import Window

PULLED_AT = datetime(2026, 1, 5, 12, tzinfo=timezone.utc)
PAST = Window(PULLED_AT - timedelta(hours=1), PULLED_AT + timedelta(hours=1))
EMPTY = Window(PAST.from_dt - timedelta(days=9), PAST.to_dt - timedelta(days=9))
SCHEMA = pl.Schema({"id": pl.Int64(), "amount": pl.Float64(), "day": pl.Date(), "note": pl.String()})
ROWS = {f"dataset{number}": rows for number, rows in enumerate((1, 500, 20_000, 60_000))}
THREADS = 4
POLARS_THREADS = 2 * THREADS
"""How many threads Polars, which starts them on demand and keeps them, may add late."""
FAULTS: list[faults.Fault] = [
    faults.RefusedHandshake(500), faults.SlowHandshake(0.3), faults.JobFailure(), faults.ConnectionReset(0),
    faults.ConnectionReset(2), faults.ServiceRestart(), faults.BlockedLoop(0.2), faults.Silence(1),
    faults.Silence(2, True), faults.FrameDelay(0.1), faults.NOT_JSON, faults.NOT_AN_OBJECT, faults.WITHOUT_TYPE,
    faults.BINARY, faults.UNKNOWN_TYPE, faults.HugeFrame(), faults.AnnouncedRows(7), faults.WrongPointer(),
    faults.PointerAsList(), faults.RefusedDownload(), faults.RefusedDownload(500), faults.TruncatedBody(0.0),
    faults.TruncatedBody(0.5), faults.TruncatedBody(0.99, True), faults.FlippedBit(), faults.FlippedBit(0),
    faults.ThrottledBody(2_000_000),
]  # fmt: skip

DUE = {
    "cached": "partition", "live": "partition", "missed": "NoVersionInWindowError", "unknown": "DatasetNotFoundError",
}  # fmt: skip
"""What a request of each kind ends with when nothing goes wrong."""
FAILURES = {
    "ServiceUnavailableError", "ServiceConnectionLostError", "IdleTimeoutError", "DatasetRetrievalError",
    "ProtocolError",
}  # fmt: skip
"""What faults make of any request."""
MAY_BE = {kind: FAILURES | {due} for kind, due in DUE.items()}
# If a job fails although a version is cached, it looks as if it had none to deliver.
MAY_BE["cached"] |= {"ChecksumMismatchError", "NoVersionInWindowError"}
# Of a live pull that announced other rows, the version with the same bytes is refused from then on.
MAY_BE["cached"] |= {"RowCountMismatchError"}
MAY_BE["live"] |= {"ChecksumMismatchError", "RowCountMismatchError"}


def frame(name: str) -> pl.DataFrame:
    """The rows of a dataset."""
    ids = pl.int_range(1, ROWS[name] + 1, eager=True)
    return pl.DataFrame(
        {
            "id": ids,
            "amount": ids / 8 + 0.5,
            "day": pl.repeat(PULLED_AT.date(), len(ids), eager=True),
            "note": name + ', "' + ids.cast(pl.String) + '"',
        }
    )


def serve(seed: int) -> None:
    """Be the container, until this process is killed."""
    chance = random.Random(seed)  # noqa: S311 (no secret is made of it)
    with SandboxContainer() as container:
        for name in ROWS:
            container.add_version(name, PULLED_AT, frame(name))
            container.set_live(name, frame(name))
        print(container.port, flush=True)  # noqa: T201
        while True:
            time.sleep(0.1)
            container.clear_faults()
            for fault in chance.sample(FAULTS, 2):
                handshake = isinstance(fault, faults.HandshakeFault)
                container.inject(None if handshake else chance.choice(list(ROWS)), fault)
            if chance.random() < 0.005:
                container.stop()
                container.start()


@contextmanager
def another_process_serves(seed: int) -> Iterator[int]:
    """The container in a process of its own; gives its port."""
    command = [sys.executable, "-m", __spec__.name if __spec__ else __name__, "--serve", "--seed", str(seed)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


@dataclass(frozen=True)
class Held:
    """What this process holds while nothing is being pulled."""

    megabytes: float
    threads: int  # Python's own: not those of Polars that have called Python
    native_threads: int  # all that this process has
    sockets: int
    files: int
    leftovers: int


class Soak:
    """Pulls of all kinds, in `THREADS` threads.

    Args:
        port: The container's port.
        directory: An empty directory.
        store: Stores partitions in `parquet` below it.
        seed: What the choices depend on.
    """

    def __init__(self, port: int, directory: Path, store: FoundryParquetIOManager, seed: int) -> None:
        self.outcomes = collections.Counter[tuple[str, str]]()
        self.wrong: list[str] = []
        self._directory, self._seed = directory, seed
        self._expected = {name: frame(name) for name in ROWS}
        (directory / "spool").mkdir()
        self._container = {
            transport: FoundryContainerResource(
                host="127.0.0.1", port=port, spool_directory=str(directory / "spool"), transport=transport,
                idle_timeout=1.0, open_timeout=2.0, job_timeout=5.0, attempts=2,
            )
            for transport in ("csv", "zip")
        }  # fmt: skip
        self._store = store

    def pull(self, seconds: float) -> None:
        """Pull for so many seconds, and wait until all threads have ended."""
        until = time.monotonic() + seconds
        self._seed += THREADS
        threads = [threading.Thread(target=self._work, args=(self._seed + n, until)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self, seed: int, until: float) -> None:
        chance = random.Random(seed)  # noqa: S311
        while time.monotonic() < until:
            name, kind = chance.choice(list(ROWS)), chance.choice(["cached", *DUE])
            try:
                self._one(chance, kind, name)
                what = "partition"
            except BaseException as error:  # noqa: BLE001 (it is what is looked for)
                what = type(error).__name__
                if not (isinstance(error, FdtccError) and what in MAY_BE[kind]):
                    self.wrong.append(f"{name}, {kind}: {error!r}")
            self.outcomes[kind, what] += 1

    def _one(self, chance: random.Random, kind: str, name: str) -> None:
        now = datetime.now(timezone.utc)
        live = Window(now, now + timedelta(hours=1))
        window = {"live": live, "missed": EMPTY}.get(kind, PAST)
        container = self._container[chance.choice(["csv", "zip"])]
        with container.spool() as spool:
            asked = "nobody" if kind == "unknown" else name
            snapshot = container.pull(asked, window, directory=spool)
            rows = snapshot.scan(chance.choice([SCHEMA, None]))
            # A name of its own for each thread: what it reads back must be what it has stored.
            key = dg.AssetKey([name, threading.current_thread().name])
            self._store.store_partition(key, "2026-01-05", rows)
        stored = pl.read_parquet(self._directory / "parquet" / Path(*key.path) / "2026-01-05.parquet")
        if kind in ("missed", "unknown") or not stored.equals(self._expected[name]):
            self.wrong.append(f"{name}, {kind}: {stored.height} rows from {snapshot}")

    def too_few(self, minutes: float) -> list[str]:
        """Name the kinds of which there were too few in so many minutes to show anything, even on a slow machine."""
        failed = {what: count for (kind, what), count in self.outcomes.items() if what != DUE[kind]}
        counts = {f"{kind} {due}": (self.outcomes[kind, due], 10 * minutes) for kind, due in DUE.items()}
        counts["failures"] = sum(failed.values()), 5 * minutes
        counts["kinds of failures"] = len(failed), 3 * min(minutes, 1.0)
        return [f"only {seen} {what} in {minutes} minutes" for what, (seen, least) in counts.items() if seen < least]

    def held(self) -> Held:
        """Measure, while no pull is under way."""
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        files = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        leftovers = [
            *(self._directory / "spool").iterdir(),
            *(self._directory / "parquet").rglob("*.part"),
            *(path for path in lock_directory().iterdir() if path.suffix != ".lock"),
        ]
        return Held(
            megabytes=int(status["VmRSS"].split()[0]) / 1024,
            threads=sum(not isinstance(one, threading._DummyThread) for one in threading.enumerate()),
            native_threads=int(status["Threads"]),
            sockets=sum(target.startswith("socket:") for target in files),
            files=len(files),
            leftovers=len(leftovers),
        )


def slope(values: list[float]) -> float:
    """The least-squares growth per step."""
    steps, mean = range(len(values)), sum(values) / len(values)
    middle = (len(values) - 1) / 2
    return sum((n - middle) * (value - mean) for n, value in zip(steps, values, strict=True)) / max(
        sum((n - middle) ** 2 for n in steps), 1
    )


def soak(minutes: float, seed: int) -> list[str]:
    """Soak for so many minutes, print what is measured, and give what is wrong."""
    logging.getLogger("fdtcc_dagster").setLevel(logging.ERROR)  # failed attempts are expected here
    print(f"seed {seed}", flush=True)  # noqa: T201
    with (
        tempfile.TemporaryDirectory() as directory,
        dg.build_resources({"store": FoundryParquetIOManager(base_dir=f"{directory}/parquet")}) as resources,
        another_process_serves(seed) as port,
    ):
        tempfile.tempdir = directory
        run, ends = Soak(port, Path(directory), resources.store, seed), time.monotonic() + minutes * 60
        measured: list[Held] = []
        while time.monotonic() < ends:
            run.pull(min(10.0, minutes * 60 / 10))
            measured.append(run.held())
            print(f"{sum(run.outcomes.values()):8,} pulls  {measured[-1]}", flush=True)  # noqa: T201
        tempfile.tempdir = None
    for (kind, what), count in run.outcomes.most_common():
        print(f"{count:8,} {kind} {what}")  # noqa: T201
    wrong = [*run.too_few(minutes), *run.wrong]
    # The first third warms up: imports, thread pools and the allocator's arenas.
    warm = measured[len(measured) // 3 :]
    first, last = warm[0], warm[-1]
    growth = slope([held.megabytes for held in warm]) * (len(warm) - 1)
    print(f"memory: {growth:+.1f} MB since {first.megabytes:.0f} MB, in {len(warm)} measurements")  # noqa: T201
    # In a few minutes the allocator has not seen all sizes of what is pulled at once.
    if growth > (50 if minutes >= 5 else 150):
        wrong.append(f"memory has grown by {growth:.1f} MB")
    for name in ("threads", "sockets", "files", "leftovers"):
        if getattr(last, name) > getattr(first, name) or (name == "leftovers" and last.leftovers):
            wrong.append(f"{name} have grown from {getattr(first, name)} to {getattr(last, name)}")
    if last.native_threads > first.native_threads + POLARS_THREADS:
        wrong.append(f"native threads have grown from {first.native_threads} to {last.native_threads}")
    return wrong


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))  # noqa: S311
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.seed)
        return
    wrong = soak(arguments.minutes, arguments.seed)
    sys.exit("\n".join(wrong[:20]) if wrong else 0)


if __name__ == "__main__":
    main()
