"""What an object store refuses for good, by the errors of the libraries; with S3's server see test_object_store.py."""

from __future__ import annotations

import aiohttp
import pytest
from botocore.exceptions import (  # type: ignore[import-untyped]
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
)
from upath import UPath

from fdtcc_dagster.failures import may_pass
from fdtcc_dagster.storage.store_errors import StoreRefusedError, refusals_explained

PATH = UPath("s3://bucket/numbers.parquet")


def s3_error(code: str, status: int) -> ClientError:
    answer = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "PutObject")


@pytest.mark.parametrize(
    "error",
    [s3_error("AccessDenied", 403), s3_error("ExpiredToken", 400), OSError("Forbidden: host\nno right")],
)
def test_credentials_that_are_refused_are_a_refusal(error: Exception) -> None:
    with pytest.raises(StoreRefusedError, match="refuses access") as caught, refusals_explained(PATH):
        raise error
    assert not may_pass(caught.value)


@pytest.mark.parametrize(
    "text", ["Forbidden: https://host?upload_id=hidden\nno right", "https://host?upload_id=hidden"]
)
def test_the_url_of_an_upload_is_not_shown(text: str) -> None:
    error = OSError(text) if text.startswith("Forbidden") else FileNotFoundError(text)
    with pytest.raises(StoreRefusedError) as caught, refusals_explained(PATH, puts=True):
        raise error
    assert caught.value.__suppress_context__
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url="https://host?upload_id=hidden"),
        ConnectionClosedError(endpoint_url="https://host?upload_id=hidden"),
        aiohttp.ServerDisconnectedError(),
    ],
)
def test_a_store_that_is_not_reached_may_be_reached_later(error: Exception) -> None:
    with pytest.raises(OSError, match="cannot be reached") as caught, refusals_explained(PATH, puts=True):
        raise error
    assert may_pass(caught.value)
    assert "hidden" not in str(caught.value)


def test_an_access_token_in_a_url_is_not_shown() -> None:
    """Before its first request, gcsfs asks for the expiry of a token, which is a part of the URL."""
    with pytest.raises(OSError, match="cannot be reached, or fails") as caught, refusals_explained(PATH):
        raise ConnectionError("Max retries exceeded with url: /tokeninfo?access_token=hidden")
    assert may_pass(caught.value)
    assert caught.value.__suppress_context__
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("error", [s3_error("SlowDown", 503), OSError("it broke"), FileNotFoundError("no object")])
def test_other_errors_stay_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, refusals_explained(PATH):
        raise error
    assert caught.value is error


def test_what_is_not_found_when_it_is_put_is_the_bucket_unless_it_is_the_upload() -> None:
    with pytest.raises(FileNotFoundError) as caught, refusals_explained(PATH, puts=True):
        raise FileNotFoundError from s3_error("NoSuchUpload", 404)
    assert may_pass(caught.value)
