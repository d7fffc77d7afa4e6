"""What a run log says about a pull, as its page shows it: real runs, through a proxy that knows a download's size."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
import dagster as dg
import pytest
from aiohttp import web

from fdtcc_dagster import (
    FoundryContainerResource,
    FoundryDataset,
    FoundryParquetIOManager,
    Schedule,
    build_foundry_assets,
)
from fdtcc_dagster.client.endpoint import identity_of
from fdtcc_dagster.client.locks import exclusive
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.midday import TODAY, ZONE, midnight

DAILY = Schedule([{"cycle": "daily", "time": "00:00:00"}], timedelta(0), ZONE)
DATASET = FoundryDataset("orders", DAILY, TODAY - timedelta(days=9), {"id": "Int64"})
DAYS = [(TODAY - timedelta(days=back)).isoformat() for back in (3, 2)]
BODY = "id\n" + "1234567\n" * 250_000  # two megabytes


def in_megabytes(size: str) -> float:
    number, unit = size.split()
    return float(number) / {"KB": 1000, "MB": 1}[unit]


@contextmanager
def sized(container: SandboxContainer, seconds: float) -> Iterator[int]:
    """A proxy that knows how long a download is, as one with a cache does, and takes some seconds for it.

    Yields:
        Its port.
    """

    async def converse(request: web.Request) -> web.WebSocketResponse:
        ours = web.WebSocketResponse()
        await ours.prepare(request)
        async with aiohttp.ClientSession() as session, session.ws_connect(f"{container.url}{request.path}") as theirs:
            await theirs.send_str(await ours.receive_str())
            async for frame in theirs:
                await ours.send_str(frame.data)
                if '"final"' in frame.data:
                    break
            await ours.receive()
        return ours

    async def download(request: web.Request) -> web.StreamResponse:
        async with aiohttp.ClientSession() as session, session.get(f"{container.url}{request.path}") as answer:
            body = await answer.read()
        response = web.StreamResponse(headers={"Content-Length": str(len(body))})
        await response.prepare(request)
        for begin in range(0, len(body), len(body) // 20):
            await response.write(body[begin : begin + len(body) // 20])
            await asyncio.sleep(seconds / 20)
        return response

    async def serve() -> None:
        application = web.Application()
        application.router.add_get("/fdtc-api/dataset/get", converse)
        application.router.add_get("/fdtc-api/dataset/download/csv/{sha256}", download)
        runner = web.AppRunner(application, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ready.set_result((runner.addresses[0][1], asyncio.get_running_loop()))
        await asyncio.to_thread(over.wait)
        await runner.cleanup()

    ready: Future[tuple[int, asyncio.AbstractEventLoop]] = Future()
    over = threading.Event()
    server = threading.Thread(target=asyncio.run, args=[serve()])
    server.start()
    try:
        yield ready.result(10)[0]
    finally:
        over.set()
        server.join()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


@pytest.fixture
def container() -> Iterator[SandboxContainer]:
    with SandboxContainer(keepalive_interval=0.1) as container:
        for day in DAYS:
            container.add_version("orders", midnight(day) + timedelta(hours=1), BODY)
        yield container


def run(instance: dg.DagsterInstance, port: int, tmp_path: Path, *days: str, attempts: int = 1) -> list[str]:
    """Run some partitions; give the lines of the run's log that are ours, each with its level."""
    resource = FoundryContainerResource(host="127.0.0.1", port=port, attempts=attempts)
    tags = {"dagster/asset_partition_range_start": days[0], "dagster/asset_partition_range_end": days[-1]}
    result = dg.materialize(
        build_foundry_assets([DATASET], retry_policy=None),
        resources={
            "foundry_container": resource,
            "io_manager": FoundryParquetIOManager(base_dir=str(tmp_path / "parquet")),
        },
        instance=instance,
        partition_key=days[0] if len(days) == 1 else None,
        tags=tags if len(days) > 1 else None,
        raise_on_error=False,
    )
    assert result.success
    return [
        f"{record.level}: {record.user_message}"
        for record in instance.all_logs(result.run_id)
        if record.dagster_event is None
    ]


