"""`fdtcc check`: is a container there, can it be used, and which names does it know."""

from __future__ import annotations

from dataclasses import asdict

import click

from fdtcc_dagster.cli.container import TOKEN_HELP, address_of, client_of, container_options, is_address
from fdtcc_dagster.cli.failing import Command, echo_json, exit_code, json_option
from fdtcc_dagster.errors import DatasetNotFoundError

_SLOW_SECONDS = 5.0


@click.command(
    cls=Command,
    epilog=TOKEN_HELP,
    help="""Find out whether a container is there, how long its handshake takes, and which datasets it knows.

    The first argument is its address if it has a port; otherwise the address is FDTCC_CONTAINER, or localhost:8888.
    Names are asked for without a pull.

    \b
    Examples:
      fdtcc check
      fdtcc check project-fdt-container:8888
      fdtcc check https://fdtc.example.com foundry.sales.orders
      fdtcc check localhost:8888 orders customers --json
    """,
)
@click.argument("arguments", nargs=-1, metavar="[HOST:PORT] [DATASET]...")
@container_options
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=60.0, show_default=True, help="Seconds to wait."
)
@json_option
def check(arguments: tuple[str, ...], secure: bool, ca_file: str | None, timeout: float, as_json: bool) -> None:
    """Check a container."""
    import asyncio

    given = bool(arguments) and is_address(arguments[0])
    address = address_of(arguments[0] if given else None)
    client = client_of(address, secure=secure, ca_file=ca_file, open_timeout=timeout)
    found = asyncio.run(client.check(arguments[given:]))
    unknown = [name for name, known in found.known.items() if not known]
    is_slow = found.handshake_seconds > _SLOW_SECONDS
    if as_json:
        echo_json({"ok": not unknown, "host": client.host, "port": client.port, "slow": is_slow, **asdict(found)})
    else:
        click.echo(f"{client.host}:{client.port} is a container: {found.message}")
        click.echo(f"Its handshake took {found.handshake_seconds:.1f} s.")
        if is_slow:
            click.echo("That is slow: it drops a handshake after 10 s. Let fewer clients begin at once.")
        for name, known in found.known.items():
            click.echo(f"  {name}: {'known' if known else 'unknown; compare it with foundry_datasets.toml'}")
    if unknown:
        raise click.exceptions.Exit(exit_code(DatasetNotFoundError("")))
