"""The fault matrix: what goes wrong, what the pull ends with, and how often it tries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from fdtcc_dagster.client.download import Transport
from fdtcc_dagster.errors import (
    ChecksumMismatchError,
    DatasetNotFoundError,
    DatasetRetrievalError,
    EmptyDatasetError,
    IdleTimeoutError,
    ProtocolError,
    RowCountMismatchError,
    SchemaMismatchError,
    ServiceConnectionLostError,
    ServiceUnavailableError,
)
from fdtcc_dagster.sandbox import faults
from fdtcc_dagster_tests.faults.scene import (
    ATTEMPTS,
    CSV,
    FRAMES,
    NAME,
    ROWS,
    Arrange,
    Case,
    Scene,
    csv_of,
    rows,
    zipped_size,
)
from fdtcc_dagster_tests.fuzz import some_of
from fdtcc_dagster_tests.tcp_proxy import Kind, NetworkFault

UNKNOWN_NAME = {"type": "error", "success": False, "message": "ERROR | Not a single valid RIDs found in the request."}
SIZES: dict[Transport, int] = {"csv": len(CSV), "zip": zipped_size()}
ENDS: tuple[Literal["reset", "close"], ...] = ("reset", "close")
SHORT = 0.4
"""A timeout in seconds that expires in the conversation; nothing precedes that."""
LONG = 1.2
"""A timeout in seconds that expires in the download; the conversation before it must not take as long."""


def container(fault: faults.Fault, times: int | None = None) -> Arrange:
    """The container does it."""
    return lambda scene: scene.inject(fault, times)


def network(kind: Kind, fault: NetworkFault) -> Arrange:
    """Something between the container and the client does it."""
    return lambda scene: scene.inject_network(kind, fault)


def today(text: str) -> Arrange:
    """Foundry holds something else today."""

    def arrange(scene: Scene) -> None:
        scene.container.set_live(NAME, text)

    return arrange


def delayed(scene: Scene) -> None:
    """The answers of the network take their time."""
    for kind in ("conversation", "download"):
        scene.inject_network(kind, NetworkFault(delay=0.3))


def handshakes() -> Iterator[Case]:
    """No connection, or none that is accepted: docs/protocol.md#the-handshake."""
    kind, tried, short = ServiceUnavailableError, ATTEMPTS, {"open_timeout": SHORT}
    yield Case("nobody listens", lambda scene: scene.proxy.stop(), kind, 0, waits=tried - 1, others=False)
    for end in ENDS:
        yield Case(f"{end} instead of an answer", network("conversation", NetworkFault(-1, end)), kind, tried)
    yield Case("no answer", network("conversation", NetworkFault(-1, "hold")), kind, tried, limits=short)
    yield Case("slow handshake", container(faults.SlowHandshake(30.0)), kind, tried, limits=short)
    yield Case(
        "answer on its way for too long", network("conversation", NetworkFault(delay=30.0)), kind, tried, limits=short
    )
    yield Case("handshake within its limit", container(faults.SlowHandshake(0.3)), None, 1, 1)
    yield Case("answers on their way within the limit", delayed, None, 1, 1)
    for status in (403, 500):
        yield Case(f"HTTP {status}", container(faults.RefusedHandshake(status)), kind, tried)
        yield Case(f"HTTP {status} twice", container(faults.RefusedHandshake(status), 2), None, 3, 1)


def conversations() -> Iterator[Case]:
    """The connection ends, or nothing more comes of it."""
    lost, tried, idle = ServiceConnectionLostError, ATTEMPTS, {"idle_timeout": SHORT}
    for frame in range(FRAMES):
        yield Case(f"reset after frame {frame}", container(faults.ConnectionReset(frame)), lost, tried)
        yield Case(f"closed after frame {frame}", container(faults.ServiceRestart(frame)), lost, tried)
    yield Case("reset once", container(faults.ConnectionReset(3), 1), None, 2, 1)
    for end in ENDS:
        yield Case(f"{end} before the acknowledgement", network("conversation", NetworkFault(0, end)), lost, tried)
        yield Case(f"{end} inside a frame", network("conversation", NetworkFault(50, end)), lost, tried)
    for frame in (0, 1, FRAMES - 1):
        yield Case(f"silence after frame {frame}", container(faults.Silence(frame)), IdleTimeoutError, limits=idle)
    yield Case(
        "silence inside a frame", network("conversation", NetworkFault(50, "hold")), IdleTimeoutError, limits=idle
    )
    yield Case(
        "nothing but keepalives",
        container(faults.Silence(1, keepalives=True)),
        IdleTimeoutError,
        limits={"idle_timeout": SHORT, "job_timeout": 2 * SHORT},
    )
    yield Case("blocked loop", container(faults.BlockedLoop(30.0)), IdleTimeoutError, limits=idle)
    yield Case("blocked loop within the limit", container(faults.BlockedLoop(0.3)), None, 1, 1)
    yield Case("frames in slow motion", network("conversation", NetworkFault(rate=4000.0)), None, 1, 1)


