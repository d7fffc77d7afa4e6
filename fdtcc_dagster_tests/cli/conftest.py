"""The command, run in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fdtcc_dagster.cli.container import CONTAINER, TOKEN
from fdtcc_dagster.cli.main import main
from fdtcc_dagster.sandbox import SandboxContainer

Run = Callable[..., "Done"]


@dataclass(frozen=True)
class Done:
    """How a command has ended, and what it has said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it has written to stdout, as JSON."""
        return json.loads(self.out)


@pytest.fixture
def run(sandbox_container: SandboxContainer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command; by default its container is the sandbox."""
    monkeypatch.setenv(CONTAINER, f"{sandbox_container.host}:{sandbox_container.port}")
    monkeypatch.delenv(TOKEN, raising=False)

    def call(*arguments: object) -> Done:
        result: Result = CliRunner().invoke(main, [str(each) for each in arguments], prog_name="fdtcc")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    return call
