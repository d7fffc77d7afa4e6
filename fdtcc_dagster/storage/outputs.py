"""What an asset returned, as the frames of its partitions; for anything else the error says what to return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl


def frame_of(obj: object, what: str) -> pl.DataFrame | pl.LazyFrame:
    """Return an output that is a frame, or say what it should be."""
    if isinstance(obj, (pl.DataFrame, pl.LazyFrame)):
        return obj
    if obj is None:
        raise TypeError(
            f"{what} is None: annotate the asset with `-> None` if it stores its rows itself, or with Optional[...] if "
            "there may be none"
        )
    module = type(obj).__module__.partition(".")[0]
    way_out = "convert it by polars.from_pandas" if module == "pandas" else "return a LazyFrame or DataFrame of Polars"
    raise TypeError(f"{what} is a {type(obj).__name__} of {module}, no frame of Polars: {way_out}")


def of_each(keys: Sequence[str], obj: object) -> list[tuple[str, object]]:
    """The output of each partition of a run, which must be a mapping of exactly these keys."""
    if not isinstance(obj, Mapping) or set(obj) != set(keys):
        has = f" with {', '.join(map(_named, obj)) or 'nothing'}" if isinstance(obj, Mapping) else ""
        raise ValueError(
            f"this run is of {', '.join(keys)}: return a dict with a frame for each of these partitions and no other; "
            f"the output is a {type(obj).__name__}{has}"
        )
    return [(key, obj[key]) for key in keys]


def _named(key: object) -> str:
    return key if isinstance(key, str) else f"{key} (of the type {type(key).__name__}: make it a str)"
