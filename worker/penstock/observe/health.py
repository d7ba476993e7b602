"""Whether a worker lives and is ready, over HTTP: what Kubernetes asks. Says nothing of Kafka and Qdrant."""

import os
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from penstock.observe.page import Page

JSON, TEXT, HTML = b"application/json", b"text/plain; charset=utf-8", b"text/html; charset=utf-8"

LOOP = "loop"
"""The name of the one there is in most workers."""


@dataclass(slots=True)
class Health:
    """``stall_s`` is the longest that the loop may take for a turn, ``hang_s`` that work which waits for nobody may.

    An outage of a service is no reason for a restart: the loop turns while it waits. One that does not turn is
    stuck, and so is one whose forward pass does not end. ``silent`` tells what has given no sign of life for
    longest, and how many seconds. ``metrics`` makes body and content type from an Accept header. ``page`` is at the
    root, if there is one. ``started`` is set once the models are loaded, ``ready`` once the collection is open, too.
    """

    stall_s: float = 45.0
    hang_s: float = 300.0
    metrics: Callable[[str], tuple[bytes, str]] = lambda _: (b"", TEXT.decode())
    clock: Callable[[], float] = time.monotonic
    silent: Callable[[], tuple[str, float]] = lambda: ("", 0.0)
    page: Page | None = None
    started: bool = False
    ready: bool = False
    _turned: dict[str, float] = field(default_factory=dict, init=False)

    def turn(self, loop: str = LOOP) -> None:
        """The loop has turned; there may be several, each with a name."""
        self._turned[loop] = self.clock()

    def ended(self, loop: str) -> None:
        """It will turn no more, and need not."""
        self._turned.pop(loop, None)

    @property
    def stalled_s(self) -> float:
        """Seconds since the last turn, of the loop whose turn is longest ago; 0 before the first."""
        turned = list(self._turned.values())
        return self.clock() - min(turned) if turned else 0.0

    async def __call__(
        self, scope: Any, _: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """An ASGI application."""
        accept = b",".join(value for name, value in scope["headers"] if name == b"accept")
        status, body, kind = self.answer(scope["path"], accept.decode("latin-1"))
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        if self.page and kind == HTML:
            headers += [
                (b"content-security-policy", self.page.policy.encode()),
                (b"x-content-type-options", b"nosniff"),
            ]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def answer(self, path: str, accept: str = "") -> tuple[int, bytes, bytes]:
        """Status, body and content type."""
        match path:
            case "/healthz":
                return *self._alive(), JSON
            case "/startz" | "/readyz":
                word, true = ("started", self.started) if path == "/startz" else ("ready", self.ready)
                return 200 if true else 503, f'{{"{word}":{str(true).lower()}}}'.encode(), JSON
            case "/metrics":
                body, kind = self.metrics(accept)
                return 200, body, kind.encode()
            case "/" if self.page:
                return 200, self.page.html.encode(), HTML
            case _:
                return 404, b"/healthz, /startz, /readyz and /metrics are here\n", TEXT

    def _alive(self) -> tuple[int, bytes]:
        where, silent_s = self.silent()
        if self.stalled_s >= self.stall_s:
            return 503, _stuck("loop", self.stalled_s)
        if silent_s >= self.hang_s:
            return 503, _stuck(where, silent_s)
        return 200, b'{"status":"alive"}'


def _stuck(where: str, seconds: float) -> bytes:
    return f'{{"status":"stuck","where":"{where}","seconds":{seconds:.0f}}}'.encode()


def main(environment: Mapping[str, str]) -> int:
    """What a container asks of itself: 0 when a worker is alive on one of its ports, whichever kind it is."""
    ports = [environment.get("PENSTOCK_MONITOR__PORT"), environment.get("PENSTOCK_HTTP__PORT") or "8080"]
    for port in filter(None, ports):
        url = f"http://127.0.0.1:{port}/healthz"
        with suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:  # ourselves
            if answer.status == HTTPStatus.OK:
                return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(os.environ))
