"""An event loop in a thread of its own, and the HTTP server that lives in it, which is uvicorn."""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any, TypeVar

import uvicorn
import uvloop

from penstock.core.errors import Misconfigured
from penstock.query.http.protocol import BoundedHttpProtocol, Connections

T = TypeVar("T")

BACKLOG = 512
CLOSE_S = 2.0


class EventLoopThread:
    """Runs coroutines for threads that have no event loop."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="event-loop", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin, and do not wait."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result; raises what the coroutine raises."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """Cancel what is still running, and end the thread."""
        self.run(self._cancel())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @staticmethod
    async def _cancel() -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class HttpServer:
    """Serves an application until it is closed."""

    def __init__(
        self,
        event_loop: EventLoopThread,
        app: Callable[..., Any],
        host: str,
        port: int,
        drain_s: float,
        connections: Connections | None = None,
    ) -> None:
        """Serves an ASGI application from now on; ``drain_s`` is the time for what is under way when it is to end.

        Raises Misconfigured for an address that cannot be had.
        """
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            raise Misconfigured(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
        self.port: int = self._socket.getsockname()[1]
        protocol: Any = partial(BoundedHttpProtocol, connections=connections or Connections())
        quiet = uvicorn.Config(app, http=protocol, ws="none", lifespan="off", log_config=None, access_log=False)
        quiet.timeout_graceful_shutdown = max(1, int(drain_s))
        self._server = uvicorn.Server(quiet)
        self._served = event_loop.start(self._server.serve(sockets=[self._socket]))
        self._drain_s = drain_s

    def when_ended(self, callback: Callable[[], None]) -> None:
        """Have it told when it serves no more, for whatever reason."""
        self._served.add_done_callback(lambda _: callback())

    def leave(self) -> None:
        """Take no more requests, and do not wait for those that are under way."""
        self._server.should_exit = True

    def close(self) -> None:
        """Leave, and wait for what is under way; raises what ended it before."""
        self.leave()
        try:
            self._served.result(self._drain_s + CLOSE_S)
        except (TimeoutError, CancelledError):
            self._server.force_exit = True
        finally:
            self._socket.close()
