"""Texts for the commands that are used by hand: arguments, or JSON lines on standard input."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from penstock.core.errors import Misconfigured
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
            portion.append(_text(line))
        except ValueError as error:
            if portion:
                yield portion
            raise Misconfigured(f"standard input, line {number}: {error}") from None
        if len(portion) == PORTION:
            yield portion
            portion = []
    if portion:
        yield portion


def _text(line: bytes) -> str:
    """Raises ValueError that says what the line is instead."""
    try:
        value = json.loads(line)
    except ValueError as error:  # bytes that are not UTF-8 are one, too
        raise ValueError(f"no JSON: {error}") from None
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        raise ValueError('not {"text": "…"}')  # noqa: TRY004  # told like the others
    text: str = value["text"]
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair is no character") from None
    return text


def vector_line(tokens: int, vector: Vector) -> str:
    """A text's vector as JSON, each number with as many digits as fp32 has."""
    numbers: Iterable[str] = (f"{number:.9g}" for number in vector.tolist())
    return f'{{"tokens": {tokens}, "vector": [{", ".join(numbers)}]}}'
