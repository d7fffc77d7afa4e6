"""A container that is killed in the middle of its work, and comes back or does not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass

import polars as pl
import pytest

from fdtcc_dagster.sandbox import SandboxContainer, faults
from fdtcc_dagster.sandbox.fault_hooks import Wire
from fdtcc_dagster_tests.faults.scene import FRAME
from fdtcc_dagster_tests.faults.site import LIVE, PREVIOUS, FaultySite
from fdtcc_dagster_tests.site import failure_of


def kill(container: SandboxContainer, back: bool) -> None:
    """Kill the container from outside of its loop, and start it again on the same port."""

    def restart() -> None:
        container.stop()
        if back:
            container.start()

    threading.Thread(target=restart).start()


@dataclass(frozen=True)
class KilledInJob(faults.ConversationFault):
    container: SandboxContainer
    back: bool

    async def after_frame(self, wire: Wire, number: int) -> None:
        if number == 4:
            kill(self.container, self.back)
            await asyncio.Event().wait()


@dataclass(frozen=True)
class KilledInBody(faults.BodyFault):
    container: SandboxContainer
    back: bool

    async def alter(self, chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield chunk[: size // 2]
            kill(self.container, self.back)
            await asyncio.Event().wait()


@pytest.mark.parametrize(("fault", "conversations"), [(KilledInJob, 2), (KilledInBody, 1)])
def test_a_container_that_comes_back_is_asked_again(
    site: FaultySite, fault: type[KilledInJob | KilledInBody], conversations: int
) -> None:
    site.store_previous()
    site.scene.inject(fault(site.scene.container, back=True), 1)
    # As long as it is away, attempts fail at once.
    assert site.pull([LIVE], attempts=500).success
    assert len(site.scene.container.requests) == conversations
    assert sum(site.scene.container.downloads.values()) == 3 - conversations
    assert pl.read_parquet(site.path(LIVE)).equals(FRAME)


@pytest.mark.parametrize(
    ("fault", "error"),
    [(KilledInJob, "ServiceUnavailableError"), (KilledInBody, "ServiceConnectionLostError")],
)
def test_a_container_that_stays_away_fails_the_run(
    site: FaultySite, fault: type[KilledInJob | KilledInBody], error: str
) -> None:
    site.store_previous()
    site.scene.inject(fault(site.scene.container, back=False), 1)
    # The proxy accepts connections still, and resets them.
    assert f"{error}: dataset 'orders'" in failure_of(site.pull([LIVE]))
    assert site.contents() == {site.path(LIVE): PREVIOUS}
