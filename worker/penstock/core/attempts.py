"""A record that kills the process, by a crash in native code or for want of memory, must not do so for ever.

A process that begins a partition says so beside the offset that the group has committed. Where it ends without a word
and without progress there, the next one finds that. After a few such ends records go one by one, and each is named just
before it is touched; one that a few more processes have not survived becomes a dead letter. Pure.
"""

import re
from typing import NamedTuple

BEFORE_ALONE, BEFORE_LETTER = 3, 3
"""Ends without progress: until records go one by one, and until the one that was touched is given up."""

METADATA = re.compile(r"penstock attempts=(\d{1,9}) alone_until=(\d{1,18})( first)?")


class Mark(NamedTuple):
    """What is remembered beside a committed offset.

    ``attempts`` are the processes that have begun there, or touched the record there, and have not come further;
    records before ``alone_until`` go one by one. ``first`` says that the offset is a beginning: nothing had been
    committed.
    """

    attempts: int = 0
    alone_until: int = 0
    first: bool = False

    def __str__(self) -> str:
        """As the group keeps it; nothing where there is nothing to remember."""
        if not any(self):
            return ""
        return f"penstock attempts={self.attempts} alone_until={self.alone_until}" + (" first" if self.first else "")


def read_mark(metadata: str | None) -> Mark:
    """What another process has left; whatever else stands there says nothing."""
    found = METADATA.fullmatch(metadata or "")
    return Mark(int(found[1]), int(found[2]), found[3] is not None) if found else Mark()


def begun(left: Mark, offset: int, reach: int) -> Mark:
    """The mark of a process that begins at an offset; ``reach`` is how far behind it the culprit may be.

    One that goes on alone names no record yet.
    """
    if left.alone_until > offset:
        return left
    if left.attempts < BEFORE_ALONE:
        return left._replace(attempts=left.attempts + 1)
    return Mark(0, offset + reach, left.first)


def touched(mark: Mark) -> Mark:
    """The mark beside the offset of a record that goes alone, just before it is touched."""
    return mark._replace(attempts=mark.attempts + 1)


def is_culprit(left: Mark, offset: int) -> bool:
    """Whether the record at an offset has ended so many processes that it is given up."""
    return left.alone_until > offset and left.attempts >= BEFORE_LETTER


def passed(mark: Mark, offset: int) -> Mark:
    """The mark beside an offset to which the process has come."""
    return Mark(0, mark.alone_until) if mark.alone_until > offset else Mark()
