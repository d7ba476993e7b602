"""HTTP connections of which nothing lasts for ever: heads, bodies that nobody wants, answers, and how many there are.

What uvicorn leaves open: a client that dribbles a byte now and then, before its request or after its answer, or that
reads its answer as slowly.
"""

import asyncio
import fcntl
import sys
import termios
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_S, HEAD_BYTES = 10.0, 64 << 10
"""For a request's line and headers."""

LINGER_S, LINGER_BYTES = 2.0, 4 << 20
"""For what is left of a body whose request has its answer: cut off at once, the client might not see the answer."""

WRITE_S, WRITE_BYTES = 30.0, 16 << 10
"""Within which a client takes so much of its answer, or all that is left of it."""

TOO_MANY = b'{"error": {"message": "too many connections", "type": "busy", "param": null, "code": "busy"}}'
FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(TOO_MANY), TOO_MANY)
)


@dataclass(slots=True)
class Connections:
    """How many there may be, in all and from one address."""

    most: int = 1024
    most_per_address: int = 256
    _by_address: Counter[str] = field(default_factory=Counter)

    @property
    def open(self) -> int:
        """How many there are."""
        return self._by_address.total()

    def enter(self, address: str) -> bool:
        """Whether there is room for one more from there; what enters leaves."""
        if self.open >= self.most or self._by_address[address] >= self.most_per_address:
            return False
        self._by_address[address] += 1
        return True

    def leave(self, address: str) -> None:
        """One less."""
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. At any time it awaits one thing at most, until a deadline at which it is closed."""

    _deadline: asyncio.TimerHandle | None = None
    _watched: asyncio.TimerHandle | None = None
    _in_head = _lingers = False
    _bytes = _requests = 0
    _before = (-1, 0)
    """Requests that had their answer, and bytes that were unsent, when it was looked last; -1 for none unsent."""
    _address: str | None = None

    def __init__(self, *given: Any, connections: Connections, **named: Any) -> None:
        super().__init__(*given, **named)
        self._connections = connections

    def connection_made(self, transport: Any) -> None:
        """The first head is awaited."""
        super().connection_made(transport)
        self._watched = self.loop.call_later(WRITE_S, self._watch)
        address = self.client[0] if self.client else ""
        if self._connections.enter(address):
            self._address = address
            self._await_head()
        else:
            transport.write(FULL)
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Closes the connection where a head, or what nobody reads, goes on and on."""
        if self.transport.is_closing():
            return
        awaited = self._deadline
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._deadline is None and self._idle:
            self._await_head()
        elif awaited is not None and self._deadline is awaited:
            self._bytes += len(data)
            if self._bytes > (LINGER_BYTES if self._lingers else HEAD_BYTES):
                self.transport.close()

    def on_message_begin(self) -> None:
        """Another request on the same connection."""
        super().on_message_begin()
        self._in_head = True
        if self._deadline is None:
            self._await_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of the head; what follows a body (trailers) nobody reads."""
        if self._in_head:
            super().on_header(name, value)
            return
        self._bytes += len(name) + len(value)
        if self._bytes > HEAD_BYTES:
            self.transport.abort()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._in_head = False
        self._await_nothing()
        self._bytes = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is there; where its answer came before, the next head may come."""
        super().on_message_complete()
        if self._lingers:
            self._await_nothing()
            self._await_head()

    def on_response_complete(self) -> None:
        """What is left of the body is thrown away, for a moment."""
        unread = self.cycle.more_body and not self.pipeline
        self._requests += 1
        super().on_response_complete()
        if unread and not self.transport.is_closing():
            self._lingers = True
            self._await(LINGER_S, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more is awaited."""
        self._await_nothing()
        if self._watched is not None:
            self._watched.cancel()
        if self._address is not None:
            self._connections.leave(self._address)
            self._address = None
        super().connection_lost(exc)

    @property
    def _idle(self) -> bool:
        """Between two requests."""
        cycle: RequestResponseCycle | None = self.cycle
        return not self._in_head and (cycle is None or cycle.response_complete)

    def _await_head(self) -> None:
        self._await(HEAD_S, self._head_is_late)

    def _head_is_late(self) -> None:
        """Not where the next request waits for the answer to the one before: then nothing is read."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            self._await_head()
        else:
            self.transport.close()

    def _await(self, seconds: float, then: Callable[[], None]) -> None:
        self._bytes = 0
        self._deadline = self.loop.call_later(seconds, then)

    def _await_nothing(self) -> None:
        self._lingers = False
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None

    def _watch(self) -> None:
        """Whoever takes nothing, or next to nothing, of its answer is cut off, be the connection closing or not."""
        unsent = self.transport.get_write_buffer_size() and self._unsent()
        if unsent and self._requests == self._before[0] and unsent > self._before[1] - WRITE_BYTES:
            self.transport.abort()
            return
        self._before = (self._requests, unsent) if unsent else (-1, 0)
        self._watched = self.loop.call_later(WRITE_S, self._watch)

    def _unsent(self) -> int:
        """Bytes that the client has not taken, here and in the kernel, which may hold megabytes."""
        queued = bytearray(4)
        with suppress(OSError):  # the kernel does not say
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, queued)
        return self.transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)
