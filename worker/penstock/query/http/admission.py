"""What every request passes before and after its work: keys, limits, deadlines, and errors in one form."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Request
from fastapi.responses import Response
from starlette.requests import ClientDisconnect

from penstock.core.errors import Unforeseen
from penstock.core.work import Interval
from penstock.observe.query_metrics import QueryMetrics
from penstock.observe.spans import HEADER, NoTracer, Tracer, request_failure, valid
from penstock.query.http.errors import Rejected, rejection, too_large
from penstock.query.http.places import Places

BODY_S = 10.0
"""Longest time for a request's body."""

LONGEST_LENGTH = 15
"""Digits of a body's length."""

CLIENT_GONE = 499
"""Nobody reads this status; it is for the metrics."""


Work = Callable[[bytes, str | None], Awaitable[Response]]
"""From a body, and the tenant of the key, to the response."""


class Keys:
    """Which tenant a key stands for. Only hashes are kept, so that looking one up tells nothing by its time."""

    def __init__(self, keys: Mapping[str, Sequence[str]]) -> None:
        """Keys by tenant; none at all means that none is asked for."""
        self._tenants = {_digest(key): tenant for tenant, secrets in keys.items() for key in secrets}

    def __bool__(self) -> bool:
        return bool(self._tenants)

    @property
    def several(self) -> bool:
        """Whether they are of more than one tenant."""
        return len(set(self._tenants.values())) > 1

    def tenant(self, request: Request) -> str | None:
        """The tenant of the request's key, None where no keys are asked for; raises Rejected."""
        if not self._tenants:
            return None
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        key = key.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")
        tenant = self._tenants.get(_digest(key))
        if tenant is None:
            reason = "the key is not known here" if key else "a key is needed"
            raise Rejected("unauthorized", f"{reason}: send it as Authorization: Bearer <key>")
        return tenant


@dataclass(frozen=True, slots=True)
class Admission:
    """Lets requests in, and their errors out."""

    keys: Keys
    metrics: QueryMetrics
    places: Places
    bug: Callable[[str, Exception], None]
    tracer: Tracer

    async def __call__(self, request: Request, endpoint: str, most_bytes: int, work: Work) -> Response:
        """The response of ``work``, given the body and the tenant of the key; when the client goes, it is cancelled.

        An answer tells its own span, with its steps.
        """
        came_ns, came_s = time.time_ns(), time.perf_counter()
        response = await self._admitted(request, endpoint, most_bytes, work)
        self.metrics.request(endpoint, response.status_code)
        if response.status_code < HTTPStatus.BAD_REQUEST or response.status_code >= CLIENT_GONE:
            parent = "" if isinstance(self.tracer, NoTracer) else valid(request.headers.get(HEADER, ""))
            self.metrics.took(endpoint, time.perf_counter() - came_s, parent)
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            took = Interval(came_ns, time.time_ns())
            self.tracer.emit(request_failure(endpoint, request.headers.get(HEADER, ""), took, response.status_code))
        return response

    async def _admitted(self, request: Request, endpoint: str, most_bytes: int, work: Work) -> Response:
        try:
            tenant = self.keys.tenant(request)
            body = await self._body(request, most_bytes)
            with self.places.taken(tenant or ""), self.metrics.under_way():
                return await _until_disconnected(request, work(body, tenant))
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)
        except Exception as error:  # noqa: BLE001  # one request's bug must not end the others
            return self.rejected(error, endpoint).response()

    def rejected(self, error: Exception, endpoint: str) -> Rejected:
        """What the client is told of a failure; a bug is logged, and told without its words."""
        if isinstance(error, Unforeseen):
            self.metrics.unforeseen(endpoint)
            self.bug(endpoint, error)
        rejected = rejection(error)
        if rejected is None:
            self.bug(endpoint, error)
            rejected = Rejected("internal", "this is a bug; the worker's log has more")
        return rejected

    async def _body(self, request: Request, most_bytes: int) -> bytes:
        told = request.headers.get("content-length", "")
        length = int(told) if told.isdigit() and len(told) <= LONGEST_LENGTH else most_bytes
        if length > most_bytes or len(told) > LONGEST_LENGTH:
            raise too_large(most_bytes)
        body = bytearray()
        try:
            with self.places.room(length):
                async with asyncio.timeout(BODY_S):
                    async for part in request.stream():
                        body += part
                        if len(body) > most_bytes:
                            raise too_large(most_bytes)
        except TimeoutError:
            raise Rejected("too_slow", f"the body did not come within {BODY_S:g} s") from None
        return bytes(body)


async def _until_disconnected(request: Request, work: Awaitable[Response]) -> Response:
    """The work's response; raises ClientDisconnect, and the work is cancelled, when the client goes before."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for future in (task, gone):
            future.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
