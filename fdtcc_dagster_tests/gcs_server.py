"""A server of Google's object store on loopback: `gcp-storage-emulator`, and what it lacks of uploads in parts."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import HTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qs
from urllib.request import Request, urlopen

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from gcp_storage_emulator.handlers import buckets
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage

from fdtcc_dagster_tests.store_server import SECRET, StoreServer, passed_on, served

# Before gcsfs is imported: it would ask a server of Google for the kind of each bucket, by gRPC.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"


class GcsServer(StoreServer):
    """The server and the bucket of one test."""

    protocol = "gs"
    storage: Any
    """The emulator's."""
    port: int
    accounts: dict[str, Path]
    """The files of two service accounts, `known` and `refused`: a run exchanges their keys for access tokens."""

    @property
    def plain(self) -> dict[str, str]:
        return {"endpoint_url": self.endpoint, "project": "tests", "token": str(self.accounts["known"])}

    @property
    def secret(self) -> dict[str, str]:
        return {}

    @property
    def refused(self) -> dict[str, Any]:
        return {"token": str(self.accounts["refused"])}

    def create_bucket(self) -> None:
        buckets.create_bucket(self.bucket, self.storage)

    def buckets(self) -> list[str]:
        return list(self.storage.buckets)

    def objects(self) -> dict[str, bytes]:
        names = list(self.storage.objects.get(self.bucket, {}))
        return {name.removeprefix("store/"): self.storage.get_file(self.bucket, name) for name in names}

    def put(self, name: str, content: bytes) -> None:
        url = f"http://127.0.0.1:{self.port}/upload/storage/v1/b/{self.bucket}/o?uploadType=media&name=store/{name}"
        headers = {"Content-Type": "application/octet-stream"}
        urlopen(Request(url, content, headers)).close()

    def uploads(self) -> list[str]:
        return [each["name"] for each in self.storage.resumable.values() if each["bucket"] == self.bucket]

    def kind(self, environ: dict[str, Any]) -> str:
        query, method = parse_qs(environ.get("QUERY_STRING", "")), str(environ["REQUEST_METHOD"])
        if "upload_id" not in query:
            return {"resumable": "create", "media": "put"}.get(query.get("uploadType", [""])[0], method)
        if method == "DELETE":
            return "abort"
        first, last, size = map(int, re.findall(r"\d+", environ["HTTP_CONTENT_RANGE"]))
        # All parts but the last one have the same size.
        return "complete" if last + 1 == size else f"part {1 + first // (last + 1 - first)}"

    def abort(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Cancel an upload as Google does, which the emulator does not know."""
        (upload,) = parse_qs(environ["QUERY_STRING"])["upload_id"]
        found = self.storage.resumable.pop(upload, None)
        start_response("404 Not Found" if found is None else "499 Client Closed Request", [("Content-Length", "0")])
        return [b""]


def service_account(path: Path, token_uri: str) -> Path:
    """Write the file of an account whose access tokens are given at a URL."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    account = {
        "type": "service_account",
        "client_email": "tests@tests.iam.gserviceaccount.com",
        "private_key": key.decode(),
        "token_uri": token_uri,
    }
    path.write_text(json.dumps(account))
    return path


@contextmanager
def gcs_server() -> Iterator[GcsServer]:
    known = GcsServer("")
    known.storage = Storage(use_memory_fs=True)

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/token/refused":
            start_response("401 Unauthorized", [("Content-Type", "application/json")])
            return [b'{"error": "invalid_client"}']
        if environ["PATH_INFO"] == "/token/known":
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps({"access_token": SECRET, "token_type": "Bearer", "expires_in": 3600}).encode()]
        answered = known.asked(environ, start_response)
        if environ.get("HTTP_AUTHORIZATION") != f"Bearer {SECRET}":
            start_response("401 Unauthorized", [("Content-Length", "0")])
            return [b""]
        if answered is None and known.kind(environ) == "abort":
            return known.abort(environ, start_response)
        return passed_on(known.port, environ, start_response) if answered is None else answered

    with (
        HTTPServer(("127.0.0.1", 0), partial(RequestHandler, known.storage)) as emulator,
        served(serve) as known.endpoint,
        TemporaryDirectory() as directory,
    ):
        known.accounts = {
            name: service_account(Path(directory, name), f"{known.endpoint}/token/{name}")
            for name in ("known", "refused")
        }
        known.port = emulator.server_port
        thread = threading.Thread(target=emulator.serve_forever, name="gcs-emulator", daemon=True)
        thread.start()
        try:
            yield known
        finally:
            emulator.shutdown()
            thread.join()
