"""A place to measure in: data, a container that serves them, and jobs that are run in turns."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from websockets.sync.client import connect

from benchmarks.data import VERSION_DAY, make_csv, rows_of
from benchmarks.processes import BUCKET, HOST, Server, run_job, serving


@dataclass(frozen=True)
class Job:
    """A job and what it must come to.

    Attributes:
        name: The job, see `benchmarks.job`.
        rows: How many rows it must have stored, or None if it stores none.
        arguments: Its arguments, besides the directory that it may write to.
    """

    name: str
    rows: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """What a job came to, round by round.

    Attributes:
        seconds: How long it took.
        cpu: The user and system seconds of its process and of the container, in which the time of a link is not.
        peak_mb: The most memory that its process had at once, in MB.
        results: All that it told, see `benchmarks.job`; and the bytes of the Parquet files that it stored.
    """

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)

    def per(self, *baselines: Measured, of: Callable[[list[float]], float] = sum) -> list[float]:
        """Its seconds as a multiple of those of baselines one after the other, or of the longest, in each round."""
        return [own / of(others) for own, *others in zip(self.seconds, *(b.seconds for b in baselines), strict=True)]

    def cpu_per(self, *baselines: Measured) -> list[float]:
        """Its seconds of the processor as a multiple of those of baselines together, in each round."""
        return [own / sum(others) for own, *others in zip(self.cpu, *(b.cpu for b in baselines), strict=True)]


class Container:
    """A running container.

    Args:
        port: Its port.
    """

    def __init__(self, port: int) -> None:
        self.port = port

    def pointer(self, dataset: str, day: str = VERSION_DAY) -> str:
        """Ask for the version of a day. Afterwards the sandbox knows its hash and answers at once."""
        request = {"names": [dataset], "from_dt": f"{day}T00:00:00+00:00", "to_dt": f"{day}T23:59:59+00:00"}
        with connect(f"ws://{HOST}:{self.port}/fdtc-api/dataset/get", proxy=None) as socket:
            socket.send(json.dumps(request))
            while (frame := json.loads(socket.recv()))["type"] != "final":
                pass
        return str(frame["datasets"])

    def url(self, dataset: str, *, transport: str = "csv", port: int | None = None) -> str:
        """Where a snapshot is downloaded."""
        return f"http://{HOST}:{port or self.port}/fdtc-api/dataset/download/{transport}/{self.pointer(dataset)}"

    def prepare_zip(self, dataset: str) -> None:
        """Let the sandbox make a snapshot's ZIP, which the real container has at once."""
        url = self.url(dataset, transport="zip")
        subprocess.run(["curl", "--silent", "--fail", "--output", os.devnull, url], check=True)  # noqa: S607


