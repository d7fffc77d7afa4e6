"""`fdtcc pull`: one dataset into a file. The client and the store do the work; this shows it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fdtcc_dagster.cli.container import CONTAINER, TOKEN_HELP, address_of, client_of, container_options, is_address
from fdtcc_dagster.cli.failing import Command, echo_json, json_option

if TYPE_CHECKING:
    from fdtcc_dagster.client import FoundryDevToolsContainerClient, Snapshot
    from fdtcc_dagster.client.callbacks import PullObserver
    from fdtcc_dagster.client.snapshot import ArrivingSnapshot
    from fdtcc_dagster.window import Window

_OPEN_END = timedelta(days=1)
"""A live pull must end within its window, so "now" is the end of a window that is still open."""
_SUFFIXES = (".parquet", ".csv")


def _dataset(ctx: click.Context, _: click.Parameter, name: str) -> str:
    """Refuse an address, which `check` takes as its first argument. It is not shown: it may contain a password."""
    # A name may look like an address, where it is said what the container is.
    if is_address(name) and ctx.params.get("container") is None and CONTAINER not in os.environ:
        raise click.UsageError(
            "the argument is a DATASET; give the container by --container localhost:8888, also where a dataset's name "
            "is like an address"
        )
    return name


@click.command(
    cls=Command,
    epilog=TOKEN_HELP,
    help="""Pull a dataset into a Parquet or CSV file.

    The file is replaced as a whole, after its bytes, rows and types have been verified; a failure or Ctrl-C leaves
    nothing. A time without a zone is UTC. The container answers with the newest version that was pulled between --from
    and --to. If there is none, it pulls today's data, which are refused if --to is over.

    \b
    Examples:
      fdtcc pull orders --from 2026-01-05 --out orders.parquet
      fdtcc pull orders --from 2026-01-05T04:00Z --to 2026-01-12T04:00Z --out orders.csv
      fdtcc pull orders --from 2026-01-05 --out orders.parquet --schema schema.yaml
      fdtcc pull orders --from 2026-01-05 --out orders.parquet --container https://fdtc.example.com

    The schema is YAML or JSON: "{id: Int64, at: 'Datetime(us, UTC)'}". Without one, types are inferred over all rows.
    """,
)
@click.argument("dataset", callback=_dataset)
@click.option("--from", "from_dt", metavar="TIME", required=True, help="The window's first instant, ISO 8601.")
@click.option("--to", "to_dt", metavar="TIME", help="The instant after its last one; by default it is still open.")
@click.option(
    "--out",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="The file: .parquet or .csv.",
)
@click.option("--schema", metavar="FILE", type=click.Path(path_type=Path), help="The columns and their data types.")
@container_options
@click.option("--zip", "use_zip", is_flag=True, help="Compress the data on their way, for slow links.")
@click.option("--accept-today", is_flag=True, help="Take today's data for a window that is over.")
@json_option
def pull(
    dataset: str,
    from_dt: str,
    to_dt: str | None,
    out: Path,
    schema: Path | None,
    container: str | None,
    secure: bool,
    ca_file: str | None,
    use_zip: bool,
    accept_today: bool,
    as_json: bool,
) -> None:
    """Pull a dataset."""
    from fdtcc_dagster.errors import NotYetAvailableError, ServiceUnavailableError
    from fdtcc_dagster.window import Window, bound_of

    _check_target(out)
    now, start = datetime.now(timezone.utc), bound_of("--from", from_dt, timezone.utc)
    if start > now:
        raise NotYetAvailableError(f"--from {from_dt} is in the future: it is {now.isoformat()}")
    window = Window(start, now + _OPEN_END if to_dt is None else bound_of("--to", to_dt, timezone.utc))
    request = _Request(dataset, window, out, "zip" if use_zip else "csv", "accept" if accept_today else "raise")
    types = None if schema is None else read_schema(schema)
    client = client_of(address_of(container), secure=secure, ca_file=ca_file)
    try:
        snapshot, stored = _pull(client, request, types)
    except ServiceUnavailableError as error:
        where = f"{client.host}:{client.port}"
        raise ServiceUnavailableError(f"{error} See also: fdtcc check {where}", permanent=error.permanent) from error
    if as_json:
        echo_json(
            {
                "ok": True,
                "dataset": dataset,
                "from_dt": window.from_dt.isoformat(),
                "to_dt": window.to_dt.isoformat(),
                "path": str(out),
                "bytes": out.stat().st_size,
                "rows": stored.rows,
                "schema": stored.schema,
                "origin": snapshot.origin,
                "outside_window": snapshot.is_outside,
                "announced_rows": snapshot.announced_rows,
                "sha256": snapshot.sha256,
                "csv_bytes": snapshot.size_bytes,
                "seconds": round(snapshot.seconds, 3),
            }
        )
        return
    click.echo(f"{out}: {stored.rows:,} rows, {snapshot.origin}, {out.stat().st_size:,} bytes")
    if snapshot.is_outside:
        click.echo("These are today's data: the window has no version.")


@dataclass(frozen=True)
class _Request:
    """What is to be pulled, and where it is stored."""

    dataset: str
    window: Window
    out: Path
    transport: Any
    missing_version: Any


@dataclass(frozen=True)
class Stored:
    """What has been stored.

    Attributes:
        rows: How many rows.
        schema: Column → data type.
    """

    rows: int
    schema: Mapping[str, str]


def _check_target(out: Path) -> None:
    """Refuse a file that cannot be written, before anything is pulled."""
    if out.suffix.lower() not in _SUFFIXES:
        raise click.UsageError(f"--out {str(out)!r} must end in {' or '.join(_SUFFIXES)}")
    if out.is_dir():
        raise IsADirectoryError(f"--out {str(out)!r} is a directory")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"the directory {str(out.parent)!r} of --out does not exist")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"the directory {str(out.parent)!r} of --out cannot be written to")


def read_schema(path: Path) -> Mapping[str, Any]:
    """Read a schema from YAML or JSON.

    Raises:
        ValueError: It is no mapping of columns to data types.
    """
    from fdtcc_dagster.pandas_csv.schema import to_schema
    from fdtcc_dagster.yaml_lines import parsed, read

    where = f"--schema {str(path)!r}"
    # JSON is YAML, too.
    documents = parsed(read(path, where), where)
    try:
        return to_schema(documents[0][1] if documents else {})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _pull(
    client: FoundryDevToolsContainerClient, request: _Request, schema: Mapping[str, Any] | None
) -> tuple[Snapshot, Stored]:
    """Pull and store, while the main thread shows the progress and an interrupt reaches it."""
    from fdtcc_dagster.background import wait_for
    from fdtcc_dagster.cli.progress import Progress
    from fdtcc_dagster.client.callbacks import PullObserver

    with Progress(request.dataset) as progress:

        async def work(report: Callable[[Callable[[], None]], Any]) -> tuple[Snapshot, Stored]:
            observer = PullObserver(
                on_message=lambda message: report(partial(progress.message, message)),
                on_progress=lambda size, total: report(partial(progress.bytes, size, total)),
                on_notice=lambda message: report(partial(progress.message, message)),
            )
            return await _work(client, request, schema, observer, lambda *told: report(partial(progress.rows, *told)))

        return wait_for(work, lambda call: call())


async def _work(
    client: FoundryDevToolsContainerClient,
    request: _Request,
    schema: Mapping[str, Any] | None,
    observer: PullObserver,
    on_rows: Callable[[int, int | None], Any],
) -> tuple[Snapshot, Stored]:
    from fdtcc_dagster.client.spool import spool_directory
    from fdtcc_dagster.ingest.overlap import fetch_and_read
    from fdtcc_dagster.storage.publishing import publish_file

    announcement = await client.request(
        request.dataset,
        request.window.from_dt,
        request.window.to_dt,
        missing_version=request.missing_version,
        observer=observer,
    )
    on_rows(0, announcement.announced_rows)
    is_parquet = request.out.suffix.lower() == ".parquet"
    with spool_directory(request.out.parent) as spool:

        def read(arriving: ArrivingSnapshot) -> Stored:
            return _read(arriving, request.out if is_parquet else None, schema, on_rows)

        snapshot, stored = await fetch_and_read(
            client, announcement, read, directory=spool, transport=request.transport, observer=observer
        )
        if not is_parquet:
            os.chmod(snapshot.path, 0o666 & ~_umask())
            publish_file(snapshot.path, request.out)
    return snapshot, stored


def _read(
    arriving: ArrivingSnapshot,
    parquet: Path | None,
    schema: Mapping[str, Any] | None,
    on_rows: Callable[[int, int | None], Any],
) -> Stored:
    """Read and check all rows while they arrive, and store them if the file is Parquet."""
    import polars as pl
    from upath import UPath

    from fdtcc_dagster.pandas_csv.schema import dtype_name
    from fdtcc_dagster.pandas_csv.source import TypedCsv
    from fdtcc_dagster.storage.publishing import publish

    announced = arriving.announcement.announced_rows

    def use(csv: TypedCsv) -> Stored:
        if parquet is None:
            rows = sum(frame.height for frame in csv.frames())
        else:
            rows = publish(csv.scan(), UPath(parquet)).rows
        return Stored(rows, {name: dtype_name(dtype) for name, dtype in csv.schema.items()})

    source = replace(arriving.source, on_rows=lambda rows: on_rows(rows, announced))
    return source.read(None if schema is None else pl.Schema(schema), use)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
