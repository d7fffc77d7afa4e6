"""What ours is compared with."""

from __future__ import annotations

import asyncio
import hashlib
import io
from pathlib import Path
from typing import Any

import aiohttp
import polars as pl

from benchmarks.data import DATETIME_FORMAT, SCHEMA, VERSION_DAY
from benchmarks.job import Work
from benchmarks.processes import HOST
from fdtcc_dagster.pandas_csv.schema import to_schema


def sha256(directory: str, path: str) -> Work:
    """Hash a file."""

    def work() -> dict[str, Any]:
        with Path(path).open("rb", buffering=0) as file:
            digest, buffer = hashlib.sha256(), bytearray(1 << 20)
            while size := file.readinto(buffer):
                digest.update(memoryview(buffer)[:size])
        return {"sha256": digest.hexdigest()}

    return work


def polars_sink(directory: str, path: str) -> Work:
    """Let Polars turn a CSV on disk into Parquet by itself, in its streaming engine.

    Written as by somebody who knows Polars well: `scan_csv` takes thrice as long when it parses datetimes itself.
    pandas' integers beside nulls (`4.0`) are read as floats, which is all that Polars can read them as, and cast.
    """
    types = {"Int64": pl.Int64, "Float64": pl.Float64, "Boolean": pl.Boolean}
    schema = pl.Schema({column: types.get(name, pl.String) for column, name in SCHEMA.items()})
    schema["rating"] = pl.Float64()
    target = f"{directory}/sink.parquet"
    typed = [pl.col(column).str.to_datetime(DATETIME_FORMAT) for column in ("created_at", "updated_at")]
    typed.append(pl.col("rating").cast(pl.Int64))

    def work() -> dict[str, Any]:
        pl.scan_csv(path, schema=schema).with_columns(typed).sink_parquet(target, compression="zstd")
        return {"paths": [target]}

    return work


def polars_native(directory: str, path: str) -> Work:
    """Let Polars read the declared types itself, datetimes too, which is shorter to write and takes longer."""
    schema = {**to_schema(SCHEMA), "rating": pl.Float64()}
    target = f"{directory}/native.parquet"

    def work() -> dict[str, Any]:
        pl.scan_csv(path, schema=schema).sink_parquet(target, compression="zstd")
        return {"paths": [target]}

    return work


def reference(directory: str, port: int, dataset: str = "big") -> Work:
    """Do it as the reference client does: the whole body in memory, then the whole frame, then Parquet."""
    base = f"http://{HOST}:{port}/fdtc-api/dataset"
    window = {"from_dt": f"{VERSION_DAY}T00:00:00+00:00", "to_dt": f"{VERSION_DAY}T23:59:59+00:00"}
    target = f"{directory}/reference.parquet"

    async def download() -> bytes:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session:
            async with session.ws_connect(f"{base}/get") as socket:
                await socket.send_json({"names": [dataset], **window})
                while (frame := await socket.receive_json())["type"] != "final":
                    pass
            async with session.get(f"{base}/download/csv/{frame['datasets']}") as response:
                return await response.read()

    def work() -> dict[str, Any]:
        body = asyncio.run(download())
        pl.read_csv(io.BytesIO(body)).write_parquet(target)
        return {"paths": [target]}

    return work
