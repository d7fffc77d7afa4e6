"""Object stores: which ones and with which options, and objects that are put and read as a whole.

Reading and writing both use fsspec, so both reach the same place with the same options. Polars has other names for the
options, and takes what it is not given from the environment: it would reach another store.
"""

from __future__ import annotations

import asyncio
import inspect
import io
import logging
import math
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import quote

import polars as pl

from fdtcc_dagster.client.directories import expand_home
from fdtcc_dagster.client.spool import spool_directory
from fdtcc_dagster.storage import checksums, reading
from fdtcc_dagster.storage.store_errors import StoreRefusedError, refusals_explained

if TYPE_CHECKING:
    from upath import UPath

logger = logging.getLogger(__name__)

_LOCAL = ("", "file", "local")
_STORES = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gs",
    "gcs": "gs",
    "az": "az",
    "abfs": "az",
    "abfss": "az",
}
"""Protocol → the kind of store. All of them show an object when all of it has arrived, and not before."""

_EXTRAS = {"s3": "s3", "gs": "gcs", "az": "azure"}

# Not named by the constructors, but passed on: to fsspec itself, and by s3fs to botocore's session.
_PASSED_ON = {"skip_instance_cache", "use_listings_cache", "listings_expiry_time", "max_paths", "batch_size"}
_PASSED_ON_BY_S3FS = {"profile"}

_PART_BYTES = 16 << 20
"""What is in memory of an upload; Google's parts are multiples of 256 KiB."""
_MAX_PARTS = {"s3": 10_000, "gs": math.inf, "az": 50_000}
_CONTENT_TYPE = "application/octet-stream"
_IS_FILE = {"is_directory": "false"}
"""By which adlfs tells files from directories."""
_READ_BYTES = 8 << 20
_FOOTER_BYTES = 64 << 10
_POLL_SECONDS = 0.2
_ABORT_SECONDS = 4.0


def check_place(base_dir: str) -> None:
    """Refuse a directory or URL in which nothing can be stored as a whole.

    Raises:
        ValueError: It is neither a directory nor in a known object store; or it contains credentials; or it begins with
            `~` and the name of no user.
    """
    protocol, separator, rest = base_dir.partition("://")
    if not separator:
        protocol, rest = ("", base_dir) if "::" not in base_dir else (base_dir.partition("::")[0], "")
    _check_protocol(protocol)
    if protocol not in _STORES:
        expand_home("base_dir", rest)
        return
    # A secret may have slashes. In Azure's URLs, tokens come after a question mark.
    is_user = ":" in rest.partition("/")[0] and "@" in rest.partition(":")[2]
    if is_user or (_STORES[protocol] == "az" and "?" in rest):
        raise ValueError("base_dir has credentials in its URL, which would be shown in the UI: use storage_options")
    check_key("base_dir", rest)


def check_key(what: str, key: str) -> None:
    """Refuse a name of which fsspec implementations take a part for something else.

    Args:
        what: What the name is of.
        key: The name, or a part of it.

    Raises:
        ValueError: It has `?versionId=`, after which a version would be named, or `::`, after which another store.
    """
    for mark in ("?versionId=", "::"):
        if mark.lower() in key.lower():
            raise ValueError(
                f"{what} has {mark!r}, which has a meaning of its own in the paths of an object store, so its rows "
                "could be stored where those of another one are: give it another name"
            )


