"""A real S3 API server on loopback."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar
from urllib.parse import parse_qs

import boto3  # type: ignore[import-untyped]
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from fdtcc_dagster_tests.store_server import KEY, SECRET, StoreServer, served


class S3Server(StoreServer):
    """The server and the bucket of one test."""

    protocol = "s3"
    secrets: ClassVar[list[str]] = [KEY, SECRET]

    @property
    def plain(self) -> dict[str, str]:
        return {"key": KEY, "endpoint_url": self.endpoint}

    @property
    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    def create_bucket(self) -> None:
        self.client.create_bucket(Bucket=self.bucket)

    def buckets(self) -> list[str]:
        return [each["Name"] for each in self.client.list_buckets()["Buckets"]]

    def objects(self) -> dict[str, bytes]:
        found = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return {each["Key"].removeprefix("store/"): self.get(each["Key"]) for each in found}

    def get(self, key: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def put(self, name: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"store/{name}", Body=content)

    def uploads(self) -> list[str]:
        found = self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return [each["Key"] for each in found]

    def kind(self, environ: dict[str, Any]) -> str:
        query, method = (
            parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True),
            str(environ["REQUEST_METHOD"]),
        )
        if "partNumber" in query:
            return f"part {query['partNumber'][0]}"
        if "uploads" in query and method == "POST":
            return "create"
        if "uploadId" in query:
            return {"POST": "complete", "DELETE": "abort"}.get(method, method)
        return "put" if method == "PUT" else method


@contextmanager
def s3_server() -> Iterator[S3Server]:
    application, known = DomainDispatcherApplication(create_backend_app), S3Server("")

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answered: Iterable[bytes] | None = known.asked(environ, start_response)
        return application(environ, start_response) if answered is None else answered

    with served(serve) as known.endpoint:
        yield known
