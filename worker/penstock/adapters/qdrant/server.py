"""The embedded Qdrant for other processes of this machine: its services over gRPC, on loopback."""

from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc as rpc
from qdrant_client import grpc
from qdrant_client.grpc.collections_service_pb2_grpc import CollectionsServicer, add_CollectionsServicer_to_server
from qdrant_client.grpc.points_service_pb2_grpc import PointsServicer, add_PointsServicer_to_server
from qdrant_client.grpc.qdrant_pb2_grpc import QdrantServicer, add_QdrantServicer_to_server

from penstock.adapters.qdrant.embedded import LocalError, LocalQdrant

THREADS = 8
LARGEST = [("grpc.max_receive_message_length", 64 << 20), ("grpc.max_send_message_length", 64 << 20)]


class QdrantServer:
    """A server in this process. What the embedded Qdrant lacks is answered as unimplemented."""

    def __init__(self, local: LocalQdrant, port: int = 0, credentials: rpc.ServerCredentials | None = None) -> None:
        """Listens from now on; ``port`` 0 takes any that is free. ``credentials`` are those of TLS."""
        self.local = local
        self._server = rpc.server(futures.ThreadPoolExecutor(THREADS), options=LARGEST)
        points = self._service(PointsServicer, local.points)
        collections = self._service(CollectionsServicer, local.collections)
        add_PointsServicer_to_server(points, self._server)  # type: ignore[no-untyped-call]
        add_CollectionsServicer_to_server(collections, self._server)  # type: ignore[no-untyped-call]
        root = self._service(QdrantServicer, _Root(local))
        add_QdrantServicer_to_server(root, self._server)  # type: ignore[no-untyped-call]
        address = f"127.0.0.1:{port}"
        self.port: int = (
            self._server.add_secure_port(address, credentials)
            if credentials
            else self._server.add_insecure_port(address)
        )
        self._server.start()

    def stop(self) -> None:
        """Refuse further calls."""
        self._server.stop(None).wait()

    def call(self, _name: str, action: Callable[[Any], Any], request: Any, context: Any) -> Any:
        """The answer to one call."""
        try:
            return action(request)
        except LocalError as error:
            context.abort(error.code(), error.details())

    def _service(self, base: Any, target: Any) -> Any:
        names = [name for name in dir(base) if hasattr(target, name) and name[0].isupper()]
        return type(base.__name__, (base,), {name: self._method(name, getattr(target, name)) for name in names})()

    def _method(self, name: str, action: Callable[[Any], Any]) -> Callable[[Any, Any, Any], Any]:
        return lambda _service, request, context: self.call(name, action, request, context)


class _Root:
    """Qdrant's own service, which tells the version."""

    def __init__(self, local: LocalQdrant) -> None:
        self._local = local

    def HealthCheck(self, _request: Any) -> grpc.HealthCheckReply:  # noqa: N802  # named as in Qdrant's API
        return grpc.HealthCheckReply(title="penstock", version=self._local.version())