def check_options(base_path: UPath, options: Mapping[str, Any]) -> None:
    """Refuse options that the store's fsspec implementation does not know: it may ignore them, and use another store.

    Raises:
        ValueError: An option is not known, or a local directory was given any.
        ImportError: The package of the store is not installed.
    """
    if is_local(base_path):
        if options:
            raise ValueError(f"storage_options {', '.join(sorted(options))} are given, but base_dir is a directory")
        return
    _check_protocol(base_path.protocol)
    kind = _STORES[base_path.protocol]
    try:
        # Not of the instance: building that may connect.
        from fsspec import get_filesystem_class  # type: ignore[import-untyped]

        filesystem = get_filesystem_class(base_path.protocol)
    except ImportError as error:
        raise ImportError(
            f"{base_path.protocol}:// needs a package: pip install 'fdtcc-dagster[{_EXTRAS[kind]}]'"
        ) from error
    known = _PASSED_ON | (_PASSED_ON_BY_S3FS if kind == "s3" else set())
    for base in filesystem.__mro__:
        named = inspect.signature(base.__init__).parameters.values() if "__init__" in vars(base) else ()
        known |= {each.name for each in named if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)}
    unknown = sorted(set(options) - known - {"self"})
    if unknown:
        raise ValueError(
            f"storage_options {', '.join(unknown)} are not known to {filesystem.__name__}, by which {kind} is written "
            f"and read: use fsspec's names, which are {', '.join(sorted(known - {'self', 'asynchronous', 'loop'}))}"
        )


def _check_protocol(protocol: str) -> None:
    if protocol not in _LOCAL and protocol not in _STORES:
        raise ValueError(
            f"base_dir begins with {protocol!r}, where a partition cannot be replaced as a whole: give a directory, or "
            f"a URL that begins with one of {', '.join(f'{known}://' for known in _STORES)}"
        )


def is_local(path: UPath) -> bool:
    """Tell whether a path is in this machine's file system."""
    return getattr(path, "protocol", "") in _LOCAL


def put(local: Path, path: UPath, stopped: Callable[[], bool]) -> None:
    """Put a file into an object store, as a whole or not at all.

    Args:
        local: The file.
        path: The object's place.
        stopped: Called from time to time; if it returns True, the upload is aborted.

    Raises:
        RuntimeError: The upload was stopped.
        StoreRefusedError: The store refuses it, and would again.
        OSError: The store cannot be reached, or fails.
    """
    from fsspec.asyn import sync  # type: ignore[import-untyped]

    with refusals_explained(path, puts=True):
        store = path.fs
        sync(store.loop, _put_unless_stopped, store, local, path.path, _STORES[path.protocol], stopped)


async def _put_unless_stopped(
    store: Any,
    local: Path,
    path: str,
    kind: str,
    stopped: Callable[[], bool],
) -> None:
    task = asyncio.ensure_future(_put_file(store, local, path, kind))
    while not task.done():
        if stopped():
            task.cancel()
            await asyncio.wait({task})
            raise RuntimeError("the upload was stopped")
        await asyncio.wait({task}, timeout=_POLL_SECONDS)
    if task.cancelled():  # to `sync`, that is no error
        raise RuntimeError("the upload was cancelled")
    task.result()
    while path:
        store.invalidate_cache(path)
        path = store._parent(path)


async def _put_file(store: Any, local: Path, path: str, kind: str) -> None:
    """Put a file with one request, or in parts that follow one another.

    Not by the `put_file` of the libraries: that of s3fs and gcsfs leaves the parts of a cancelled upload behind, and
    those of s3fs and adlfs have 500 and 64 MB of a file in memory.
    """
    whole, parts = _PUTS[kind]
    place, key, _ = store.split_path(path)
    with local.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= _PART_BYTES:
            await whole(store, place, key, file.read())
        else:
            await parts(store, place, key, file, size, max(_PART_BYTES, math.ceil(size / _MAX_PARTS[kind])))


async def _put_to_s3(store: Any, bucket: str, key: str, content: bytes) -> None:
    await store._call_s3("put_object", Bucket=bucket, Key=key, Body=content)


