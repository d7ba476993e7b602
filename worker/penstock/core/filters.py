"""The filter language of queries: conditions on a document's metadata, joined by all, any and not.

    {"all": [{"field": "metadata.section", "any_of": ["games", "sound"]},
             {"field": "metadata.year", "range": {"gte": 2020}},
             {"not": {"field": "language", "equals": "de"}}]}

A list in the metadata meets a condition when one of its elements does. Stores translate this; ``matches`` says what
it means.
"""

import operator
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self, TypeGuard

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, model_validator

from penstock.core.documents import LARGEST_INTEGER
from penstock.core.errors import InvalidEvent
from penstock.core.moments import as_stored
from penstock.core.operands import Bound, Scalar, Some, Values, not_endless
from penstock.core.paths import HOW, covers, is_path, reached, routes

FieldType = Literal["keyword", "integer", "float", "bool", "datetime"]

BUILT_IN: Mapping[str, FieldType] = {"document": "keyword", "language": "keyword", "timestamp": "datetime"}
COMPARE = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}
DEEPEST = 8


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Range(_Part):
    """Bounds: all numbers, or all moments (RFC 3339 with a time zone)."""

    gt: Bound | None = None
    gte: Bound | None = None
    lt: Bound | None = None
    lte: Bound | None = None

    @property
    def bounds(self) -> dict[str, Any]:
        """Those that are given, by name."""
        return {name: bound for name in ("gt", "gte", "lt", "lte") if (bound := getattr(self, name)) is not None}

    @property
    def moments(self) -> bool:
        """Whether the bounds are moments."""
        return isinstance(next(iter(self.bounds.values())), datetime)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        kinds = {isinstance(bound, datetime) for bound in self.bounds.values()}
        if len(kinds) != 1:
            raise ValueError("a range has bounds (gt, gte, lt, lte): all numbers, or all RFC 3339 with a time zone")
        if not self.moments and any(abs(bound) > LARGEST_INTEGER for bound in self.bounds.values()):
            raise ValueError("beyond 2^53 - 1 stores compare numbers as doubles, which skip some: use equals or any_of")
        return self


class Filter(_Part):
    """One condition on a field, or a combination of filters."""

    field: str | None = None
    equals: Scalar | None = None
    any_of: Annotated[Values | None, BeforeValidator(not_endless)] = None
    range: Range | None = None
    exists: StrictBool | None = None
    all: Annotated[Some["Filter"] | None, BeforeValidator(not_endless)] = None
    any: Annotated[Some["Filter"] | None, BeforeValidator(not_endless)] = None
    negated: "Filter | None" = Field(default=None, alias="not")

    @property
    def operator(self) -> str:
        """Which of ``all``, ``any``, ``negated``, ``equals``, ``any_of``, ``range`` and ``exists`` this is."""
        return next(iter(self.model_fields_set - {"field"}))

    @property
    def parts(self) -> tuple["Filter", ...]:
        """The filters that this one combines."""
        return self.all or self.any or ((self.negated,) if self.negated else ())

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = {name for name in self.model_fields_set if getattr(self, name) is not None}
        if given != self.model_fields_set:
            raise ValueError("null is no condition; to ask for a missing field write exists: false")
        combines = given & {"all", "any", "negated"}
        compares = given & {"equals", "any_of", "range", "exists"}
        if len(combines) + len(compares) != 1 or bool(compares) != ("field" in given):
            raise ValueError("a filter is one of all, any, not, or a field with one of equals, any_of, range, exists")
        if self.field is not None and self.field not in BUILT_IN and not is_path(self.field):
            raise ValueError(f"there is no field {self.field[:80]!r}: {', '.join(BUILT_IN)}, or {HOW}")
        if isinstance(self.equals, float) and abs(self.equals) > LARGEST_INTEGER:
            raise ValueError(
                "numbers beyond 2^53 - 1 are found by equals as integers only: write one, without e or dot"
            )
        return self


