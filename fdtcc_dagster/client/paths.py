"""Paths that may begin with a user's home directory, as a shell writes it."""

from __future__ import annotations

import os
from pathlib import Path


def expand_home(name: str, path: str | os.PathLike[str]) -> Path:
    """Replace a `~` or `~user` at the beginning of a path by the home directory.

    Raises:
        ValueError: There is no such user, or no home directory; otherwise a directory named `~user` would be made.
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        raise ValueError(
            f"{name}={os.fspath(path)!r} begins with the home directory of a user who has none on this machine: give "
            "the whole path, or begin it with ./ where a directory has that name"
        )
    return Path(expanded)