@pytest.mark.parametrize("days", [DAYS[:1], DAYS])
def test_a_download_is_told_with_bytes_percent_and_rate(
    instance: dg.DagsterInstance,
    container: SandboxContainer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    days: list[str],
) -> None:
    # The figures come about once a second, and every ten seconds is soon enough for people, but not for this test.
    monkeypatch.setattr("fdtcc_dagster.ingest.run_log._PROGRESS_SECONDS", 0.1)
    with sized(container, seconds=3.5) as port:
        lines = run(instance, port, tmp_path, *days)
    for day in days:
        prefix = f"20: {day}: " if len(days) > 1 else "20: "
        size = r"([\d.]+ [KM]B)"
        figures = re.compile(rf"{re.escape(prefix)}{size} \((\d+)%\) arrived(?:, [\d,]+ rows)?, {size}/s")
        told = [(in_megabytes(m[1]), int(m[2]), in_megabytes(m[3])) for m in map(figures.fullmatch, lines) if m]
        assert len(told) >= 2, lines
        assert told == sorted(told, key=lambda each: each[0])
        for megabytes, percent, rate in told:
            assert 0 < percent < 100
            assert abs(megabytes - len(BODY) / 1e6 * percent / 100) < 0.1
            assert 0 < rate < 2
        # In the order in which it happens.
        begin = lines.index(f"{prefix}container: Connection established, starting operation…")
        assert begin < min(number for number, line in enumerate(lines) if figures.fullmatch(line))
        assert not [line for line in lines if "DONE" in line]


@pytest.mark.parametrize("days", [DAYS[:1], DAYS])
def test_what_is_stored_or_unchanged_is_told(
    instance: dg.DagsterInstance, container: SandboxContainer, tmp_path: Path, days: list[str]
) -> None:
    first, again = (run(instance, container.port, tmp_path, *days) for _ in range(2))
    for day in days:
        prefix = f"20: {day}: " if len(days) > 1 else "20: "
        path = tmp_path / "parquet" / "orders" / f"{day}.parquet"
        sizes = r"\(from 2\.0 MB of CSV, [\d.]+ (?:KB|bytes) stored\)"
        stored = rf"{prefix}Stored 250,000 rows {sizes} as {re.escape(path.as_uri())}"
        assert [line for line in first if re.fullmatch(stored, line)], first
        assert f"{prefix}Unchanged: the container's snapshot is stored already" in again
    assert not [line for line in first if "Unchanged" in line] + [line for line in again if "Stored" in line]


def test_keepalives_are_thinned_out(
    instance: dg.DagsterInstance, container: SandboxContainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fdtcc_dagster.ingest.run_log._KEEPALIVE_SECONDS", 0.5)
    container.inject("orders", faults.FrameDelay(0.7))
    lines = run(instance, container.port, tmp_path, DAYS[0])
    alive = [line for line in lines if "Still working..." in line]
    # One in 0.1 seconds arrives, in three waits of 0.7 seconds.
    assert 2 <= len(alive) <= 5, lines
    assert all(re.fullmatch(r"20: container: Still working\.\.\. \(0 minutes so far\)", line) for line in alive)


def test_what_the_client_waits_for_is_told(
    instance: dg.DagsterInstance, container: SandboxContainer, tmp_path: Path
) -> None:
    container.inject("orders", faults.ConnectionReset(after=1))
    container.inject("orders", faults.TruncatedBody(0.5))
    held = threading.Event()

    def waits() -> bool:
        records = [record for run in instance.get_runs() for record in instance.all_logs(run.run_id)]
        return any("another pull" in record.user_message for record in records)

    async def hold() -> None:
        async with exclusive(identity_of("127.0.0.1", container.port), "orders", lambda: asyncio.sleep(0), timeout=60):
            held.set()
            for _ in range(300):
                if waits():
                    break
                await asyncio.sleep(0.1)

    holder = threading.Thread(target=asyncio.run, args=[hold()])
    holder.start()
    assert held.wait(10)
    lines = run(instance, container.port, tmp_path, *DAYS, attempts=2)
    holder.join()
    # The log names the other process; that partitions of a run wait for each other is not logged.
    assert [line for line in lines if "another pull" in line] == [
        f"20: {DAYS[0]}: Waiting for another pull of 'orders' to end"
    ]
    failed = [line for line in lines if "attempt 1 of 2 failed, next one in" in line]
    assert len(failed) == 2
    assert all(line.startswith("30: ") for line in failed)
