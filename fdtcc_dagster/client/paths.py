"""Paths that may begin with the home directory of a user, as a shell writes it."""

from __future__ import annotations

import os
from pathlib import Path


def expand_home(name: str, path: str | os.PathLike[str]) -> Path:
    """Put the home directory in the place of a `~` or `~user` at the beginning of a path.

    Args:
        name: What the path is of, for the error.
        path: The path.

    Raises:
        ValueError: There is no such user, or no home directory; a directory named `~user` would be made instead.
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise ValueError(
            f"{name}={os.fspath(path)!r} begins with the home directory of a user who has none on this machine: give "
            "the whole path, or begin it with ./ where a directory has that name"
        )
    return Path(expanded)
