"""`fdtcc check`: is a container there, can it be used, and which names does it know."""

from __future__ import annotations

from dataclasses import asdict

import click

from fdtcc_dagster.cli.container import TOKEN_HELP, address_of, client_of, container_options, is_address
from fdtcc_dagster.cli.failing import Command, echo_json, exit_code, json_option
from fdtcc_dagster.errors import DatasetNotFoundError, ServiceUnavailableError

_SLOW_SECONDS = 5.0
_HOST = "If the first name is the container's host, write it with its port, like localhost:8888, or use --container."


@click.command(
    cls=Command,
    epilog=TOKEN_HELP,
    help="""Tell whether a container is there, and which datasets it knows.

    The first argument is the container's address if it has a port or is a URL, unless --container is given. All others
    are names of datasets, which are asked for without a pull. It also tells how long the handshake takes.

    \b
    Examples:
      fdtcc check
      fdtcc check --container project-fdt-container
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
def check(
    arguments: tuple[str, ...],
    container: str | None,
    secure: bool,
    ca_file: str | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Check a container."""
    import asyncio

    names = arguments
    if container is None and names and is_address(names[0]):
        container, names = names[0], names[1:]
    client = client_of(address_of(container), secure=secure, ca_file=ca_file, open_timeout=timeout)
    # Who means a host by the first name has given no address.
    hint = _HOST if names and container is None else ""
    try:
        found = asyncio.run(client.check(names))
    except ServiceUnavailableError as error:
        raise ServiceUnavailableError(f"{error} {hint}".strip(), permanent=error.permanent) from error
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
        if hint and names[0] in unknown:
            click.echo(hint)
    if unknown:
        raise click.exceptions.Exit(exit_code(DatasetNotFoundError("")))
