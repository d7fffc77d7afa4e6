"""The code on pages of documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


def snippets(page: Path, language: str = "python") -> list[str]:
    """The blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run_page(page: Path, names: dict[str, Any], port: int | None = None) -> None:
    """Run a page's Python in its order, as one program.

    Args:
        page: The page.
        names: The names that its code uses, and gets those that it defines.
        port: A container's port, in place of the one on the page.
    """
    for snippet in snippets(page):
        code = snippet if port is None else snippet.replace("8888", str(port))
        exec(compile(code, page.name, "exec"), names)  # noqa: S102 (our own pages, which users copy)
