"""Reading a file while it arrives, attempt after attempt."""

from __future__ import annotations

import hashlib
import io
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from fdtcc_dagster.client.spool_file import SpoolFile
from fdtcc_dagster.errors import ChecksumMismatchError, ServiceConnectionLostError

DATA = bytes(range(48, 108))
OTHER = DATA[:20] + b"#" + DATA[21:]
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SpoolFile]:
    arriving = SpoolFile(tmp_path, SHA256)
    yield arriving
    arriving.close()


class Reader:
    """Reads in a thread."""

    def __init__(self, file: SpoolFile) -> None:
        self._opened = file.open()
        self._thread = ThreadPoolExecutor(1)
        self._file: io.RawIOBase = self._thread.submit(self._opened.__enter__).result(10)

    def read(self, size: int) -> Future[bytes]:
        return self._thread.submit(lambda: self._file.read(size) or b"")

    def close(self) -> None:
        self._thread.submit(self._opened.__exit__, None, None, None).result(10)
        self._thread.shutdown()


@pytest.fixture
def reader_of() -> Iterator[Callable[[SpoolFile], Reader]]:
    readers: list[Reader] = []

    def make(file: SpoolFile) -> Reader:
        readers.append(Reader(file))
        return readers[-1]

    yield make
    for reader in readers:
        reader.close()


ReaderOf = Callable[[SpoolFile], Reader]


def waits(reading: Future[bytes]) -> bool:
    """It is not done, and would be at once if it did not wait."""
    return reading in wait([reading], 0.1).not_done


def test_readers_follow_and_see_the_end_when_it_is_verified(
    file: SpoolFile, reader_of: ReaderOf, tmp_path: Path
) -> None:
    file.begin()
    file.write(DATA[:10])
    first, second = reader_of(file), reader_of(file)
    assert first.read(4).result(10) == DATA[:4]
    more = first.read(20)
    assert waits(more)
    file.write(DATA[10:30])
    assert more.result(10) == DATA[4:24]
    file.write(DATA[30:])
    rest = first.read(1000)
    assert waits(rest)
    assert [path.name.startswith(f".{SHA256}.") for path in tmp_path.iterdir()] == [True]
    file.finish()
    assert rest.result(10) == DATA[24:]
    assert first.read(1).result(10) == b""
    file.close()
    assert second.read(1000).result(10) == DATA
    assert list(tmp_path.iterdir()) == [file.path]
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    with file.open() as late:
        assert late.read(1000) == DATA


@pytest.mark.parametrize("arrived", [5, 40, len(DATA)])
def test_after_a_lost_connection_a_reader_goes_on_where_it_stands(
    file: SpoolFile, reader_of: ReaderOf, arrived: int
) -> None:
    file.begin()
    file.write(DATA[:arrived])
    reader = reader_of(file)
    assert reader.read(5).result(10) == DATA[:5]
    file.begin()
    for position in range(0, len(DATA), 7):
        file.write(DATA[position : position + 7])
    file.finish()
    assert reader.read(1000).result(10) == DATA[5:]
    assert file.version == 0


@pytest.mark.parametrize("first", [OTHER[:30], OTHER, OTHER + b"more", DATA + b"more", OTHER + DATA])
def test_other_bytes_than_those_that_were_read_void_their_readers(
    file: SpoolFile, reader_of: ReaderOf, first: bytes
) -> None:
    file.begin()
    file.write(first)
    reader = reader_of(file)
    assert reader.read(25).result(10) == first[:25]
    end = reader.read(1000)
    if len(first) >= len(DATA):
        with pytest.raises(ChecksumMismatchError, match=f"{len(first)} bytes arrived"):
            file.finish()
    file.begin()
    file.write(DATA)
    file.finish()
    with pytest.raises(ChecksumMismatchError, match="began anew with other bytes"):
        end.result(10)
    assert file.path.read_bytes() == DATA
    with file.open() as again:
        assert again.read(1000) == DATA


def test_each_attempt_is_compared_with_all_before(file: SpoolFile, reader_of: ReaderOf) -> None:
    # The second one ends before the altered byte, which a reader has of the first one.
    for attempt in (OTHER[:40], DATA[:15]):
        file.begin()
        file.write(attempt)
    reader = reader_of(file)
    assert reader.read(40).result(10)[20:21] == b"#"
    file.begin()
    file.write(DATA[:39])
    assert file.version == 0
    file.write(DATA[39:])
    assert file.version == 1
    file.finish()
    with pytest.raises(ChecksumMismatchError):
        reader.read(1).result(10)


def test_a_reader_that_meets_the_end_of_a_shorter_attempt_is_void(tmp_path: Path) -> None:
    class CutOff(SpoolFile):
        """Another attempt is shorter, just when a reader knows how far it may read."""

        cut = False

        def wait(self, position: int, version: int) -> int:
            end = super().wait(position, version)
            if not self.cut:
                self.cut = True
                self.begin()
                self.write(DATA)
                self.finish()
            return end

    file = CutOff(tmp_path, SHA256)
    file.begin()
    file.write(DATA + b"more")
    with file.open() as reader, pytest.raises(ChecksumMismatchError, match="began anew"):
        reader.read(len(DATA) + 4)
    file.close()


def test_readers_raise_what_ended_the_download_and_nothing_is_left(
    file: SpoolFile, reader_of: ReaderOf, tmp_path: Path
) -> None:
    file.begin()
    file.write(DATA[:10])
    reader = reader_of(file)
    waiting = reader.read(11)
    file.close(ServiceConnectionLostError("the connection ended"))
    file.close()
    with pytest.raises(ServiceConnectionLostError, match="the connection ended"):
        waiting.result(10)
    with pytest.raises(ServiceConnectionLostError, match="the connection ended"), file.open():
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_is_cancelled_before_its_first_byte_ends_readers(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path, SHA256)
    with ThreadPoolExecutor(1) as thread:
        opening = thread.submit(lambda: file.open().__enter__())
        file.close(KeyboardInterrupt())
        with pytest.raises(RuntimeError, match="the download was ended"):
            opening.result(10)
    assert list(tmp_path.iterdir()) == []


def test_no_bytes_at_all_are_a_file_too(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path, hashlib.sha256(b"").hexdigest())
    file.begin()
    file.finish()
    with file.open() as reader:
        assert reader.read(10) == b""
    file.close()
    assert file.path.read_bytes() == b""
