"""Terminating real runs: they end soon, CANCELED, and leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import polars as pl
import pytest

from fdtcc_dagster.client.endpoint import identity_of
from fdtcc_dagster.client.locks import exclusive
from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster_tests.midday import TODAY, ZONE, midnight
from fdtcc_dagster_tests.real_instance import LOCATION, RealInstance, dagster_dev, wait_until

pytestmark = pytest.mark.real_instance

FIRST, LAST = ((TODAY - timedelta(days=back)).isoformat() for back in (4, 2))
BIG_BYTES = 700_000_000

# The retry policy is the default one: an interrupt must not be taken for a failure that may pass.
ASSETS = f"""
SCHEMA = {{"id": "Int64", "amount": "Decimal(18, 2)", "at": "Datetime(us, UTC)", "note": "String"}}
names = ["waits", "queues", "downloads", "parses"]
datasets = [
    FoundryDataset(name, DAILY, "{TODAY - timedelta(days=9)}", SCHEMA, asset_key=name + SUFFIX) for name in names
]
sliced = FoundryDataset(
    "parses", DAILY, "{TODAY - timedelta(days=9)}", SCHEMA, time_column="at", asset_key="slices" + SUFFIX
)
other = FoundryDataset("parses", DAILY, "{TODAY - timedelta(days=9)}", SCHEMA, asset_key="others" + SUFFIX)
assets = [
    *build_foundry_assets([*datasets, sliced]),
    *build_foundry_assets([other], io_manager_key="other"),
]
"""
EXECUTORS = {
    "multiprocess": LOCATION.format(zone=ZONE, assets='SUFFIX = "_multiprocess"' + ASSETS, more=""),
    "in_process": LOCATION.format(
        zone=ZONE, assets='SUFFIX = "_in_process"' + ASSETS, more="executor=dg.in_process_executor,"
    ),
}


@dataclass(frozen=True)
class Running:
    container: SandboxContainer
    instance: RealInstance


def block_of_csv() -> bytes:
    lines = (
        f'{n},{n * 7919 % 100_000}.{n % 100:02d},2026-01-{n % 28 + 1:02d} 04:{n % 60:02d}:11.{n:06d}+00:00,"no, {n}"'
        for n in range(10_000)
    )
    return ("\n".join(lines) + "\n").encode()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("termination")
    header, block = b"id,amount,at,note\n", block_of_csv()
    big = directory / "big.csv"
    with big.open("wb") as file:
        file.write(header)
        for _ in range(BIG_BYTES // len(block)):
            file.write(block)
    with SandboxContainer() as container:
        for back in range(1, 5):
            pulled_at = midnight(TODAY - timedelta(days=back)) + timedelta(seconds=1)
            container.add_version("parses", pulled_at, big)
            for name in ("waits", "queues", "downloads"):
                container.add_version(name, pulled_at, header + block + f"{back},,,\n".encode())
        big.unlink()
        with dagster_dev(directory / "dagster", EXECUTORS, container.port) as instance:
            yield Running(container, instance)


def reached(site: Running, phase: str, run: str) -> bool:
    """Tell whether a run is in the midst of a phase."""
    if phase in ("waits", "queues"):
        said = [event["message"] for event in site.instance.log(run) if "message" in event]
        if phase == "queues":
            return any(f"Waiting for another pull of {phase!r} to end" in text for text in said)
        return site.container.open_sockets > 0 and any("container: " in text for text in said)
    folder, pattern, size = {
        "downloads": (site.instance.spool, "*.part", 0),
        "parses": (site.instance.parquet, "*.part", 1_000_000),
        "slices": (site.instance.spool, "*.csv", 1_000_000),
        "others": (site.instance.parquet, f"{FIRST}.parquet", 1_000_000),
    }[phase]
    with contextlib.suppress(FileNotFoundError):
        return any(path.stat().st_size > size for path in folder.rglob(pattern))
    return False


@pytest.fixture(autouse=True)
def state() -> None:
    """The state directory of the machine: that of the instance's processes, which outlive a test."""


