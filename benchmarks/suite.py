"""What is measured and what it may be, group by group."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date, timedelta

from benchmarks.bench import Bench, Job, Measured
from benchmarks.data import VERSION_DAY, rows_of
from benchmarks.table import Row, baseline, figure, size_text

_LARGE = 4
_AT_ONCE = 8
_LINKS = (25, 100, 400)
_ZIP_LINK = 100
"""MB/s."""
_MAX_CONCURRENCY = 4


def one(bench: Bench) -> Iterator[Row]:
    """One snapshot: against curl and Polars, against the reference client; its memory; what is written and read."""
    csv, rows = bench.snapshot("big"), rows_of(bench.size)
    with bench.container() as container:
        port = {"port": container.port}
        jobs = bench.measure(
            {
                "curl": Job("commands.curl", arguments={"url": container.url("big")}),
                "sha256": Job("baselines.sha256", arguments={"path": str(csv)}),
                "sink": Job("baselines.polars_sink", rows, {"path": str(csv)}),
                "native": Job("baselines.polars_native", rows, {"path": str(csv)}),
                "reference": Job("baselines.reference", rows, port),
                "transfer": Job("ours.transfer", arguments=port),
                "typed": Job("ours.store", rows, port),
                "inferred": Job("ours.store", rows, port | {"typed": False}),
            }
        )
    curl, sink, native, reference = jobs["curl"], jobs["sink"], jobs["native"], jobs["reference"]
    transfer, typed, inferred = jobs["transfer"], jobs["typed"], jobs["inferred"]
    served = [seconds * 1e9 / csv.stat().st_size for seconds in curl.seconds]
    yield figure("curl -o: seconds for a GB, which the container serves", served, 1.25, curl, "s")
    yield baseline("SHA-256 of the file", jobs["sha256"])
    yield baseline("Polars' scan_csv → sink_parquet (zstd) from disk", sink)
    yield baseline("the same, scan_csv reads the declared types itself", native)
    yield baseline("reference client: body in memory, read_csv, write_parquet", reference)
    yield figure("processor: store, with schema ÷ (curl + Polars' sink)", typed.cpu_per(curl, sink), 1.20, typed)
    yield figure("processor: store, without schema ÷ (the same)", inferred.cpu_per(curl, sink), 1.45, inferred)
    yield figure("transfer ÷ curl", transfer.per(curl), None, transfer)
    yield figure("store, with schema ÷ (curl + Polars' sink)", typed.per(curl, sink), None, typed)
    yield figure("the same, where scan_csv reads the types itself", typed.per(curl, native), None, typed)
    yield figure("store, with schema ÷ reference", typed.per(reference), 1.00, typed)
    yield figure("store, without schema ÷ (curl + Polars' sink)", inferred.per(curl, sink), None, inferred)
    yield figure("store, with schema: peak memory", typed.peak_mb, 500, typed, "MB")
    size = csv.stat().st_size
    written = [result["written"] / (size + result["stored"]) for result in typed.results]
    yield figure("bytes written ÷ (CSV + Parquet)", written, 1.05, typed)
    read = [result["read"] / (size + result["stored"]) for result in typed.results]
    yield figure("bytes read ÷ (CSV + Parquet)", read, 1.05, typed)


def large(bench: Bench) -> Iterator[Row]:
    """A snapshot of four times the size: against the reference client, and whether memory stays flat."""
    bench.repeat("large", bench.snapshot("big"), _LARGE)
    rows = _LARGE * rows_of(bench.size)
    with bench.container("large") as container:
        arguments = {"port": container.port, "dataset": "large"}
        jobs = bench.measure(
            {
                "reference": Job("baselines.reference", rows, arguments),
                "large": Job("ours.store", rows, arguments),
                "big": Job("ours.store", rows_of(bench.size), {"port": container.port}),
            },
            (bench.rounds + 2) // 3,
        )
    reference, store, big = jobs["reference"], jobs["large"], jobs["big"]
    size = size_text(_LARGE * bench.size)
    yield baseline(f"{size}: reference client", reference)
    yield figure(f"{size}: store ÷ reference", store.per(reference), 0.55, store)
    yield figure(f"{size}: peak memory ÷ that of {size_text(bench.size)}", _peaks(store, big), 1.15, store)


def links(bench: Bench) -> Iterator[Row]:
    """Links of a limited speed: against the bare download over the same link, and storing without a limit."""
    bench.snapshot("big")
    rows = rows_of(bench.size)
    with bench.container() as container, ExitStack() as opened:
        container.prepare_zip("big")
        ports = {speed: opened.enter_context(bench.link(container, speed)) for speed in _LINKS}
        jobs = {"loopback": Job("ours.store", rows, {"port": container.port})}
        for speed, port in ports.items():
            jobs[f"bare {speed}"] = Job("commands.curl", arguments={"url": container.url("big", port=port)})
            jobs[f"csv {speed}"] = Job("ours.store", rows, {"port": port})
        jobs["zip"] = Job("ours.store", rows, {"port": ports[_ZIP_LINK], "transport": "zip"})
        measured = bench.measure(jobs, _half(bench.rounds))
    loopback = measured["loopback"]
    yield baseline("store, without a limit of the link", loopback)
    for speed in _LINKS:
        bare, store = measured[f"bare {speed}"], measured[f"csv {speed}"]
        yield baseline(f"{speed} MB/s: curl", bare)
        yield figure(
            f"{speed} MB/s: store ÷ the longer of curl and store", store.per(bare, loopback, of=max), 1.10, store
        )
    zipped = measured["zip"]
    yield figure(
        f"{_ZIP_LINK} MB/s: store, as zip ÷ curl, as CSV", zipped.per(measured[f"bare {_ZIP_LINK}"]), None, zipped
    )


def memory(bench: Bench) -> Iterator[Row]:
    """Several snapshots at once, and the spool of a long backfill."""
    csv, days = bench.snapshot("big"), _days(100)
    copies = [f"copy{number}" for number in range(_AT_ONCE)]
    for copy in copies:
        bench.copy(copy, csv)
    bench.snapshot("small", bench.size // 2000, days)
    with bench.container(*copies, "small") as container:
        port = {"port": container.port}
        at_once = Job("ours.store_at_once", _AT_ONCE * rows_of(bench.size), port | {"datasets": copies})
        backfill = Job(
            "ours.backfill_spool",
            100 * rows_of(bench.size // 2000),
            port | {"dataset": "small", "keys": days, "limit": _MAX_CONCURRENCY},
        )
        jobs = bench.measure({"at once": at_once, "backfill": backfill}, 1)
    yield figure(f"{_AT_ONCE} datasets at once: peak memory", jobs["at once"].peak_mb, 1500, jobs["at once"], "MB")
    files = [result["spool_files"] for result in jobs["backfill"].results]
    yield figure("backfill of 100: spool", files, _MAX_CONCURRENCY, jobs["backfill"], "files")


def unchanged(bench: Bench) -> Iterator[Row]:
    """A snapshot that is stored already."""
    size = bench.size // 20
    job = bench.measure({"again": Job("ours.store_again", rows_of(size), {"size": size})}, 1)["again"]
    again = [result["again"] / 1e6 for result in job.results]
    yield figure("unchanged snapshot: transferred or written", again, 0, job, "MB")


def backfill(bench: Bench) -> Iterator[Row]:
    """Many partitions in one run, against a run of one; both with Dagster's own start."""
    size, days = bench.size // 200, _days(20)
    bench.snapshot("parts", size, days)
    with bench.container("parts") as container:
        port = {"port": container.port}
        jobs = bench.measure(
            {
                "one": Job("commands.materialize", rows_of(size), port | {"keys": days[:1]}),
                "all": Job("commands.materialize", len(days) * rows_of(size), port | {"keys": days}),
            }
        )
    yield baseline(f"whole run of one partition of {size_text(size)}", jobs["one"])
    yield figure("whole run of 20 such partitions ÷ that of one", jobs["all"].per(jobs["one"]), 1.50, jobs["all"])