async def _put_parts_to_s3(store: Any, bucket: str, key: str, file: IO[bytes], size: int, part_bytes: int) -> None:
    place = {"Bucket": bucket, "Key": key}

    async def create() -> str:
        return cast(str, (await store._call_s3("create_multipart_upload", **place))["UploadId"])

    async def abort(upload: str) -> None:
        await store._call_s3("abort_multipart_upload", **place, UploadId=upload)

    async with _upload(create(), abort, key) as upload:
        parts: list[dict[str, Any]] = []
        while block := file.read(part_bytes):
            number = len(parts) + 1
            sent = await store._call_s3("upload_part", **place, UploadId=upload, PartNumber=number, Body=block)
            parts.append({"PartNumber": number, "ETag": sent["ETag"]})
        made = {"MultipartUpload": {"Parts": parts}}
        await store._call_s3("complete_multipart_upload", **place, UploadId=upload, **made)


async def _put_to_gcs(store: Any, bucket: str, key: str, content: bytes) -> None:
    # Not gcsfs' `simple_upload`, which divides its request by a line that the file itself may have.
    headers = {"Content-Type": _CONTENT_TYPE}
    await store._call("POST", _gcs_uploads(store, bucket), uploadType="media", name=key, headers=headers, data=content)


async def _put_parts_to_gcs(store: Any, bucket: str, key: str, file: IO[bytes], size: int, part_bytes: int) -> None:
    from gcsfs.core import upload_chunk

    async def create() -> str:
        headers = {"X-Upload-Content-Type": _CONTENT_TYPE}
        place = _gcs_uploads(store, bucket)
        answered, _ = await store._call("POST", place, uploadType="resumable", json={"name": key}, headers=headers)
        return cast(str, answered["Location"])

    async def abort(upload: str) -> None:
        await store._call("DELETE", upload)

    async with _upload(create(), abort, key) as upload:
        offset = 0
        while block := file.read(part_bytes):
            # The last one completes the object.
            await upload_chunk(store, upload, block, offset, size, _CONTENT_TYPE)
            offset += len(block)


def _gcs_uploads(store: Any, bucket: str) -> str:
    return f"{store._location}/upload/storage/v1/b/{quote(bucket, safe='')}/o"


async def _put_to_azure(store: Any, container: str, key: str, content: bytes) -> None:
    async with store.service_client.get_blob_client(container, key) as blob:
        await blob.upload_blob(content, overwrite=True, metadata=_IS_FILE, **store._timeout_kwargs)


async def _put_parts_to_azure(
    store: Any, container: str, key: str, file: IO[bytes], size: int, part_bytes: int
) -> None:
    # Nothing to abort: blocks that no list names are invisible, and removed by Azure.
    async with store.service_client.get_blob_client(container, key) as blob:
        upload, blocks = uuid.uuid4().hex, list[str]()
        while block := file.read(part_bytes):
            # Two uploads of one blob at a time must not mix, and names of blocks are equally long.
            blocks.append(f"{upload}-{len(blocks):05}")
            await blob.stage_block(blocks[-1], block, length=len(block), **store._timeout_kwargs)
        await blob.commit_block_list(blocks, metadata=_IS_FILE, **store._timeout_kwargs)


_PUTS: Mapping[str, tuple[Callable[..., Awaitable[None]], Callable[..., Awaitable[None]]]] = {
    "s3": (_put_to_s3, _put_parts_to_s3),
    "gs": (_put_to_gcs, _put_parts_to_gcs),
    "az": (_put_to_azure, _put_parts_to_azure),
}


@asynccontextmanager
async def _upload(
    create: Coroutine[Any, Any, str], abort: Callable[[str], Awaitable[None]], key: str
) -> AsyncIterator[str]:
    """An upload in parts, by its name; it is aborted if the block fails or is cancelled."""
    created = asyncio.ensure_future(create)
    try:
        # Shielded, as an upload that was created unnoticed could not be aborted.
        yield await asyncio.shield(created)
    except BaseException:
        await _abort(created, abort, key)
        raise