class Bench:
    """A directory for data and results.

    Args:
        directory: The directory.
        size: Bytes of the snapshot that most jobs work with.
        rounds: How often the jobs are run.
    """

    def __init__(self, directory: Path, size: int, rounds: int) -> None:
        self.size, self.rounds = size, rounds
        self._root, self._work, self._scratch = (directory / name for name in ("root", "work", "scratch"))
        self._container: Server | None = None
        self._s3: Server | None = None

    def snapshot(self, dataset: str, size: int | None = None, days: Sequence[str] = (VERSION_DAY,)) -> Path:
        """Make a dataset with a version for each of some days.

        Args:
            dataset: The dataset.
            size: Bytes of each version; None: `self.size`.
            days: When they were pulled.

        Returns:
            The last version's file.
        """
        size = size or self.size
        for number, day in enumerate(days):
            path = make_csv(self._path(dataset, day), size, first_id=number * rows_of(size))
        return path

    def repeat(self, dataset: str, of: Path, times: int) -> Path:
        """Make a dataset of one version with the rows of another several times, which is quicker than making them."""
        path = self._path(dataset, VERSION_DAY)
        path.parent.mkdir(parents=True)
        with of.open("rb") as source, path.open("wb") as target:
            target.write(source.readline())
            rows = source.tell()
            for _ in range(times):
                source.seek(rows)
                shutil.copyfileobj(source, target, 1 << 20)
        return path

    def copy(self, dataset: str, of: Path) -> None:
        """Make a dataset of one version with the data of another."""
        path = self._path(dataset, VERSION_DAY)
        path.parent.mkdir(parents=True)
        os.link(of, path)

    @contextmanager
    def container(self, *datasets: str) -> Iterator[Container]:
        """Serve all datasets that have been made; those that are named here are removed afterwards."""
        self._scratch.mkdir(parents=True)
        try:
            with serving("fdtcc_dagster.sandbox", str(self._root), "--port", "0", scratch=self._scratch) as server:
                self._container, container = server, Container(server.port)
                for folder in self._root.iterdir():
                    for path in folder.iterdir():
                        container.pointer(folder.name, path.name.partition("T")[0])
                yield container
        finally:
            self._container = None
            shutil.rmtree(self._scratch)
            for dataset in datasets:
                shutil.rmtree(self._root / dataset)

    @contextmanager
    def link(self, container: Container, megabytes_per_second: float) -> Iterator[int]:
        """Serve a container over a link of limited speed; yields its port."""
        arguments = str(container.port), str(megabytes_per_second)
        with serving("benchmarks.throttle", *arguments, scratch=self._scratch) as server:
            yield server.port

    @contextmanager
    def s3(self) -> Iterator[int]:
        """Serve a bucket of S3's API while a container is served; yields its port.

        What its process uses of the processor is in no job's figures, but in each result, as `s3_cpu`.
        """
        with serving("benchmarks.s3", scratch=self._scratch) as self._s3:
            self._s3_client(self._s3).create_bucket(Bucket=BUCKET)
            yield self._s3.port
        self._s3 = None

    def measure(self, jobs: Mapping[str, Job], rounds: int | None = None) -> dict[str, Measured]:
        """Run jobs in turns, each in a process of its own with an empty directory.

        Args:
            jobs: The jobs by name.
            rounds: How often; None: `self.rounds`.

        Returns:
            What they came to, by name.

        Raises:
            RuntimeError: A job failed, or did not store what it must.
        """
        measured = {name: Measured() for name in jobs}
        for _ in range(rounds or self.rounds):
            for name, job in jobs.items():
                self._work.mkdir(parents=True)
                try:
                    served, s3 = _cpu_seconds(self._container), _cpu_seconds(self._s3)
                    result = run_job(job.name, directory=str(self._work), **job.arguments)
                    served, result["s3_cpu"] = _cpu_seconds(self._container) - served, _cpu_seconds(self._s3) - s3
                    paths = [self._file_of(path) for path in result.get("paths", ())]
                    rows = sum(pl.scan_parquet(path).select(pl.len()).collect().item() for path in paths)
                    if rows != (job.rows or 0):
                        raise RuntimeError(f"{name} stored {rows} rows instead of {job.rows}")
                    result["stored"] = sum(path.stat().st_size for path in paths)
                finally:
                    shutil.rmtree(self._work)
                measured[name].seconds.append(result["seconds"])
                measured[name].cpu.append(result["cpu"] + served)
                measured[name].peak_mb.append(result["peak_mb"])
                measured[name].results.append(result)
        return measured

    def _file_of(self, place: str) -> Path:
        """A file that a job has stored; it is taken out of the bucket, or the next job would find it unchanged."""
        key = place.removeprefix(f"s3://{BUCKET}/")
        if self._s3 is None or key == place:
            return Path(place)
        path = self._work / "downloaded.parquet"
        client = self._s3_client(self._s3)
        client.download_file(BUCKET, key, str(path))
        client.delete_object(Bucket=BUCKET, Key=key)
        return path

    @staticmethod
    def _s3_client(s3: Server) -> Any:
        import boto3  # type: ignore[import-untyped]

        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
        return boto3.client("s3", endpoint_url=f"http://{HOST}:{s3.port}", region_name="us-east-1", **keys)

    def _path(self, dataset: str, day: str) -> Path:
        return self._root / dataset / f"{day}T04-00-00Z.csv"


def _cpu_seconds(server: Server | None) -> float:
    return 0.0 if server is None else server.cpu_seconds()
