"""Values on the command line that are several, or one of several."""

from collections.abc import Mapping
from typing import TypeVar

from penstock.core.errors import Misconfigured

Choice = TypeVar("Choice", bound=str)


def names(listed: str) -> list[str]:
    """Separated by commas."""
    return [part.strip() for part in listed.split(",") if part.strip()]


def numbers(option: str, listed: str) -> list[int]:
    """Separated by commas; raises Misconfigured that names the ``option``."""
    try:
        return [int(part) for part in names(listed)]
    except ValueError:
        raise Misconfigured(f"{option} {listed!r}: numbers separated by commas, please") from None


def choice(option: str, name: str, choices: Mapping[str, Choice]) -> Choice:
    """Raises Misconfigured that names the ``option`` and what there is."""
    if name not in choices:
        raise Misconfigured(f"{option} {name}: choose of {', '.join(choices)}")
    return choices[name]
