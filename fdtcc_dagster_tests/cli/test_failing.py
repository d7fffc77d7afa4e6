from __future__ import annotations

import errno
import json
import os
import signal
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from fdtcc_dagster import errors
from fdtcc_dagster.cli.failing import Command, exit_code, json_option
from fdtcc_dagster_tests.client.test_protocol import RID

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.FdtccError)]


def ending(error: BaseException, *arguments: str) -> Result:
    """How a command that raises an error ends."""

    @click.command(cls=Command)
    @json_option
    def failing(as_json: bool) -> None:
        raise error

    return CliRunner().invoke(failing, arguments)


@pytest.mark.parametrize("kind", [each for each in KINDS if each not in (errors.FdtccError, errors.SliceOutgrownError)])
def test_every_error_of_the_package_has_an_exit_code(kind: type[errors.FdtccError]) -> None:
    assert exit_code(kind("it failed")) > 1


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (errors.DatasetNotFoundError("no\nsuch\x1b[2J dataset"), 5, "fdtcc: no\nsuch\\x1b[2J dataset\n"),
        (
            errors.ServiceUnavailableError("set secure=True"),
            3,
            "fdtcc: set secure=True\nOn the command line, secure=True: --secure\n",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/x"),
            9,
            "fdtcc: [Errno 28] No space left on device: '/data/x'\n",
        ),
        (KeyboardInterrupt(), 130, "fdtcc: interrupted; nothing was kept\n"),
        (errors.ScheduleError("day=77"), 2, "fdtcc: day=77\n"),
    ],
)
def test_an_expected_error_is_a_line_and_an_exit_code(error: BaseException, code: int, text: str) -> None:
    result = ending(error)
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", text)


def test_with_json_it_is_an_object() -> None:
    result = ending(errors.DatasetNotFoundError("dataset 'x'"), "--json")
    told: Any = json.loads(result.stdout)
    assert told == {
        "ok": False,
        "error": {"type": "DatasetNotFoundError", "message": "dataset 'x'", "hints": [], "exit_code": 5},
    }
    assert (result.exit_code, result.stderr) == (5, "")


def test_a_mistake_of_ours_is_not_hidden() -> None:
    assert isinstance(ending(AssertionError("ours")).exception, AssertionError)


def test_no_rid_is_shown() -> None:
    assert "ri.foundry" not in ending(errors.ProtocolError(f"said {RID}")).stderr


def test_who_does_not_read_our_output_ends_it_quietly() -> None:
    result = ending(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))
    assert (result.exit_code, result.stderr) == (1, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_interrupts_and_others_wait_for_the_cleanup(number: signal.Signals) -> None:
    cleaned = []
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    @click.command(cls=Command)
    def busy() -> None:
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            cleaned.append(True)

    assert CliRunner().invoke(busy).exit_code == 130
    assert cleaned == [True]
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
