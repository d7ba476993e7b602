"""Texts for the commands that are used by hand: arguments, or JSON lines on standard input."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from penstock.core.errors import Misconfigured
from penstock.core.texts import text_of
from penstock.core.vectors import Vector

PORTION = 64
"""Texts that are worked on at a time, so that a long input streams through."""


def portions(arguments: Sequence[str], stream: TextIO | None = None) -> Iterator[list[str]]:
    """The texts in order, some at a time; raises Misconfigured at a line that is none, after what came before it."""
    if arguments:
        yield list(arguments)
        return
    stream = stream or sys.stdin
    if stream.isatty():
        raise Misconfigured('no texts: write them as arguments, or JSON lines {"text": "…"} on standard input')
    portion: list[str] = []
    for number, line in enumerate(stream.buffer, 1):
        if not line.strip():
            continue
        try:
            portion.append(text_of(line))
        except ValueError as error:
            if portion:
                yield portion
            raise Misconfigured(f"standard input, line {number}: {error}") from None
        if len(portion) == PORTION:
            yield portion
            portion = []
    if portion:
        yield portion


def vector_line(tokens: int, vector: Vector) -> str:
    """A text's vector as JSON, each number with as many digits as fp32 has."""
    numbers: Iterable[str] = (f"{number:.9g}" for number in vector.tolist())
    return f'{{"tokens": {tokens}, "vector": [{", ".join(numbers)}]}}'
