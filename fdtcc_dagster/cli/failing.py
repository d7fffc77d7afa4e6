"""How commands end: errors that are expected without a stack trace, and an exit code by their kind."""

from __future__ import annotations

import errno
import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, TypeVar

import click

from fdtcc_dagster import errors
from fdtcc_dagster.redaction import printable, redact

Function = TypeVar("Function", bound=Callable[..., Any])

USAGE, INTERRUPTED = 2, 130
EXIT_CODES: dict[int, tuple[type[BaseException], ...]] = {
    3: (errors.ServiceUnavailableError,),
    4: (errors.ServiceConnectionLostError, errors.IdleTimeoutError),
    5: (errors.DatasetNotFoundError,),
    6: (errors.DatasetRetrievalError, errors.ProtocolError),
    7: (errors.EmptyDatasetError, errors.NoVersionInWindowError, errors.NotYetAvailableError),
    8: (errors.ChecksumMismatchError, errors.RowCountMismatchError, errors.SchemaMismatchError),
    9: (OSError,),
    USAGE: (ValueError,),
    INTERRUPTED: (KeyboardInterrupt,),
}
"""Exit code → the errors that end a command with it; see docs/command-line.md#exit-codes."""

_EXPECTED: tuple[type[BaseException], ...] = (errors.FdtccError, OSError, ValueError, KeyboardInterrupt)
_OPTIONS = {
    "secure=True": "--secure",
    "secure=False": "no --secure",
    "bearer_token": "the environment variable FDTCC_BEARER_TOKEN",
    "ca_file": "--ca-file",
    'missing_version="accept"': "--accept-today",
    "spool_directory": "another directory in --out",
}
"""What errors advise in Python → what it is on the command line."""


class Command(click.Command):
    """A command whose expected errors are one line, or with `--json` an object on stdout."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the arguments."""
        given = tuple(args)  # click takes what it has read
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            if "--json" not in given:
                raise
            fail(error, as_json=True)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        as_json = bool(ctx.params.get("as_json"))
        try:
            with _signals(), _without_log():
                return super().invoke(ctx)
        except click.UsageError as error:
            if not as_json:
                raise  # click shows the usage, too
            fail(error, as_json=True)
        except _EXPECTED as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # who read our output has gone: click ends quietly
            fail(error, as_json=as_json)


def exit_code(error: BaseException) -> int:
    """The exit code for an error; 1 for one of no kind in the table."""
    if isinstance(error, click.UsageError):
        return USAGE
    return next((code for code, kinds in EXIT_CODES.items() if isinstance(error, kinds)), 1)


def fail(error: BaseException, *, as_json: bool) -> NoReturn:
    """Report an error and end the command."""
    code = exit_code(error)
    told = error.format_message() if isinstance(error, click.UsageError) else str(error)
    text = "\n".join(map(printable, redact(told).splitlines()))
    if isinstance(error, KeyboardInterrupt):
        text = "interrupted; nothing was kept"
    hints = [f"{python}: {option}" for python, option in _OPTIONS.items() if python in text]
    if as_json:
        report = {"type": type(error).__name__, "message": text, "hints": hints, "exit_code": code}
        echo_json({"ok": False, "error": report})
    else:
        click.echo(f"fdtcc: {text}", err=True)
        if hints:
            click.echo(f"On the command line, {'; '.join(hints)}", err=True)
    raise click.exceptions.Exit(code)


def echo_json(value: Any) -> None:
    """Write a JSON document to stdout."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def json_option(function: Function) -> Function:
    """The option `--json`, as the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Write the result, or the error, as JSON to stdout.")(
        function
    )


@contextmanager
def _without_log() -> Iterator[None]:
    """Keep the client's log from stderr: what it tells is shown, or is in the error."""
    logger, nowhere = logging.getLogger("fdtcc_dagster"), logging.NullHandler()
    logger.addHandler(nowhere)
    try:
        yield
    finally:
        logger.removeHandler(nowhere)


@contextmanager
def _signals() -> Iterator[None]:
    """Let the first SIGINT or SIGTERM interrupt the command, and ignore further ones while it cleans up."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in handlers:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread handles signals
        return
    # Both by hand: a shell starts background jobs with SIGINT ignored.
    handlers = {each: signal.signal(each, interrupt) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)
