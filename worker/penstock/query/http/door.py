"""What holds for every request, whatever it asks: to whom it is addressed, its id, and that HEAD has no body."""

import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from uuid import uuid4

from penstock.query.http.errors import Rejected

REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)

HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+|[0-9A-Fa-f:]+))(?::\d+)?", re.ASCII)
"""An address in brackets, or a name or an address, and a port."""

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Door:
    """Before an application. ``local``: it answers to local names only.

    Where no key is asked for, a page on the web may have its own name point to this machine and read, in a browser
    that runs here, what only this machine should (DNS rebinding); but it cannot choose the Host header.
    """

    app: App
    local: bool = False

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

        if self.local and not is_local(_header(scope, b"host")):
            refused = Rejected("forbidden", "without keys there are answers to localhost only: set http.api_keys")
            await refused.response()(scope, receive, named)
            return
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}  # the server, which knows better, sends no body
        await self.app(scope, receive, named)


def is_local(host: str) -> bool:
    """Whether a Host header, or a host that is listened on, names this machine and no other can reach it by that."""
    match = HOST.fullmatch(host)
    if match is None:
        return False
    name = match[1] or match[2]
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name.lower().rstrip(".") == "localhost"


def _header(scope: Scope, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), "")


def _request_id(given: str) -> str:
    """The client's own, if it is one that a log line can hold."""
    return given if REQUEST_ID.fullmatch(given) else f"req_{uuid4().hex}"
