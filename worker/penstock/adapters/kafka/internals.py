"""Lets a broker finish its sentence before it hangs up: a mend of kafka-python 3.0.12, on which we pin.

A broker answers a wrong password and closes the connection right after. The library reads both at once when the machine
is busy, and then drops the answer: a wrong password would look like an outage, and be waited out for ever.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

Receive = Callable[[Any], tuple[bytes, Exception | None]]


def _data_first(receive: Receive) -> Receive:
    """What came before the end is delivered by itself; the end is found again by the next read."""

    @wraps(receive)
    def received(self: Any) -> tuple[bytes, Exception | None]:
        data, error = receive(self)
        return (data, None) if data else (data, error)

    return received


def heed() -> None:
    """Mend both transports, once."""
    for transport in (KafkaTCPTransport, KafkaSSLTransport):
        if not hasattr(transport._sock_recv, "__wrapped__"):  # noqa: SLF001  # the library offers no other place
            transport._sock_recv = _data_first(transport._sock_recv)  # noqa: SLF001
