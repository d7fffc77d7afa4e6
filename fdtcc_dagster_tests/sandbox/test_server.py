from __future__ import annotations

import hashlib
import io
import json
import zipfile

import aiohttp
import pytest

from fdtcc_dagster.sandbox import SandboxContainer
from fdtcc_dagster_tests.sandbox.wire import CSV, NOON, fetch

SHA = hashlib.sha256(CSV).hexdigest()
API = "/fdtc-api"


async def ask(container: SandboxContainer, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request(method, container.url + path, headers=headers) as response,
    ):
        return response.status, {key.lower(): value for key, value in response.headers.items()}, await response.read()


async def test_health_says_online(container: SandboxContainer) -> None:
    status, _, content = await ask(container, "GET", f"{API}/")
    answer = json.loads(content)
    assert status == 200
    assert answer["online"] is True
    assert isinstance(answer["message"], str)


async def test_csv_is_chunked_whole_and_plain_whatever_the_request_prefers(container: SandboxContainer) -> None:
    container.add_version("people", NOON, CSV)
    path = f"{API}/dataset/download/csv/{SHA}"
    status, headers, content = await ask(container, "GET", path, Range="bytes=5-", **{"Accept-Encoding": "gzip"})
    assert (status, content) == (200, CSV)
    assert headers["transfer-encoding"] == "chunked"
    assert not {"content-length", "etag", "content-encoding", "accept-ranges"} & headers.keys()
    assert container.downloads == {SHA: 1}


@pytest.mark.parametrize("kind", ["csv", "zip"])
async def test_head_of_a_download_is_not_allowed(container: SandboxContainer, kind: str) -> None:
    container.add_version("people", NOON, CSV)
    status, _, _ = await ask(container, "HEAD", f"{API}/dataset/download/{kind}/{SHA}")
    assert status == 405


async def test_bodies_of_many_chunks_arrive_unchanged(container: SandboxContainer) -> None:
    data = b"id\n" + b"".join(b"%d\n" % i for i in range(1_000_000))
    sha256 = container.add_version("numbers", NOON, data)
    assert sha256 == hashlib.sha256(data).hexdigest()
    assert await fetch(container, sha256) == (200, data)


async def test_zip_has_one_deflated_member_named_by_the_hash(container: SandboxContainer) -> None:
    """See docs/protocol.md#the-zip."""
    container.add_version("people", NOON, CSV * 100)
    sha256 = hashlib.sha256(CSV * 100).hexdigest()
    for _ in range(2):
        _, headers, content = await ask(container, "GET", f"{API}/dataset/download/zip/{sha256}")
        assert "content-length" not in headers
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            (member,) = archive.infolist()
            assert (member.filename, member.compress_type) == (f"{sha256}.csv", zipfile.ZIP_DEFLATED)
            assert archive.read(member) == CSV * 100


@pytest.mark.parametrize("kind", ["csv", "zip"])
@pytest.mark.parametrize("pointer", ["0" * 64, SHA.upper(), SHA[:-1], "..%2f..%2fetc%2fpasswd", SHA + "%00"])
async def test_what_is_not_a_pointer_of_a_version_is_404_with_a_detail(
    container: SandboxContainer, kind: str, pointer: str
) -> None:
    container.add_version("people", NOON, CSV)
    status, headers, content = await ask(container, "GET", f"{API}/dataset/download/{kind}/{pointer}")
    assert status == 404
    assert headers["content-type"].startswith("application/json")
    assert json.loads(content)["detail"]
    assert container.downloads == {}


async def test_live_data_has_no_pointer_before_it_was_pulled(container: SandboxContainer) -> None:
    assert container.set_live("people", CSV) == SHA
    assert (await fetch(container, SHA))[0] == 404


@pytest.mark.parametrize(
    ("endpoint", "status"),
    [
        ("versions", 500),
        ("download", 500),
        ("zip", 500),
        ("unzip", 500),
        ("list", 501),
        ("info", 501),
        ("delete", 501),
        ("delete/raw", 501),
        ("delete/zip", 501),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_all_other_endpoints_do_not_work(
    container: SandboxContainer, method: str, endpoint: str, status: int
) -> None:
    assert (await ask(container, method, f"{API}/dataset/{endpoint}"))[0] == status


async def test_unknown_path_is_404_with_a_detail(container: SandboxContainer) -> None:
    status, _, content = await ask(container, "GET", "/elsewhere")
    assert (status, json.loads(content)) == (404, {"detail": "Not Found"})
