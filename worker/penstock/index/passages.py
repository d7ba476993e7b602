"""Documents to the passages that are cut by themselves: those with headings at these. Pure."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from penstock.core.bodies import Heading, Section, sections, shared

TINY_SHARE = 16
"""A section that is shorter than 1/16 of a chunk, such as a heading alone, goes with what follows it."""

PACKED = 0.75
"""How full a chunk is made where a document has more sections than it may have chunks: titles need room, too."""


class Text(NamedTuple):
    """A document's text, with where its headings are."""

    title: str
    text: str
    headings: Sequence[Heading] = ()


class Passage(NamedTuple):
    """A part of a document that no chunk reaches beyond, where it begins, and the headings above it."""

    title: str
    text: str
    start: int = 0
    path: tuple[str, ...] = ()


def passages(document: Text, size: int, most: int, count: Callable[[Sequence[str]], Sequence[int]]) -> list[Passage]:
    """The passages of a document; ``count`` says how many tokens texts have, a chunk has ``size``.

    More than ``most`` of them are put together, as far as a chunk holds them.
    """
    title, text, headings = document
    if not headings:
        return [Passage(title, text)]
    found = sections(text, headings, title)
    counts = count([text[section.start : section.end] for section in found])
    groups = list(_grouped(found, counts, size // TINY_SHARE))
    if len(groups) > most:
        groups = list(_grouped(found, counts, size, size * PACKED))
    return [_passage(title, text, group) for group in groups if text[group[0].start : group[-1].end].strip()]


def _grouped(
    found: Sequence[Section], counts: Sequence[int], tiny: int, most: float = math.inf
) -> Iterator[list[Section]]:
    """Sections together as long as those in hand are ``tiny``, and with the next one no more than ``most``."""
    group: list[Section] = []
    length = 0
    for section, tokens in zip(found, counts, strict=True):
        if group and (length >= tiny or length + tokens > most):
            yield group
            group, length = [], 0
        group.append(section)
        length += tokens
    if group:
        yield group


def _passage(title: str, text: str, group: Sequence[Section]) -> Passage:
    """With the headings that all have in common, or those of the last where the others lead to it."""
    common, last = shared(section.path for section in group), group[-1].path
    path = last if all(section.path == last[: len(section.path)] for section in group) else common
    part = text[group[0].start : group[-1].end]
    begin = len(part) - len(part.lstrip())
    return Passage(title, part.strip(), group[0].start + begin, path)
