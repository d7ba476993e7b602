"""What holds for every request, whatever it asks: whom it is addressed to, and that HEAD is GET without a body."""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from penstock.query.http.errors import Rejected

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
        if scope["type"] == "http":
            if self.local and not is_local(_host(scope)):
                refused = Rejected("forbidden", "without keys there are answers to localhost only: set http.api_keys")
                await refused.response()(scope, receive, send)
                return
            if scope["method"] == "HEAD":
                scope = {**scope, "method": "GET"}  # the server, which knows better, sends no body
        await self.app(scope, receive, send)


def is_local(host: str) -> bool:
    """Whether a Host header, or a host that is listened on, names this machine and no other can reach it by that."""
    name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host
    name = name if name.count(":") > 1 else name.partition(":")[0]
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name.lower().rstrip(".") == "localhost"


def _host(scope: Scope) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
