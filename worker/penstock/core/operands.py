"""What filters compare with, and how much of what is given there is read."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, TypeVar

from pydantic import Discriminator, Field, StrictBool, StrictFloat, StrictInt, StrictStr, Tag

from penstock.core.moments import Moment

T = TypeVar("T")

LONGEST_LIST = 5000
MOST_PARTS = 10_000
"""Elements of a filter, lists and objects together, that are read at all."""

_INT64 = range(-(2**63), 2**63)


def not_endless(value: object) -> object:
    """Ends the reading of a list that has too much in it: each element could be a fault to be told."""
    if isinstance(value, list) and len(value) > LONGEST_LIST:
        raise ValueError(f"{len(value)} elements; at most {LONGEST_LIST} are read")
    return value


def not_vast(value: object) -> object:
    """Ends the reading of a filter that has too much in it altogether, as ``not_endless`` does for one list."""
    left, parts = [value], 0
    while left:
        part = left.pop()
        inside = list(part.values()) if isinstance(part, Mapping) else part if isinstance(part, list) else []
        parts += len(inside)
        if parts > MOST_PARTS:
            raise ValueError(f"more than {MOST_PARTS} parts")
        left += inside
    return value


def _kind(bound: object) -> str:
    return "moment" if isinstance(bound, str | datetime) else "number"


def _kinds(values: object) -> str:
    """By the first of them."""
    listed = isinstance(values, list | tuple) and len(values) > 0
    return "words" if listed and isinstance(values[0], str) else "integers"  # type: ignore[index]  # it is listed


Integer = Annotated[StrictInt, Field(ge=_INT64.start, lt=_INT64.stop)]
Number = Integer | Annotated[StrictFloat, Field(allow_inf_nan=False)]
Word = Annotated[StrictStr, Field(max_length=1024)]
Scalar = StrictBool | Number | Word
Some = Annotated[tuple[T, ...], Field(min_length=1)]
Bound = Annotated[Annotated[Number, Tag("number")] | Annotated[Moment, Tag("moment")], Discriminator(_kind)]
"""What is wrong with one is said of the one kind that it seems to be; so, too, with values."""

Values = Annotated[
    Annotated[Some[Integer], Tag("integers")] | Annotated[Some[Word], Tag("words")], Discriminator(_kinds)
]
