"""`fdtcc sandbox`: a container without Foundry, from a directory of CSV files."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import click

from fdtcc_dagster.cli.container import DEFAULT_PORT
from fdtcc_dagster.cli.failing import Command, json_option


@click.command(
    cls=Command,
    help="""Serve CSV files as a container would, until Ctrl-C.

    ROOT/orders.csv is what Foundry holds today of the dataset "orders". ROOT/orders/2026-01-05T04-00-00Z.csv is a
    version that was pulled then, and ROOT/orders/live.csv what Foundry holds today, by default the newest version.

    \b
    Examples:
      fdtcc sandbox data
      fdtcc sandbox data --port 0 --json
    """,
)
@click.argument("root", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", default=DEFAULT_PORT, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@json_option
def sandbox(root: Path, host: str, port: int, as_json: bool) -> None:
    """Serve a directory."""
    from fdtcc_dagster.sandbox import SandboxContainer
    from fdtcc_dagster.sandbox.__main__ import describe

    try:
        with SandboxContainer(root, port, host=host) as container:
            if as_json:
                ignored = [str(path) for path in container.ignored]
                said = {"ok": True, "url": container.url, "datasets": container.names(), "ignored": ignored}
                # On one line, for programs that wait for it.
                click.echo(json.dumps(said))
            else:
                click.echo("\n".join(describe(container)))
            threading.Event().wait()
    except KeyboardInterrupt:
        pass