@contextlib.contextmanager
def another_pull(container: SandboxContainer, dataset: str) -> Iterator[None]:
    """Hold the dataset's lock, as a pull in another process does."""

    async def hold() -> None:
        async with exclusive(
            identity_of(container.host, container.port), dataset, lambda: asyncio.sleep(0), timeout=60
        ):
            held.set()
            await asyncio.to_thread(over.wait)

    held, over = threading.Event(), threading.Event()
    holder = threading.Thread(target=asyncio.run, args=[hold()])
    holder.start()
    try:
        assert held.wait(10)
        yield
    finally:
        over.set()
        holder.join()


def terminated(site: Running, run: str) -> tuple[str, float, float]:
    """Terminate a run: its status at the end, the seconds until nothing is left of its pull, and until that status."""
    started = time.monotonic()
    site.instance.terminate(run)
    wait_until(lambda: site.container.open_sockets == 0 and not list(site.instance.spool.iterdir()), 60)
    cleaned = time.monotonic() - started
    status = wait_until(lambda: site.instance.ended(run))
    return status, cleaned, time.monotonic() - started


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("executor", "phase", "keys"),
    [
        (executor, phase, keys)
        for executor in EXECUTORS
        for keys in ((FIRST, None), (FIRST, LAST))
        for phase in ("waits", "queues", "downloads", "parses", "slices")
    ],
)
def test_terminate_ends_a_run(site: Running, executor: str, phase: str, keys: tuple[str, str | None]) -> None:
    container, instance = site.container, site.instance
    asset = f"{phase}_{executor}"
    before = instance.parquet / asset / f"{FIRST}.parquet"
    before.parent.mkdir(exist_ok=True)
    pl.DataFrame({"id": [42]}).write_parquet(before)
    if phase == "waits":
        container.inject(phase, faults.Silence(after=2))
    elif phase == "downloads":
        container.inject(phase, faults.ThrottledBody(10_000), times=None)
    with another_pull(container, "queues"):
        try:
            run = instance.materialize(executor, [asset], *keys)
            wait_until(lambda: reached(site, phase, run), what=f"the run {phase}")
            status, cleaned, seconds = terminated(site, run)
        finally:
            container.clear_faults()
    assert status == "CANCELED"
    assert cleaned < 5
    assert seconds < 5
    assert pl.read_parquet(before)["id"].to_list() == [42]
    assert list(before.parent.iterdir()) == [before]


@pytest.mark.timeout(240)
@pytest.mark.parametrize("executor", EXECUTORS)
def test_terminate_ends_a_run_whose_rows_another_io_manager_stores(site: Running, executor: str) -> None:
    run = site.instance.materialize(executor, [f"others_{executor}"], FIRST)
    wait_until(lambda: reached(site, "others", run), what="the IO manager stores")
    status, cleaned, seconds = terminated(site, run)
    assert status == "CANCELED"
    assert cleaned < 5
    assert seconds < 5


@pytest.mark.timeout(240)
def test_terminate_ends_a_run_that_waits_for_its_next_attempt(site: Running) -> None:
    container, instance = site.container, site.instance
    container.inject(None, faults.RefusedHandshake(503), times=None)

    def waits_for_an_attempt() -> bool:
        return any("has requested a retry in" in event.get("message", "") for event in instance.log(run))

    try:
        run = instance.materialize("multiprocess", ["waits_multiprocess"], FIRST)
        wait_until(waits_for_an_attempt, what="a failed attempt")
        status, _, seconds = terminated(site, run)
    finally:
        container.clear_faults()
    assert status == "CANCELED"
    assert seconds < 5


@pytest.mark.timeout(240)
def test_terminate_ends_a_run_before_its_next_step(site: Running) -> None:
    container, instance = site.container, site.instance
    container.inject("waits", faults.Silence(after=2), times=None)
    container.inject("downloads", faults.Silence(after=2), times=None)
    requests = len(container.requests)
    try:
        run = instance.materialize("in_process", ["waits_in_process", "downloads_in_process"], FIRST)
        wait_until(lambda: reached(site, "waits", run), what="the run waits")
        status, _, seconds = terminated(site, run)
    finally:
        container.clear_faults()
    assert status == "CANCELED"
    assert seconds < 5
    assert len(container.requests) == requests + 1