def check(given: Filter, fields: Mapping[str, FieldType], most_conditions: int, most_values: int) -> None:
    """Raises InvalidEvent for a filter that is too large, or that names a field or a type that is not declared.

    ``fields`` are the declared ones below ``metadata``; where none is, every one may be used.
    """
    conditions = 0
    for condition, depth in _walk(given, 1):
        conditions += 0 if condition.field is None else len(routes(condition.field))
        if depth > DEEPEST:
            raise InvalidEvent(f"filter: nests deeper than {DEEPEST} levels")
        if conditions > most_conditions:
            raise InvalidEvent(
                f"filter: more than {most_conditions} conditions; a dot inside a path counts twice, a dot after [] once"
            )
        if condition.any_of is not None and len(condition.any_of) > most_values:
            raise InvalidEvent(f"filter: any_of has {len(condition.any_of)} values, at most {most_values} are allowed")
        if condition.field is not None:
            _check_type(condition, condition.field, fields)


def _check_type(condition: Filter, field: str, fields: Mapping[str, FieldType]) -> None:
    matching = (kind for name, kind in fields.items() if covers(f"metadata.{name}", field))
    declared = BUILT_IN.get(field) or next(matching, None)
    if declared is None and fields:
        known = ", ".join([*BUILT_IN, *(f"metadata.{name}" for name in fields)])
        raise InvalidEvent(f"filter: {field} is not declared as a field to filter by; there are {known}")
    if declared is not None and condition.exists is None and not _fits(condition, declared):
        raise InvalidEvent(
            f"filter: {field} is of type {declared}, which {condition.operator} with this value does not fit"
        )


def _fits(condition: Filter, declared: FieldType) -> bool:
    values = (
        condition.any_of if condition.any_of is not None else () if condition.equals is None else (condition.equals,)
    )
    if condition.range is not None:
        return declared in (("datetime",) if condition.range.moments else ("integer", "float"))
    match declared:
        case "keyword":
            return all(isinstance(value, str) for value in values)
        case "bool":
            return all(isinstance(value, bool) for value in values)
        case "integer":
            return all(isinstance(value, int) and not isinstance(value, bool) for value in values)
        case "float":
            return condition.any_of is None and all(_is_number(value) for value in values)
        case "datetime":
            return False


def _walk(given: Filter, depth: int) -> Iterator[tuple[Filter, int]]:
    yield given, depth
    for part in given.parts:
        yield from _walk(part, depth + 1)


def matches(given: Filter, payload: Mapping[str, Any]) -> bool:
    """Whether a document with these fields (``document``, ``language``, ``timestamp``, ``metadata``) meets it."""
    match given.operator:
        case "all":
            return all(matches(part, payload) for part in given.parts)
        case "any":
            return any(matches(part, payload) for part in given.parts)
        case "negated":
            return not matches(given.parts[0], payload)
    values = [value for value in reached(payload, given.field or "") if value is not None and value != []]
    if given.exists is not None:
        return given.exists == bool(values)
    elements = (element for value in values for element in (value if isinstance(value, list) else [value]))
    return any(_meets(given, element) for element in elements)


def _meets(given: Filter, value: Any) -> bool:
    if given.range is not None:
        return _within(given.range, value)
    wanted = given.any_of if given.any_of is not None else (given.equals,)
    if given.equals is not None and _is_number(given.equals):
        exact = abs(given.equals) <= LARGEST_INTEGER
        return (_is_number(value) if exact else isinstance(value, int)) and bool(value == given.equals)
    return any(type(value) is type(option) and value == option for option in wanted)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _within(wanted: Range, value: Any) -> bool:
    if wanted.moments:
        value = as_stored(value)
        if value is None:
            return False
    elif not _is_number(value):
        return False
    return all(COMPARE[name](value, bound) for name, bound in wanted.bounds.items())
