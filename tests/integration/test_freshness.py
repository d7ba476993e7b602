"""The page of the index worker's monitor, in a real browser: what it says is what the metrics say."""

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from penstock.assembly.monitor import Monitor
from penstock.core.records import Batch, Outcome, Partition, Record
from penstock.core.work import Work
from penstock.query.http.server import EventLoopThread, HttpServer
from penstock.settings import MonitorSettings
from tests.integration.test_page import AXE, chromium

__all__ = ["chromium"]


def done(monitor: Monitor, ages_s: list[float], outcome: Outcome = Outcome.INDEXED) -> None:
    """A batch of records of these ages is searchable."""
    now_ms = int(time.time() * 1000)
    records = tuple(
        Record(Partition("wiki", 0), n, None, b"x", timestamp_ms=int(now_ms - age * 1000))
        for n, age in enumerate(ages_s)
    )
    work = Work(Batch(records, {}))
    for record in records:
        work.became(record, outcome)
    monitor.finished(work)


@pytest.fixture
def monitor() -> Iterator[tuple[Monitor, int]]:
    made, event_loop = Monitor.of(["wiki"], MonitorSettings()), EventLoopThread()
    with closing(event_loop), closing(HttpServer(event_loop, made.health, "127.0.0.1", 0, 1.0)) as server:
        yield made, server.port


def test_it_tells_documents_a_minute_lag_and_age_as_the_metrics_have_them(
    chromium: webdriver.Chrome, monitor: tuple[Monitor, int]
) -> None:
    watched, port = monitor
    done(watched, [25.0] * 95 + [500.0] * 5)
    done(watched, [25.0], Outcome.DEAD_LETTERED)
    chromium.get(f"http://127.0.0.1:{port}/")

    def told(name: str) -> str:
        found = chromium.find_elements(By.ID, name)
        return found[0].text if found else ""

    def until(true: Any) -> None:
        WebDriverWait(chromium, 20).until(lambda _: true())

    until(lambda: told("letters") == "1")
    assert (told("half"), told("most")) == ("30 s or less", "15 min or less")
    assert 24 <= float(told("newest").removesuffix(" s")) <= 40
    assert told("lag") == "0"
    done(watched, [1.0] * 50)
    until(lambda: told("rate") not in ("", "…", "0"))
    assert float(told("newest").removesuffix(" s")) < 20
    chromium.execute_script(AXE.read_text(encoding="utf-8"))
    found = chromium.execute_async_script("axe.run().then(arguments[0])")
    assert [one["id"] for one in found["violations"]] == []
    assert chromium.get_log("browser") == []  # type: ignore[no-untyped-call]
