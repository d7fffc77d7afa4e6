"""Names in Dagster: asset keys that are places in a store of files, and names that are made of other names."""

from __future__ import annotations

import hashlib
import re
import unicodedata

import dagster as dg

from fdtcc_dagster.dagster_internals import DISALLOWED_NAMES

_NOWHERE = ("", ".", "..")
_SEPARATORS = "/\\\0"
_PLAIN_PART = re.compile("[A-Za-z0-9]+(_[A-Za-z0-9]+)*")
_LONGEST_PART = 100
"""A part is the name of a directory, and many of them that of a step."""
_WRITTEN = str.maketrans(
    {
        "ä": "ae",
        "ö": "oe",
        "ü": "ue",
        "ß": "ss",
        "æ": "ae",
        "œ": "oe",
        "ø": "o",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
    }
)


def check_asset_key(key: dg.AssetKey) -> dg.AssetKey:
    """Refuse a key whose files would be in the place of another key's.

    Raises:
        ValueError: It has no part; or a part is empty, `.` or `..`, or contains a slash, a backslash or NUL.
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


def asset_key_of(name: str) -> dg.AssetKey:
    """Make an asset key of a dataset's name.

    It has a part for each dot or slash. Letters become lower-case, those beyond A to Z are transcribed (ä as ae, é as
    e), and everything but letters, digits and underscores becomes an underscore. If that leaves something out, such as
    a letter without transcription, an empty part, or the end of a long one, eight hex digits follow; also if the key
    would be a word that Dagster reserves, such as `config`.
    """
    text = unicodedata.normalize("NFC", name).lower().translate(_WRITTEN)
    text = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    parts = [re.sub(r"[^A-Za-z0-9_]+", "_", part).strip("_") for part in re.split(r"[./]", text)]
    left_out = any(letter.isalnum() and not letter.isascii() for letter in text)
    # Dagster names the inputs of what depends on an asset after it.
    reserved = "_".join(parts) in DISALLOWED_NAMES
    if all(0 < len(part) <= _LONGEST_PART for part in parts) and not left_out and not reserved:
        return dg.AssetKey(parts)
    return distinguished(dg.AssetKey([part[:_LONGEST_PART].strip("_") for part in parts if part] or ["dataset"]), name)


def distinguished(key: dg.AssetKey, name: str) -> dg.AssetKey:
    """Make a key different from those of other names that lead to it."""
    *parts, last = key.path
    return dg.AssetKey([*parts, f"{last}_{_digest(name)}"])


def step_name(key: dg.AssetKey) -> str:
    """Name the step of an asset: `sales__orders` for `sales/orders`.

    Eight hex digits follow if another key would have the same name, such as `sales__orders` itself, or if it would be a
    word that Dagster reserves, such as `config`.
    """
    name = re.sub(r"[^A-Za-z0-9_]", "_", "__".join(key.path))
    if all(_PLAIN_PART.fullmatch(part) for part in key.path) and name not in DISALLOWED_NAMES:
        return name
    return f"{name}_{_digest(key.to_string())}"


def pool_name(dataset: str) -> str:
    """Name the pool of a dataset, which all assets of that dataset share: `foundry_orders` for `orders`."""
    plain = re.sub(r"[^A-Za-z0-9_]", "_", dataset)
    return f"foundry_{plain}" if plain == dataset else f"foundry_{plain}_{_digest(dataset)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
