"""A stand-in for a Qdrant server: its gRPC API over the client's local mode, for several processes and for faults.

Run as ``python -m tests.store_server PORT [FOLDER]``. A real server takes its place when QDRANT_URL is set.
"""

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc as rpc

from penstock.adapters.qdrant.embedded import LocalQdrant
from penstock.adapters.qdrant.server import QdrantServer

Fault = Callable[[str, Any], rpc.StatusCode | None]
"""Given a method and its request, the error to answer with; ``after`` faults let the write happen first."""

Change = Callable[[str, Any], Any]
"""Given a method and its answer, what is answered instead."""


class StoreServer(QdrantServer):
    """A server in this process, which remembers what it was asked.

    ``before`` and ``after`` may break each call, ``change`` its answer; ``retry_after`` goes with every error.
    """

    def __init__(self, port: int = 0, folder: Path | None = None) -> None:
        self.before: Fault = lambda _method, _request: None
        self.after: Fault = lambda _method, _request: None
        self.change: Change = lambda _method, answer: answer
        self.retry_after: int | None = None
        self.seen: list[tuple[str, Any]] = []
        super().__init__(LocalQdrant(folder), port)

    def call(self, name: str, action: Callable[[Any], Any], request: Any, context: Any) -> Any:
        """As in QdrantServer, with faults."""
        self.seen.append((name, request))
        if code := self.before(name, request):
            self._fail(code, context)
        result = super().call(name, action, request, context)
        if code := self.after(name, request):
            self._fail(code, context)
        return self.change(name, result)

    def asked(self, *names: str) -> list[Any]:
        """The requests of these methods."""
        return [request for name, request in self.seen if name in names]

    def _fail(self, code: rpc.StatusCode, context: Any) -> None:
        if self.retry_after is not None:
            context.set_trailing_metadata((("retry-after", str(self.retry_after)),))
        context.abort(code, "a fault of the test")


if __name__ == "__main__":
    server = StoreServer(int(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2:] else None)
    print(server.port, flush=True)
    threading.Event().wait()
