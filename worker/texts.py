"""Texts for the commands that are used by hand: arguments, or JSON lines on standard input."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from worker.errors import Misconfigured
from worker.types import Vector

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
        fault = _fault(line)
        if fault is None:
            portion.append(json.loads(line)["text"])
        if portion and (fault is not None or len(portion) == PORTION):
            yield portion
            portion = []
        if fault is not None:
            raise Misconfigured(f"standard input, line {number}: {fault}")
    if portion:
        yield portion


def _fault(line: bytes) -> str | None:
    try:
        value = json.loads(line)
    except ValueError as error:  # bytes that are not UTF-8 are one, too
        return f"no JSON: {error}"
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        return 'not {"text": "…"}'
    try:
        value["text"].encode()
    except UnicodeEncodeError:
        return "half of a surrogate pair is no character"
    return None


def vector_line(tokens: int, vector: Vector) -> str:
    """A text's vector as JSON, each number with as many digits as fp32 has."""
    numbers: Iterable[str] = (f"{number:.9g}" for number in vector.tolist())
    return f'{{"tokens": {tokens}, "vector": [{", ".join(numbers)}]}}'