def slices(bench: Bench) -> Iterator[Row]:
    """Every week of a year from one snapshot, against storing that snapshot."""
    bench.snapshot("big")
    rows = rows_of(bench.size)
    with bench.container() as container:
        port = {"port": container.port}
        jobs = bench.measure(
            {
                "store": Job("ours.store", rows, port),
                "sorted": Job("ours.slices", rows, port | {"time_column": "created_at"}),
                "shuffled": Job("ours.slices", rows, port | {"time_column": "updated_at"}),
            },
            _half(bench.rounds),
        )
    store = jobs["store"]
    yield baseline("store, with schema", store)
    for order in ("sorted", "shuffled"):
        yield figure(f"52 slices, rows {order} by time ÷ store", jobs[order].per(store), 2.00, jobs[order])
    shuffled = jobs["shuffled"]
    yield figure("52 slices: peak memory ÷ that of store", _peaks(shuffled, store), 1.15, shuffled)


def stores(bench: Bench) -> Iterator[Row]:
    """One snapshot to S3, against the same to the disk."""
    bench.snapshot("big")
    with bench.container() as container, bench.s3() as s3:
        port = {"port": container.port}
        jobs = bench.measure(
            {
                "disk": Job("ours.store", rows_of(bench.size), port),
                "s3": Job("ours.store", rows_of(bench.size), port | {"s3": s3}),
            },
            _half(bench.rounds),
        )
    disk, store = jobs["disk"], jobs["s3"]
    yield baseline("store, with schema, to the disk", disk)
    yield figure("processor: store to S3 ÷ to the disk", store.cpu_per(disk), 1.25, store)
    yield figure("store to S3 ÷ to the disk", store.per(disk), None, store)
    yield figure("store to S3: peak memory", store.peak_mb, 500, store, "MB")
    yield figure("S3's server: processor", [result["s3_cpu"] for result in store.results], None, store, "s")


def loading(bench: Bench) -> Iterator[Row]:
    """What importing the package adds."""
    jobs = bench.measure({"bare": Job("imports.bare"), "ours": Job("imports.ours")}, 3 * bench.rounds)
    yield baseline("import dagster, polars", jobs["bare"])
    what = "import dagster, polars, fdtcc_dagster ÷ import dagster, polars"
    yield figure(what, jobs["ours"].per(jobs["bare"]), 1.15, jobs["ours"])


GROUPS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    group.__name__: group for group in (one, large, links, memory, unchanged, backfill, slices, stores, loading)
}


def _days(number: int) -> list[str]:
    return [(date.fromisoformat(VERSION_DAY) + timedelta(days=day)).isoformat() for day in range(number)]


def _peaks(job: Measured, other: Measured) -> list[float]:
    return [own / its for own, its in zip(job.peak_mb, other.peak_mb, strict=True)]


def _half(rounds: int) -> int:
    return (rounds + 1) // 2
