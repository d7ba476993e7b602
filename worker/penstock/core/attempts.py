"""A record that kills the process, by a crash in native code or for want of memory, must not do so for ever.

A process that begins a partition says so beside the offset that the group has committed. Where it ends without a word
and without progress, the next one finds that. After a few such ends records go one by one, each with a commit of its
own, so that the offset names the culprit; after a few more that one becomes a dead letter. Pure.
"""

import re
from typing import NamedTuple

BEFORE_ALONE, BEFORE_LETTER = 3, 2
"""Ends without progress: until records go one by one, and until the one that they all met is given up."""

METADATA = re.compile(r"penstock attempts=(\d{1,9}) alone_until=(\d{1,18})")


class Mark(NamedTuple):
    """What is remembered beside a committed offset.

    ``attempts`` are the processes that have begun there and have not come further; records before ``alone_until`` go
    one by one.
    """

    attempts: int = 0
    alone_until: int = 0

    def __str__(self) -> str:
        """As the group keeps it; nothing where there is nothing to remember."""
        return f"penstock attempts={self.attempts} alone_until={self.alone_until}" if any(self) else ""


def read_mark(metadata: str | None) -> Mark:
    """What another process has left; whatever else stands there says nothing."""
    found = METADATA.fullmatch(metadata or "")
    return Mark(int(found[1]), int(found[2])) if found else Mark()


def begun(left: Mark, offset: int, reach: int) -> Mark:
    """The mark of a process that begins at an offset; ``reach`` is how far behind it the culprit may be."""
    if left.attempts < BEFORE_ALONE or left.alone_until > offset:
        return Mark(left.attempts + 1, left.alone_until)
    return Mark(1, offset + reach)


def is_culprit(left: Mark, offset: int) -> bool:
    """Whether the record at an offset has ended so many processes that it is given up."""
    return left.alone_until > offset and left.attempts >= BEFORE_LETTER


def passed(mark: Mark, offset: int) -> Mark:
    """The mark beside an offset to which the process has come: one that goes on alone begins there anew."""
    return Mark(1, mark.alone_until) if mark.alone_until > offset else Mark()
