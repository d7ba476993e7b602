"""Calls of Qdrant's services: each ends in time, and its failures are those that the worker knows."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import grpc as rpc
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse

from penstock.core.errors import Misconfigured, Missing, Overdue, Refused, Unavailable

T = TypeVar("T")

OPTIONS: Mapping[str, Any] = {
    # else a connection that is made anew finds the old one's socket in the library's pool, and with it the black hole
    "grpc.use_local_subchannel_pool": 1,
    # the library's own pauses grow to two minutes: so long a server that is back would still be away
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 2000,
    # a connection whose other end went without a word looks alive for as long as nobody asks
    "grpc.keepalive_time_ms": 20_000,
    "grpc.keepalive_timeout_ms": 5_000,
}

OVERDUE_IN_A_ROW = 3
"""After so many calls without an answer the connection is made anew: what answers pings may still be a black hole."""

WRONG_REQUEST = (
    rpc.StatusCode.INVALID_ARGUMENT,
    rpc.StatusCode.OUT_OF_RANGE,
    rpc.StatusCode.ALREADY_EXISTS,
)
"""What is about the request. FAILED_PRECONDITION is not: a server that is locked for writes answers so."""

KEY_REFUSED = (rpc.StatusCode.UNAUTHENTICATED, rpc.StatusCode.PERMISSION_DENIED)

HEALTH_CHECK = "HealthCheck"

UNTRUSTED = {
    "CERTIFICATE_VERIFY_FAILED": "the server's certificate has expired, or is of no authority that is trusted: correct "
    "PENSTOCK_QDRANT__CA_FILE, or the certificate",
    "Hostname Verification": "the server's certificate is for another name than that in PENSTOCK_QDRANT__URL",
}
"""What TLS says, within the details of UNAVAILABLE, of a certificate that no waiting will mend, and what to do."""


class Services(Protocol):
    """The services, over the network or in this process."""

    @property
    def points(self) -> Any:
        """The Points service."""

    @property
    def collections(self) -> Any:
        """The Collections service."""

    def version(self) -> str:
        """As the server tells it."""

    def renew(self) -> None:
        """Make the connection anew."""

    def close(self) -> None:
        """Release it."""


class Remote(Services):
    """A server's. Calls that are under way on a connection that is made anew fail, and are made again."""

    def __init__(self, connect: Callable[[], QdrantClient]) -> None:
        """Does not reach out yet."""
        self._connect, self._client = connect, connect()

    @property
    def points(self) -> Any:
        """Of the connection of the moment."""
        return self._client.grpc_points

    @property
    def collections(self) -> Any:
        """Of the connection of the moment."""
        return self._client.grpc_collections

    def version(self) -> str:
        """Asked anew each time."""
        return self._client.info().version

    def renew(self) -> None:
        """A new one first, so that no call finds none."""
        old, self._client = self._client, self._connect()
        old.close()

    def close(self) -> None:
        """Release the connection."""
        self._client.close()


class Channel:
    """Makes the calls of both services."""

    def __init__(self, services: Services, timeout_s: float) -> None:
        """``timeout_s`` is the longest wait for one answer."""
        self._services, self._timeout_s = services, timeout_s
        self._lock = threading.Lock()
        self._overdue = 0

    def service(self, name: str) -> Any:
        """``points`` or ``collections``: an object with the service's methods."""
        return _Service(self, name)

    def call(self, service: str, method: str, request: Any) -> Any:
        """The answer; raises what ``failure`` makes of an error."""
        during = f"{method} on {getattr(request, 'collection_name', '')}".removesuffix(" on ")
        return self._make(
            lambda: getattr(getattr(self._services, service), method)(request, timeout=self._timeout_s), during
        )

    def version(self) -> str:
        """The server's; raises as ``call``, but Misconfigured where what answers is no Qdrant."""
        return self._make(self._services.version, HEALTH_CHECK)

    def _make(self, call: Callable[[], T], during: str) -> T:
        try:
            answer = call()
        except (rpc.RpcError, ResourceExhaustedResponse) as error:
            meant = failure(error, during)
            self._count(overdue=isinstance(meant, Overdue))
            raise meant from error
        except (ValueError, RuntimeError) as error:
            if "closed" not in str(error):
                raise
            raise Unavailable(f"Qdrant: {during}: the connection is being made anew") from error
        self._count(overdue=False)
        return answer

    def _count(self, *, overdue: bool) -> None:
        with self._lock:
            self._overdue = self._overdue + 1 if overdue else 0
            if self._overdue < OVERDUE_IN_A_ROW:
                return
            self._overdue = 0
        self._services.renew()


class _Service:
    def __init__(self, channel: Channel, name: str) -> None:
        self._channel, self._name = channel, name

    def __getattr__(self, method: str) -> Callable[[Any], Any]:
        return lambda request: self._channel.call(self._name, method, request)


def failure(error: Any, during: str) -> Exception:
    """What an error of a call means for the worker: Unavailable and its kinds, Refused, or Misconfigured."""
    if isinstance(error, ResourceExhaustedResponse):
        return Unavailable(f"Qdrant: {during}: rate limit: {error}", error.retry_after_s)
    code, details = error.code(), (error.details() or "").splitlines() or [""]
    line = f"Qdrant: {during}: {code.name.lower()}: {details[0][:300]}"
    if remedy := _remedy(code, error.details() or "", during):
        return Misconfigured(f"{line}: {remedy}")
    if code == rpc.StatusCode.DEADLINE_EXCEEDED:
        return Overdue(line)
    if code == rpc.StatusCode.NOT_FOUND:
        return Missing(line)
    return Refused(line) if code in WRONG_REQUEST else Unavailable(line)


def _remedy(code: rpc.StatusCode, details: str, during: str) -> str:
    """What to correct, where waiting will not mend it."""
    if code in KEY_REFUSED:
        return "correct PENSTOCK_QDRANT__API_KEY, or what that key may do"
    if code == rpc.StatusCode.UNIMPLEMENTED and during == HEALTH_CHECK:
        return "what answers there is no Qdrant: correct PENSTOCK_QDRANT__URL or PENSTOCK_QDRANT__GRPC_PORT"
    return next((remedy for said, remedy in UNTRUSTED.items() if said in details), "")


@contextmanager
def about_no_document() -> Iterator[None]:
    """Where a refusal is about what the worker is set to do, and about no document: Misconfigured."""
    try:
        yield
    except Refused as error:
        raise Misconfigured(str(error)) from error
