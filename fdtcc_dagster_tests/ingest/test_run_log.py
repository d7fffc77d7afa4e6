from __future__ import annotations

import logging

import pytest

from fdtcc_dagster.ingest import run_log
from fdtcc_dagster.ingest.run_log import PullLog


class Clock:
    """Stands for the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(run_log, "time", clock)
    return clock


@pytest.fixture
def pull_log(clock: Clock) -> PullLog:
    # Dagster's own logger passes nothing on to where a test could see it.
    return PullLog(logging.getLogger("run"), "2026-01-05: ")  # type: ignore[arg-type]  # a logger all the same


def said(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records]


def test_messages_are_shown_and_keepalives_thinned_out(
    clock: Clock, pull_log: PullLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pull_log.message({"type": "update", "success": True, "message": "Downloading all 5 rows"})
    pull_log.message({"type": "neutral", "success": False, "message": "No available versions found"})
    pull_log.message({"type": "update", "success": False, "message": "Failed to download"})
    for _ in range(20):  # one in fifty seconds, as the container sends them
        clock.now += 50
        pull_log.message({"type": "keepalive", "success": True, "message": "still there"})
    assert said(caplog) == [
        (logging.INFO, "2026-01-05: container: Downloading all 5 rows"),
        (logging.INFO, "2026-01-05: container: No available versions found"),
        (logging.WARNING, "2026-01-05: container: Failed to download"),
        (logging.INFO, "2026-01-05: container: still there (5 minutes so far)"),
        (logging.INFO, "2026-01-05: container: still there (10 minutes so far)"),
        (logging.INFO, "2026-01-05: container: still there (15 minutes so far)"),
    ]


def test_a_download_tells_its_bytes_and_rate_every_ten_seconds(
    clock: Clock, pull_log: PullLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for second in range(1, 26):
        clock.now += 1
        pull_log.progress(second * 80_000_000)
    assert said(caplog) == [
        (logging.INFO, "2026-01-05: 800 MB arrived, 80 MB/s"),
        (logging.INFO, "2026-01-05: 1,600 MB arrived, 80 MB/s"),
    ]


def test_a_flood_of_messages_is_thinned_out_and_counted(
    clock: Clock, pull_log: PullLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for number in range(20_000):
        clock.now += 0.01  # 200 seconds altogether
        kind = "update" if number % 3 else "client"  # a container may say anything
        pull_log.message({"type": kind, "success": number % 2 == 0, "message": f"\x1b[2J{number}\n" + "x" * 5000})
    pull_log.notice({"type": "client", "success": True, "message": "Waiting for another pull"})
    pull_log.end()
    pull_log.end()
    lines = [text.removeprefix("2026-01-05: ") for _, text in said(caplog)]
    counts = [int(line.split()[-1].replace(",", "")) for line in lines if line.startswith("Messages of the container")]
    shown = [line for line in lines if line.startswith(r"container: \x1b[2J")]
    assert 100 < len(shown) < 110
    assert len(shown) + sum(counts) == 20_000
    assert max(map(len, lines)) < 1_100
    assert "Waiting for another pull" in lines


def test_a_download_tells_its_rows_of_those_that_were_announced(
    clock: Clock, pull_log: PullLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pull_log.announced_rows = 2_500_000
    pull_log.progress(10_000)
    clock.now += 10
    pull_log.progress(40_000)  # too little to be worth a line
    pull_log.rows(1_250_000)
    clock.now += 21
    pull_log.progress(59_000_000)
    assert said(caplog) == [
        (logging.INFO, "2026-01-05: 59 MB arrived, 1,250,000 of 2,500,000 rows (50%), 1.8 MB/s"),
    ]


def test_the_last_message_of_a_conversation_is_not_shown(pull_log: PullLog, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    pull_log.message({"type": "final", "success": True, "message": "DONE"})
    assert said(caplog) == []
