"""`python -m fdtcc_dagster.sandbox ROOT`: serve a directory of versions until SIGINT or SIGTERM."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from fdtcc_dagster.sandbox.container import SandboxContainer


def describe(container: SandboxContainer) -> list[str]:
    """Say where a sandbox that has started listens, and what it does not serve; one item is one line."""
    said = [f"ignored: {path}" for path in container.ignored]
    if not container.names():
        said.append(
            "no dataset is there: put <dataset>.csv or <dataset>/<pulled-at>.csv into the directory, and start again"
        )
    return [*said, f"sandbox container ready at {container.url} ({len(container.names())} datasets)"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; return 0 then, or 1 if the sandbox could not start."""
    parser = argparse.ArgumentParser(
        prog="python -m fdtcc_dagster.sandbox",
        description="Serve a directory of dataset versions as a Foundry DevTools Container would.",
    )
    help_ = "<dataset>/<pulled-at>.csv, such as orders/2026-01-05T04-00-00Z.csv, or <dataset>.csv for today's data"
    parser.add_argument("root", type=Path, help=help_)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8888, help="the port; 0 takes a free one (default: %(default)s)")
    options = parser.parse_args(arguments)
    # Both by hand: a shell starts background jobs with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with SandboxContainer(options.root, options.port, host=options.host) as container:
            sys.stdout.write("".join(f"{line}\n" for line in describe(container)))
            sys.stdout.flush()
            threading.Event().wait()
    except KeyboardInterrupt:
        pass
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
