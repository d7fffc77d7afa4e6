"""A server of Azure's object store on loopback: Azurite."""

from __future__ import annotations

import base64
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs

import dagster as dg
from azure.storage.blob import BlobServiceClient

from fdtcc_dagster_tests.scale.services import program, running
from fdtcc_dagster_tests.store_server import StoreServer, passed_on, served

ACCOUNT = "tests"
ACCOUNT_KEY = base64.b64encode(b"key of the account of the tests").decode()
VARIABLE = "FDTCC_TESTS_AZURE"


def connection_string(endpoint: str, key: str = ACCOUNT_KEY) -> str:
    return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};BlobEndpoint={endpoint}/{ACCOUNT};"


class AzureServer(StoreServer):
    """The server and the container of one test."""

    protocol = "az"
    secrets: ClassVar[list[str]] = [ACCOUNT_KEY]
    port: int

    @property
    def plain(self) -> dict[str, str]:
        return {}

    @property
    def secret(self) -> dict[str, str]:
        os.environ[VARIABLE] = connection_string(self.endpoint)
        return {"connection_string": VARIABLE}

    @property
    def refused(self) -> dict[str, Any]:
        os.environ[f"{VARIABLE}_REFUSED"] = connection_string(self.endpoint, base64.b64encode(b"another").decode())
        return {"connection_string": dg.EnvVar(f"{VARIABLE}_REFUSED")}

    @property
    def client(self) -> BlobServiceClient:
        return BlobServiceClient.from_connection_string(connection_string(f"http://127.0.0.1:{self.port}"))

    def create_bucket(self) -> None:
        self.client.create_container(self.bucket)

    def buckets(self) -> list[str]:
        return [each.name for each in self.client.list_containers()]

    def objects(self) -> dict[str, bytes]:
        container = self.client.get_container_client(self.bucket)
        names = list(container.list_blob_names())
        return {name.removeprefix("store/"): container.download_blob(name).readall() for name in names}

    def put(self, name: str, content: bytes) -> None:
        self.client.get_blob_client(self.bucket, f"store/{name}").upload_blob(content, overwrite=True)

    def uploads(self) -> list[str]:
        # Azure has none: blocks that no list names are invisible, and go by themselves.
        return []

    def kind(self, environ: dict[str, Any]) -> str:
        query, method = parse_qs(environ.get("QUERY_STRING", "")), str(environ["REQUEST_METHOD"])
        if method != "PUT":
            return method
        if "blockid" in query:
            return f"part {int(base64.b64decode(query['blockid'][0]).decode().rpartition('-')[2]) + 1}"
        return "complete" if query.get("comp") == ["blocklist"] else "put"


@contextmanager
def azure_server() -> Iterator[AzureServer]:
    known = AzureServer("")

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answered = known.asked(environ, start_response)
        return passed_on(known.port, environ, start_response) if answered is None else answered

    options = ["--inMemoryPersistence", "--blobPort", "0", "--skipApiVersionCheck", "--disableTelemetry"]
    with tempfile.TemporaryDirectory() as name, served(serve) as known.endpoint:
        log = Path(name, "azurite.log")

        def listens() -> bool:
            found = re.search(r"listens on http://127\.0\.0\.1:(\d+)", log.read_text())
            if found:
                known.port = int(found[1])
            return found is not None

        environment = {**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{ACCOUNT_KEY}"}
        with running(
            [program("azurite-blob", "npm install --prefix .node --ignore-scripts azurite"), *options],
            log,
            listens,
            environment,
            cwd=name,
        ):
            yield known
