"""Object stores on loopback: what the tests do with any of them, whose answers they can replace or delay."""

from __future__ import annotations

import os
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any, ClassVar

import dagster as dg
from werkzeug.serving import WSGIRequestHandler, make_server

KEY, SECRET = "key-of-the-tests", "secret-of-the-tests"
VARIABLE = "FDTCC_TESTS_STORE_SECRET"
"""The environment variable that has the secret."""
os.environ[VARIABLE] = SECRET

Answer = Callable[[dict[str, Any]], int | None]
"""Given a request's WSGI environment: None lets the server answer; a status is the answer instead."""
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass
class StoreServer(ABC):
    """A server, and the bucket of one test; what is asked of it here is not among the requests.

    Attributes:
        endpoint: Its URL.
        answer: What it answers to a request, in the place of the server.
        requests: The kind of each request so far, and the bytes of its body.
        bucket: The bucket, or the container.
    """

    endpoint: str
    answer: Answer = lambda _: None
    requests: list[tuple[str, int]] = field(default_factory=list)
    bucket: str = ""

    protocol: ClassVar[str]

    def begin(self) -> None:
        """Answer as the store does, from a new bucket."""
        self.answer, self.bucket = (lambda _: None), f"bucket-{uuid.uuid4().hex}"
        self.create_bucket()
        self.requests.clear()

    @property
    def base_dir(self) -> str:
        return f"{self.protocol}://{self.bucket}/store"

    @property
    def options(self) -> dict[str, Any]:
        """The storage options that lead to it."""
        return {**self.plain, **{name: dg.EnvVar(variable) for name, variable in self.secret.items()}}

    @property
    @abstractmethod
    def plain(self) -> dict[str, str]:
        """The options that anybody may see."""

    @property
    def secret(self) -> dict[str, str]:
        """The options that are secrets, each with its environment variable."""
        return {"secret": VARIABLE}

    @property
    def refused(self) -> dict[str, Any]:
        """Options instead of those by which it is reached, with credentials that it refuses."""
        raise NotImplementedError

    secrets: ClassVar[list[str]] = [SECRET]
    """What may be shown nowhere."""

    @abstractmethod
    def create_bucket(self) -> None: ...

    @abstractmethod
    def buckets(self) -> list[str]: ...

    @abstractmethod
    def objects(self) -> dict[str, bytes]:
        """The bucket's objects, without `store/` at their beginning."""

    @abstractmethod
    def put(self, name: str, content: bytes) -> None:
        """Put an object, whose name gets `store/` at its beginning."""

    @abstractmethod
    def uploads(self) -> list[str]:
        """The uploads that are neither completed nor aborted."""

    @abstractmethod
    def kind(self, environ: dict[str, Any]) -> str:
        """What a request of an upload is: put, create, part 1, …, complete, abort; or its method."""

    def asked(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes] | None:
        """Note a request, and answer it in the place of the server if a test wants that."""
        self.requests.append((self.kind(environ), int(environ.get("CONTENT_LENGTH") or 0)))
        status = self.answer(environ)
        if status is None:
            return None
        start_response(f"{status} Fault", [("Content-Length", "0"), ("Connection", "close")])
        return [b""]


class _Handler(WSGIRequestHandler):
    def log(self, *arguments: Any) -> None:
        pass

    def make_environ(self) -> dict[str, Any]:
        # As they were sent: in their WSGI form, a hyphen is the same as an underscore, and signatures are made of them.
        return {**super().make_environ(), "tests.headers": dict(self.headers.items())}


@contextmanager
def served(application: Application) -> Iterator[str]:
    """Serve an application on loopback; yields its URL."""
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Handler)
    thread = threading.Thread(target=server.serve_forever, name="store-server", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def passed_on(port: int, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Let the server at a port of loopback answer a request."""
    length = environ.get("CONTENT_LENGTH")
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        body = environ["wsgi.input"].read(int(length)) if length else None
        connection.request(environ["REQUEST_METHOD"], environ["RAW_URI"], body, environ["tests.headers"])
        answered = connection.getresponse()
        content = answered.read()
    finally:
        connection.close()
    hop_by_hop = ("connection", "keep-alive", "transfer-encoding")
    kept = [(name, value) for name, value in answered.getheaders() if name.lower() not in hop_by_hop]
    start_response(f"{answered.status} {answered.reason}", kept)
    return [content]


@contextmanager
def holding(store: StoreServer, phase: str, then: Callable[[], None]) -> Iterator[None]:
    """The server does not answer one phase of an upload; when it begins, something is done."""
    over = threading.Event()

    def answer(environ: dict[str, Any]) -> int | None:
        if store.kind(environ) != phase or over.is_set():
            return None
        then()
        over.wait(60)
        return 503

    store.answer = answer
    try:
        yield
    finally:
        over.set()
