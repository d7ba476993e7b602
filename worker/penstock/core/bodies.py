"""A document's text with its structure: where headings are, and which lie above a place."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple


class Heading(NamedTuple):
    """A heading: where its line begins in the text, in code points, its level, 1 the highest, and how it begins."""

    start: int
    level: int
    text: str


class Body(NamedTuple):
    """Plain text that was something else; ``title`` is what the page calls itself."""

    text: str
    headings: tuple[Heading, ...] = ()
    title: str = ""


class Block(NamedTuple):
    """A part of a page: ``kind`` is h, p, li, dt, dd, pre or row; ``level`` that of a heading, else its depth."""

    kind: str
    level: int
    text: str


class Section(NamedTuple):
    """A part of a text under one heading: from ``start`` to ``end``, with the headings above it, the highest first.

    ``headed`` unless it comes before the first heading.
    """

    start: int
    end: int
    path: tuple[str, ...] = ()
    headed: bool = True


BodyReader = Callable[[str], Body]
"""Raises InvalidEvent for what cannot be read."""

LONGEST_HEADING = 200
"""Characters of a heading that are repeated with each chunk under it."""

CLOSE = frozenset(["li", "row", "dt", "dd"])
"""Kinds of blocks that follow each other without an empty line."""


def joined(title: str, blocks: Iterable[Block]) -> Body:
    """The blocks as one text, called by its first heading or, without any of level 1, by the ``title``."""
    parts: list[str] = []
    headings: list[Heading] = []
    length, before = 0, ""
    for kind, level, text in blocks:
        gap = "" if not parts else "\n" if kind in CLOSE and before in CLOSE else "\n\n"
        line = f"{'  ' * (level - 1)}- {text}" if kind == "li" else text
        if kind == "h":
            headings.append(Heading(length + len(gap), level, text[:LONGEST_HEADING]))
        parts += [gap, line]
        length, before = length + len(gap) + len(line), kind
    first = next((heading.text for heading in headings if heading.level == 1), "")
    return Body("".join(parts), tuple(headings), first or title)


def sections(text: str, headings: Sequence[Heading], title: str = "") -> list[Section]:
    """The text cut at its headings; a heading that is the ``title`` says nothing more and is in no path."""
    found: list[Section] = []
    above: list[Heading] = []
    path: tuple[str, ...] = ()
    begin = 0
    for heading in (*headings, None):
        end = len(text) if heading is None else heading.start
        if end > begin:
            found.append(Section(begin, end, path, bool(above)))
        if heading is not None:
            above = [one for one in above if one.level < heading.level] + [heading]
            called = title[:LONGEST_HEADING].casefold()
            path = tuple(one.text for one in above if one.text.casefold() != called)
            begin = end
    return found


def shared(paths: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """What paths have in common from their beginning."""
    found = list(paths)
    for length, names in enumerate(zip(*found, strict=False)):
        if len(set(names)) > 1:
            return found[0][:length]
    return min(found, key=len)