async def _abort(created: asyncio.Future[str], abort: Callable[[str], Awaitable[None]], key: str) -> None:
    async def created_is_aborted() -> None:
        await abort(await created)

    try:
        await asyncio.wait_for(created_is_aborted(), _ABORT_SECONDS)
    except Exception as error:  # noqa: BLE001 (what ended the upload is what matters)
        if created.done() and not created.cancelled() and created.exception() is not None:
            return  # there is none
        logger.warning(
            "an unfinished upload of %s may be left, as it could not be aborted (%s); Google removes it after a week, "
            "and S3 by a lifecycle rule of the bucket that aborts incomplete multipart uploads",
            key,
            type(error).__name__,
        )


def check_access(path: UPath) -> None:
    """Ask the store about an object, which need not exist, and about its bucket, which must.

    Raises:
        StoreRefusedError: The store refuses it, and would again.
    """
    from fsspec.asyn import sync

    first = _FIRST.get(_STORES[path.protocol])
    try:
        if not _exists(path) and first is not None:
            with refusals_explained(path, puts=True):
                sync(path.fs.loop, first, path.fs, path.fs.split_path(path.path)[0])
    except StoreRefusedError:
        raise
    except OSError:
        pass  # it fails for now


def _exists(path: UPath) -> bool:
    try:
        with refusals_explained(path):
            path.fs.info(path.path)
    except FileNotFoundError:
        return False
    return True


async def _first_in_gcs(store: Any, bucket: str) -> None:
    await store._call("GET", "b/{}/o", bucket, maxResults=1)


async def _first_in_azure(store: Any, container: str) -> None:
    async with store.service_client.get_container_client(container) as opened:
        async for _ in opened.list_blob_names(results_per_page=1):
            return


_FIRST = {"gs": _first_in_gcs, "az": _first_in_azure}
"""List one object, because an object is not found in a bucket that does not exist either; S3 tells these apart.

Unlike the properties of the bucket, that is allowed to whoever may use its objects.
"""


def footer_of(path: UPath) -> reading.Footer:
    """Read what a stored object says about itself, without its rows.

    Raises:
        StoreRefusedError: The store refuses it, and would again.
        OSError: It cannot be read.
        polars.exceptions.PolarsError: It is not a Parquet file.
    """
    with refusals_explained(path), _open(path) as file:
        return _read_footer(file)


def scan(path: UPath) -> pl.LazyFrame:
    """Read a stored object lazily, as it is now: it is copied to this machine, and the copy is read.

    The copy is removed with the last LazyFrame that needs it, or when the process ends.

    Raises:
        FileNotFoundError: It does not exist.
        StoreRefusedError: The store refuses it, and would again.
        OSError: It cannot be read, was replaced while it was copied, or is damaged.
    """
    with spool_directory() as spool:
        copy = spool / "copy.parquet"
        with refusals_explained(path), _open(path) as source, copy.open("xb") as target:
            shutil.copyfileobj(source, target, _READ_BYTES)
        # Not all stores let a block be asked for on the condition that the object is the one that was opened.
        with copy.open("rb") as copied:
            said, found = checksums.read_to_end(copied)
        if said not in (None, found):
            raise OSError(
                f"{path} was replaced while it was copied; read it again (where that does not help, it is damaged: "
                "materialize it again)"
            )
        return reading.scan(copy, links_in=spool.parent)


def _open(path: UPath) -> IO[bytes]:
    # Blocks one after the other; by s3fs, each on the condition that the object is still the one that was opened.
    return cast("IO[bytes]", path.fs.open(path.path, "rb", block_size=_READ_BYTES, cache_type="readahead"))


def _read_footer(file: IO[bytes]) -> reading.Footer:
    size = file.seek(0, io.SEEK_END)
    wanted = min(size, _FOOTER_BYTES)
    while True:
        file.seek(size - wanted)
        end = file.read(wanted)
        needed = min(size, int.from_bytes(end[-8:-4], "little") + 8)
        if needed <= wanted:
            break
        wanted = needed
    # To Polars, a footer is a Parquet file as long as none of its rows are asked for.
    return reading.Footer.of(io.BytesIO(end[-needed:] if needed else end), size)
