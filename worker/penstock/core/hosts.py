"""Names of machines: whether one is this machine, and what a web page calls where it comes from."""

import re
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+|[0-9A-Fa-f:]+))(?::\d+)?", re.ASCII)
"""An address in brackets, or a name or an address, and a port."""

ORIGIN = re.compile(r"https?://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d+)?", re.ASCII)


def _name(host: str) -> str:
    """Without its port, in small letters; empty for what is none."""
    match = HOST.fullmatch(host)
    return (match[1] or match[2]).lower() if match else ""


def is_local(host: str) -> bool:
    """Whether a Host header, or a host that is listened on, names this machine and no other can reach it by that."""
    name = _name(host)
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name.rstrip(".") == "localhost"


def is_named(host: str, names: Sequence[str]) -> bool:
    """Whether a Host header says one of these names; localhost is any address of this machine."""
    return _name(host).rstrip(".") in names or ("localhost" in names and is_local(host))


def is_origin(text: str) -> bool:
    """Whether it is what browsers send as Origin: scheme, host in lower case, and a port that is not the usual one."""
    return ORIGIN.fullmatch(text) is not None


def leaks(url: str) -> bool:
    """Whether what is sent there can be read on its way: over plain http, to another machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return True  # who can tell
    return parts.scheme == "http" and not is_local(parts.netloc.rpartition("@")[2])
