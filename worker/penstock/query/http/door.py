"""What holds for every request, whatever it asks: to whom it is addressed, its id, and that HEAD has no body."""

import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from penstock.core.hosts import is_named
from penstock.query.http.errors import Rejected

REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Door:
    """Before an application. It answers to ``names`` only, and to pages of these names or of ``origins``; none is any.

    Where no key is asked for, a page on the web may have its own name point to this machine and read, in a browser
    that runs here, what only this machine should (DNS rebinding); but it cannot choose the headers Host and Origin.
    """

    app: App
    names: Sequence[str] = ()
    origins: Sequence[str] = ()

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        name = _request_id(_header(scope, b"x-request-id"))

        async def named(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", name.encode())]
            await send(message)

        if self.names and (refused := self._foreign(scope)):
            await Rejected("forbidden", refused).response()(scope, receive, named)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # the server, which knows better, sends no body
        await self.app(scope, receive, named)

    def _foreign(self, scope: Scope) -> str:
        host, origin = _header(scope, b"host"), _header(scope, b"origin")
        if not is_named(host, self.names):
            return f"there are answers to {', '.join(self.names)} only: set http.hosts, or http.api_keys"
        allowed = "*" in self.origins or origin in self.origins or is_named(origin.partition("://")[2], self.names)
        return (
            "" if allowed or not origin else f"pages of {origin[:200]} may not ask here: name it in http.cors_origins"
        )


def _header(scope: Scope, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), "")


def _request_id(given: str) -> str:
    """The client's own, if it is one that a log line can hold."""
    return given if REQUEST_ID.fullmatch(given) else f"req_{uuid4().hex}"
