"""One thing around every call of a port: waiting out outages, taking the time, and whatever comes next."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

P = TypeVar("P")
T = TypeVar("T")


class Around(Protocol):
    """What is done around a call; returns what the call returns, and may make it again."""

    def __call__(self, method: str, call: Callable[[], T], /) -> T:
        """``method`` is the name of the port's method."""


def around_calls(port: P, around: Around) -> P:
    """The same port, each of its methods but ``close`` called through ``around``; the rest is the port's own."""
    return cast(P, _AroundCalls(port, around))


class _AroundCalls:
    def __init__(self, port: object, around: Around) -> None:
        self._port, self._around = port, around

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._port, name)
        if name == "close" or not callable(attribute):
            return attribute

        def called(*given: Any, **named: Any) -> Any:
            return self._around(name, lambda: attribute(*given, **named))

        return called
