"""A stand-in for a Qdrant server: its gRPC API over the client's local mode, for several processes and for faults.

Run as ``python -m tests.store_server PORT [FOLDER]``. A real server takes its place when QDRANT_URL is set.
"""

import sys
import threading
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc as rpc
from qdrant_client.grpc.collections_service_pb2_grpc import CollectionsServicer, add_CollectionsServicer_to_server
from qdrant_client.grpc.points_service_pb2_grpc import PointsServicer, add_PointsServicer_to_server

from worker.adapters.qdrant.embedded import LocalError, LocalQdrant

Fault = Callable[[str, Any], rpc.StatusCode | None]
"""Given a method and its request, the error to answer with; ``after`` faults let the write happen first."""

LARGEST = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]


class StoreServer:
    """A server in this process. ``before`` and ``after`` may break each call."""

    def __init__(self, port: int = 0, folder: Path | None = None) -> None:
        self.local = LocalQdrant(folder)
        self.before: Fault = lambda _method, _request: None
        self.after: Fault = lambda _method, _request: None
        self._server = rpc.server(futures.ThreadPoolExecutor(8), options=LARGEST)
        points = self._service(PointsServicer, self.local.points)
        collections = self._service(CollectionsServicer, self.local.collections)
        add_PointsServicer_to_server(points, self._server)  # type: ignore[no-untyped-call]
        add_CollectionsServicer_to_server(collections, self._server)  # type: ignore[no-untyped-call]
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    def stop(self) -> None:
        """Refuse further calls."""
        self._server.stop(None).wait()

    def _service(self, base: Any, target: Any) -> Any:
        names = [name for name in dir(base) if hasattr(target, name) and name[0].isupper()]
        methods = {name: self._method(name, getattr(target, name)) for name in names}
        return type(base.__name__, (base,), methods)()

    def _method(self, name: str, action: Callable[[Any], Any]) -> Callable[[Any, Any, Any], Any]:
        def answer(_self: Any, request: Any, context: Any) -> Any:
            if code := self.before(name, request):
                context.abort(code, "a fault of the test")
            try:
                result = action(request)
            except LocalError as error:
                context.abort(error.code(), error.details())
            if code := self.after(name, request):
                context.abort(code, "a fault of the test")
            return result

        return answer


if __name__ == "__main__":
    server = StoreServer(int(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2:] else None)
    print(server.port, flush=True)
    threading.Event().wait()
