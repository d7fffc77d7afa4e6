"""The services of deploy/compose start as they are written, and store a partition through TLS and the proxy's token."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from fdtcc_dagster_tests.real_instance import wait_until
from fdtcc_dagster_tests.scale.compose import Composition, Published, composed

pytestmark = [pytest.mark.scale, pytest.mark.timeout(240)]

CURL = (
    "curl",
    "--silent",
    "--output",
    "/dev/null",
    "--write-out",
    "%{http_code}",
    "--cacert",
    "/run/secrets/tls_certificate",
)


@pytest.fixture
def composition() -> Iterator[Composition]:
    # Not pytest's own, which only its user can enter.
    with tempfile.TemporaryDirectory(prefix="compose-", ignore_cleanup_errors=True) as name:
        os.chmod(name, 0o755)  # noqa: S103
        with composed(Path(name)) as composition:
            yield composition


def test_a_partition_is_stored_through_tls_and_a_token(composition: Composition) -> None:
    instance = Published("http://127.0.0.1:3000", composition.directory, {"network": str(composition.network.pid)})
    run = instance.materialize("foundry", ["orders", "customers"], "2026-01-05")
    status = wait_until(lambda: instance.ended(run), 120, every=0.5)
    assert status == "SUCCESS", instance.log(run)
    parquet = composition.volume("parquet")
    orders = pl.read_parquet(parquet / "orders" / "2026-01-05.parquet")
    assert orders.rows()[1][:2] == (2, "Grace, Rear Admiral")
    assert pl.read_parquet(parquet / "customers" / "2026-01-05.parquet").height == 2
    assert os.listdir(composition.volume("spool")) == []
    assert composition.is_healthy("daemon")
    # Without the token nothing is answered, to whoever is in the same network.
    answered = composition.run("code", *CURL, "https://nginx:8443/fdtc-api/")
    assert (answered.returncode, answered.stdout) == (0, b"401")