def frames() -> Iterator[Case]:
    """Invalid frames, and invalid results."""
    for name, fault in (
        ("not JSON", faults.NOT_JSON),
        ("not an object", faults.NOT_AN_OBJECT),
        ("binary", faults.BINARY),
        ("100 MB", faults.HugeFrame(100 * 1000 * 1000)),
    ):
        yield Case(f"frame: {name}", container(fault), ProtocolError)
    yield Case("frame without a type", container(faults.WITHOUT_TYPE), None, 1, 1)
    yield Case("frame of an unknown type", container(faults.UNKNOWN_TYPE), None, 1, 1)
    yield Case("unknown name", container(faults.ExtraFrame(UNKNOWN_NAME, 0)), DatasetNotFoundError)
    yield Case("failed job", container(faults.JobFailure()), DatasetRetrievalError)
    yield Case("empty dataset", today(csv_of([])), EmptyDatasetError)


def pointers() -> Iterator[Case]:
    """Pointers that are wrong, or have no file."""
    tried = ATTEMPTS
    yield Case("wrong pointer", container(faults.WrongPointer()), ChecksumMismatchError, 1, tried)
    for status in (404, 500):
        refused = container(faults.RefusedDownload(status))
        yield Case(f"download: HTTP {status}", refused, ServiceUnavailableError, 1, tried)
    yield Case("404, then there", container(faults.RefusedDownload(404), 2), None, 1, 3)


def bodies(transport: Transport) -> Iterator[Case]:
    """Downloads that are cut or altered."""

    def case(name: str, arrange: Arrange, error: type[Exception] | None, downloads: int = ATTEMPTS) -> Case:
        # aiohttp by itself asks once more where a connection ends before any answer, without a wait.
        waits = min(downloads, ATTEMPTS) - 1
        return Case(f"{transport}: {name}", arrange, error, 1, downloads, {}, transport, waits)

    lost, altered = ServiceConnectionLostError, ChecksumMismatchError
    for end in ENDS:
        yield case(f"{end} instead of an answer", network("download", NetworkFault(-1, end)), lost, 2 * ATTEMPTS)
    for part in (0.0, 0.01, 0.5, 0.999):
        yield case(f"cut at {part:.1%}", container(faults.TruncatedBody(part)), lost)
        yield case(f"truncated at {part:.1%}", container(faults.TruncatedBody(part, close_delimited=True)), altered)
        for end in ENDS:
            passes = NetworkFault(int(SIZES[transport] * part), end)
            yield case(f"{end} at {part:.1%}", network("download", passes), lost)
    for where, offset in (("the first byte", 0), ("byte 40", 40), ("the middle", None)):
        yield case(f"one bit of {where} flipped", container(faults.FlippedBit(offset)), altered)
    yield case("one bit flipped once", container(faults.FlippedBit(), 1), None, 2)


def slow_bodies() -> Iterator[Case]:
    """Downloads that never end."""
    for passes in (-1, 0, len(CSV) // 2):
        hold = network("download", NetworkFault(passes, "hold"))
        yield Case(f"silence after {passes} bytes", hold, IdleTimeoutError, 1, 1, {"idle_timeout": LONG})
    late = network("download", NetworkFault(delay=30.0))
    yield Case("answer on its way for too long: download", late, IdleTimeoutError, 1, 1, {"idle_timeout": LONG})
    trickle = network("download", NetworkFault(rate=1000.0))
    yield Case("a trickle of bytes", trickle, IdleTimeoutError, 1, 1, {"transfer_timeout": LONG})


def contents() -> Iterator[Case]:
    """Bytes that arrive as announced, and are not what they should be."""
    for announced in (ROWS - 1, ROWS + 1, 0):
        wrong = container(faults.AnnouncedRows(announced))
        yield Case(f"{announced} rows announced", wrong, RowCountMismatchError, 1, 1)
    for where, at in (("the first row", 0), ("the middle", ROWS // 2), ("the last row", ROWS - 1)):
        for what, row in (("a word for a number", "x,y"), ("a field too many", "1,y,z"), ("a field too few", "1")):
            lines = rows()
            lines[at] = row
            yield Case(f"{where}: {what}", today(csv_of(lines)), SchemaMismatchError, 1, 1)
    yield Case("another column", today(CSV.replace("token", "t", 1)), SchemaMismatchError, 1, 1)


def _kind(case: Case) -> tuple[object, ...]:
    """What runs tell cases apart by: beyond that, how a pull ends is a matter of the client."""
    return case.error, case.conversations, case.downloads, tuple(case.limits), case.transport, case.others


CASES = [
    *handshakes(),
    *conversations(),
    *frames(),
    *pointers(),
    *bodies("csv"),
    *bodies("zip"),
    *slow_bodies(),
    *contents(),
]
_FIRST = {_kind(case): case for case in reversed(CASES)}
IN_RUNS = some_of(CASES, lambda case: _FIRST[_kind(case)] is case)
"""All cases, as parameters of tests that execute runs: `make test` has one case of each kind."""
