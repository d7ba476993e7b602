"""The port that a worker's health and metrics are served on."""

from collections.abc import Iterator
from contextlib import contextmanager

from penstock.observe.health import Health
from penstock.observe.log import log
from penstock.query.http.server import EventLoopThread, HttpServer
from penstock.settings import MonitorSettings

LEAVE_S = 1.0


@contextmanager
def served(health: Health, settings: MonitorSettings) -> Iterator[None]:
    """Answer on the port, if there is to be one; raises Misconfigured where it cannot be had."""
    if settings.port is None:
        yield
        return
    event_loop = EventLoopThread()
    try:
        server = HttpServer(event_loop, health, settings.host, settings.port, LEAVE_S)
        log.info("monitored", host=settings.host, port=server.port)
        try:
            yield
        finally:
            server.close()
    finally:
        event_loop.close()
