"""What ours is compared with."""

from __future__ import annotations

import asyncio
import hashlib
import io
import subprocess
from pathlib import Path
from typing import Any

import aiohttp
import polars as pl

from benchmarks.data import DATETIME_FORMAT, SCHEMA
from benchmarks.job import Work


def curl(url: str, target: str) -> Work:
    """Download a file by curl: the container's own limit."""

    def work() -> dict[str, Any]:
        subprocess.run(["curl", "--silent", "--fail", "--output", target, url], check=True)  # noqa: S603, S607
        return {"path": target}

    return work


def sha256(path: str) -> Work:
    """Hash a file."""

    def work() -> dict[str, Any]:
        with Path(path).open("rb", buffering=0) as file:
            digest, buffer = hashlib.sha256(), bytearray(1 << 20)
            while size := file.readinto(buffer):
                digest.update(memoryview(buffer)[:size])
        return {"sha256": digest.hexdigest()}

    return work


def polars_sink(path: str, target: str) -> Work:
    """Let Polars turn a CSV on disk into Parquet by itself, in its streaming engine.

    Written as somebody would who knows Polars well: `scan_csv` takes three times as long when it parses datetimes itself.
    pandas' integers beside nulls (`4.0`) stay floats, which is all that Polars can read them as.
    """
    types = {"Int64": pl.Int64, "Float64": pl.Float64, "Boolean": pl.Boolean}
    schema = pl.Schema({column: types.get(name, pl.String) for column, name in SCHEMA.items()})
    schema["rating"] = pl.Float64()
    datetimes = [pl.col(column).str.to_datetime(DATETIME_FORMAT) for column in ("created_at", "updated_at")]

    def work() -> dict[str, Any]:
        pl.scan_csv(path, schema=schema).with_columns(datetimes).sink_parquet(target, compression="zstd")
        return {"path": target}

    return work


def reference(host: str, port: int, dataset: str, from_dt: str, to_dt: str, target: str) -> Work:
    """Do it as the reference client does: the whole body in memory, then the whole frame, then Parquet."""
    base = f"http://{host}:{port}/fdtc-api/dataset"

    async def download() -> bytes:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
            async with session.ws_connect(f"{base}/get") as socket:
                await socket.send_json({"names": [dataset], "from_dt": from_dt, "to_dt": to_dt})
                while (frame := await socket.receive_json())["type"] != "final":
                    pass
            async with session.get(f"{base}/download/csv/{frame['datasets']}") as response:
                return await response.read()

    def work() -> dict[str, Any]:
        body = asyncio.run(download())
        pl.read_csv(io.BytesIO(body)).write_parquet(target)
        return {"path": target}

    return work
