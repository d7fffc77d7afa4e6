"""`fdtcc`: the group of its commands."""

from __future__ import annotations

import click

from fdtcc_dagster.cli.calendar import calendar
from fdtcc_dagster.cli.check import check
from fdtcc_dagster.cli.pull import pull
from fdtcc_dagster.cli.sandbox import sandbox


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Palantir Foundry datasets, through the Foundry DevTools Container.

    \b
    Examples:
      fdtcc check localhost:8888 foundry.sales.orders
      fdtcc pull foundry.sales.orders --from 2026-01-05 --out orders.parquet
      fdtcc calendar "monthly -1 02:00" --buffer 2h
      fdtcc sandbox data

    Each command has --help with more of them, and --json.
    """,
)
@click.version_option(package_name="fdtcc-dagster")
def main() -> None:
    """Run a command."""


for command in (check, pull, calendar, sandbox):
    main.add_command(command)
