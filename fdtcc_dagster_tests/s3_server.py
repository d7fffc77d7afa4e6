"""A real S3 API server on loopback, whose answers a test can replace or delay."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import boto3  # type: ignore[import-untyped]
import dagster as dg
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

KEY, SECRET = "key-of-the-tests", "secret-of-the-tests"
SECRET_VARIABLE = "FDTCC_TESTS_STORE_SECRET"  # noqa: S105 (a name)
os.environ[SECRET_VARIABLE] = SECRET

Answer = Callable[[dict[str, Any]], int | None]
"""Given a request's WSGI environment: None lets the server answer; a status is the answer instead."""


@dataclass
class S3Server:
    """The server and the bucket of one test.

    Attributes:
        endpoint: Its URL.
        answer: What it answers to a request, in the place of the server.
        requests: The kind of each request so far, and the bytes of its body.
        bucket: The bucket.
    """

    endpoint: str
    answer: Answer = lambda _: None
    requests: list[tuple[str, int]] = field(default_factory=list)
    bucket: str = ""

    def begin(self) -> None:
        """Answer as S3 does, from a new bucket."""
        self.answer, self.bucket = (lambda _: None), f"bucket-{uuid.uuid4().hex}"
        self.client.create_bucket(Bucket=self.bucket)
        self.requests.clear()

    @property
    def options(self) -> dict[str, Any]:
        return {"key": KEY, "secret": dg.EnvVar(SECRET_VARIABLE), "endpoint_url": self.endpoint}

    @property
    def base_dir(self) -> str:
        return f"s3://{self.bucket}/store"

    @property
    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    def objects(self) -> dict[str, bytes]:
        """The bucket's objects, without `store/` at their beginning."""
        found = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return {each["Key"].removeprefix("store/"): self.get(each["Key"]) for each in found}

    def get(self, key: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def put(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"store/{name}", Body=content)

    def uploads(self) -> list[str]:
        """The uploads that are neither completed nor aborted."""
        found = self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return [each["Key"] for each in found]


def kind(environ: dict[str, Any]) -> str:
    """What a request of an upload is: put, create, part 1, …, complete, abort; or its method."""
    query, method = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True), str(environ["REQUEST_METHOD"])
    if "partNumber" in query:
        return f"part {query['partNumber'][0]}"
    if "uploads" in query and method == "POST":
        return "create"
    if "uploadId" in query:
        return {"POST": "complete", "DELETE": "abort"}.get(method, method)
    return "put" if method == "PUT" else method


class _Silent(WSGIRequestHandler):
    def log(self, *arguments: Any) -> None:
        pass


@contextmanager
def s3_server() -> Iterator[S3Server]:
    application = DomainDispatcherApplication(create_backend_app)

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        known.requests.append((kind(environ), int(environ.get("CONTENT_LENGTH") or 0)))
        status = known.answer(environ)
        if status is None:
            answered: Iterable[bytes] = application(environ, start_response)
            return answered
        start_response(f"{status} Fault", [("Content-Length", "0"), ("Connection", "close")])
        return [b""]

    server = make_server("127.0.0.1", 0, serve, threaded=True, request_handler=_Silent)
    thread = threading.Thread(target=server.serve_forever, name="s3-server", daemon=True)
    known = S3Server(f"http://127.0.0.1:{server.server_port}")
    thread.start()
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def holding(s3: S3Server, phase: str, then: Callable[[], None]) -> Iterator[None]:
    """The server does not answer one phase of an upload; when it begins, something is done."""
    over = threading.Event()

    def answer(environ: dict[str, Any]) -> int | None:
        if kind(environ) != phase or over.is_set():
            return None
        then()
        over.wait(60)
        return 503

    s3.answer = answer
    try:
        yield
    finally:
        over.set()
