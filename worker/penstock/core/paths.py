"""Paths into a document's metadata: how they are written, and what they reach.

    metadata.section     metadata.author.name     metadata."file name"     metadata.parts[].weight

A name goes in quotes where it holds a dot, a space or a bracket. A dot goes through a list of objects: ``parts.weight``
is the weight of each part, as ``parts[].weight`` is; in a list of lists each ``[]`` goes one list deeper.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

LONGEST_NAME, MOST_STEPS, MOST_LISTS = 64, 8, 2
NAME = rf'[^\s."\\\[\]]{{1,{LONGEST_NAME}}}'
QUOTED = rf'"[^"\\]{{1,{LONGEST_NAME}}}"'
STEP = rf"({NAME}|{QUOTED})((\[\]){{0,{MOST_LISTS}}})"
METADATA = rf"metadata(\.{STEP}){{1,{MOST_STEPS}}}"
"""Nothing that means something to a store can stand in a name."""

HOW = (
    'metadata.<name>, metadata."a name" where it holds dots, spaces or brackets, metadata.<list>[].<name> in a list of '
    f"objects; at most {MOST_STEPS} names of {LONGEST_NAME} characters"
)


class Step(NamedTuple):
    """A name in an object, and how many lists to go through from what it names."""

    name: str
    lists: int = 0


Route = tuple[Step, ...]


def is_path(field: str) -> bool:
    """Whether it is one into the metadata."""
    return re.fullmatch(METADATA, field) is not None


@lru_cache(maxsize=4096)
def routes(field: str) -> tuple[Route, ...]:
    """The ways that a field may mean, from the payload's top: with and without a list at each dot that says nothing."""
    if not is_path(field):
        return ((Step(field),),)
    *inner, last = (Step(name.strip('"'), len(lists) // 2) for name, lists, _ in re.findall(STEP, field)[1:])
    choices = [(step,) if step.lists else (step, Step(step.name, 1)) for step in inner]
    return tuple((Step("metadata"), *chosen, last) for chosen in product(*choices))


def covers(declared: str, field: str) -> bool:
    """Whether every way of a field is one of the declared one's: then what is indexed for that serves it, too."""
    return set(routes(field)) <= set(routes(declared))


def reached(payload: Mapping[str, Any], field: str) -> Iterator[Any]:
    """The values that a document has there; a list that is the value itself comes as one."""
    for route in routes(field):
        yield from _follow(payload, route)


def _follow(value: Any, route: Route) -> Iterator[Any]:
    if not route:
        yield value
        return
    step, rest = route[0], route[1:]
    if not isinstance(value, Mapping) or step.name not in value:
        return
    found = [value[step.name]]
    for _ in range(step.lists):
        found = [element for outer in found if isinstance(outer, list) for element in outer]
    for each in found:
        yield from _follow(each, rest)
