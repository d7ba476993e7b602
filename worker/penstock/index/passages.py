"""Documents to the passages that are cut by themselves: those with headings at these. Pure."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from penstock.core.bodies import Heading, Section, sections, shared

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
    groups = list(_led(text, found))
    if len(groups) > most:
        counts = count([text[section.start : section.end] for section in found])
        groups = list(_packed(found, counts, size * PACKED))
    return [_passage(title, text, group) for group in groups if text[group.start : group.end].strip()]


def _led(text: str, found: Sequence[Section]) -> Iterator[Section]:
    """A section each; a heading with nothing under it goes with the section that follows."""
    begin = None
    for section in found:
        begin = section.start if begin is None else begin
        if "\n" in text[section.start : section.end].strip() or section is found[-1] or not section.headed:
            yield section._replace(start=begin)
            begin = None


def _packed(found: Sequence[Section], counts: Sequence[int], most: float) -> Iterator[Section]:
    """As many together as ``most`` tokens hold, under what their headings have in common."""
    group: list[Section] = []
    length = 0
    for section, tokens in zip(found, counts, strict=True):
        if group and length + tokens > most:
            yield _together(group)
            group, length = [], 0
        group.append(section)
        length += tokens
    if group:
        yield _together(group)


def _together(group: Sequence[Section]) -> Section:
    return Section(group[0].start, group[-1].end, shared(section.path for section in group), group[0].headed)


def _passage(title: str, text: str, section: Section) -> Passage:
    part = text[section.start : section.end]
    begin = section.start + len(part) - len(part.lstrip())
    return Passage(title, part.strip(), begin, section.path)
