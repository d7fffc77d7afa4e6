"""Asset keys that are places in a store of files."""

from __future__ import annotations

import dagster as dg

_NOWHERE = ("", ".", "..")
_SEPARATORS = "/\\\0"


def check_asset_key(key: dg.AssetKey) -> dg.AssetKey:
    """Refuse a key whose files would lie where those of another key do.

    Args:
        key: An asset's key.

    Returns:
        The key.

    Raises:
        ValueError: It has no part; or one of them is empty, `.` or `..`, or holds a slash, a backslash or NUL.
    """
    if not key.path:
        raise ValueError("the asset key [] is empty: give it at least one part")
    for part in key.path:
        if part in _NOWHERE or any(separator in part for separator in _SEPARATORS):
            raise ValueError(
                f"the asset key {list(key.path)!r} has the part {part!r}, by which its files would lie where those of "
                "another key do: give it another key, whose parts are not empty, '.' or '..' and hold no slash, "
                "backslash or NUL"
            )
    return key
