"""The filter language as Qdrant's conditions. Pure.

A query's own filter is one condition among those that must hold: whatever it says, it can only narrow.
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from qdrant_client import grpc

from penstock.core.documents import LARGEST_INTEGER
from penstock.core.filters import Filter, Range
from penstock.core.paths import Route, routes
from penstock.core.queries import Lookup

PLAIN = re.compile(r"[A-Za-z0-9_-]+")
"""Names that need no quotes, by the narrower of two rules: the server's letters are not all of Python's."""


def readable(lookup: Lookup) -> grpc.Filter:
    """The points that a query may see: of its tenant, as its filter says."""
    return living(lookup.tenant, lookup.now, *([] if lookup.filter is None else [_condition(lookup.filter)]))


def living(tenant: str, now: datetime, *more: grpc.Condition) -> grpc.Filter:
    """A tenant's points, but for tombstones and what has expired."""
    deleted = _field("deleted", match=grpc.Match(boolean=True))
    return grpc.Filter(must=[*of_tenant(tenant).must, *more], must_not=[deleted, expired(now)])


def expired(now: datetime) -> grpc.Condition:
    """What is past its time at that moment."""
    return _field("expires_at", datetime_range=grpc.DatetimeRange(lte=_moment(now)))


def of_tenant(tenant: str) -> grpc.Filter:
    """All points of a tenant."""
    return grpc.Filter(must=[_field("tenant", match=grpc.Match(keyword=tenant))])


def _condition(given: Filter) -> grpc.Condition:
    parts = [_condition(part) for part in given.parts]
    match given.operator:
        case "all":
            return grpc.Condition(filter=grpc.Filter(must=parts))
        case "any":
            return grpc.Condition(filter=grpc.Filter(should=parts))
        case "negated":
            return grpc.Condition(filter=grpc.Filter(must_not=parts))
    return _existence(given) if given.exists is not None else _any_way(given, lambda key: _comparison(key, given))


def keys(field: str) -> list[str]:
    """A field as Qdrant writes it: one key for each way that its path may go."""
    return [_key(route) for route in routes(field)]


def _key(route: Route) -> str:
    names = ((step.name if PLAIN.fullmatch(step.name) else f'"{step.name}"') + "[]" * step.lists for step in route)
    return ".".join(names)


def _any_way(given: Filter, condition: Callable[[str], grpc.Condition]) -> grpc.Condition:
    ways = [condition(key) for key in keys(given.field or "")]
    return ways[0] if len(ways) == 1 else grpc.Condition(filter=grpc.Filter(should=ways))


def _existence(given: Filter) -> grpc.Condition:
    empty = [grpc.Condition(is_empty=grpc.IsEmptyCondition(key=key)) for key in keys(given.field or "")]
    nowhere = empty[0] if len(empty) == 1 else grpc.Condition(filter=grpc.Filter(must=empty))
    return grpc.Condition(filter=grpc.Filter(must_not=[nowhere])) if given.exists else nowhere


def _comparison(key: str, given: Filter) -> grpc.Condition:
    if given.range is not None:
        return _range(key, given.range)
    if given.any_of is not None:
        return _field(key, match=_any_of(given.any_of))
    return _equals(key, given.equals)


def _any_of(values: tuple[Any, ...]) -> grpc.Match:
    if isinstance(values[0], str):
        return grpc.Match(keywords=grpc.RepeatedStrings(strings=values))
    return grpc.Match(integers=grpc.RepeatedIntegers(integers=values))


def _equals(key: str, value: Any) -> grpc.Condition:
    match value:
        case bool():
            return _field(key, match=grpc.Match(boolean=value))
        case int() if abs(value) > LARGEST_INTEGER:
            return _field(key, match=grpc.Match(integer=value))
        case int() | float():  # 2 and 2.0 are one number in JSON
            return _field(key, range=grpc.Range(gte=value, lte=value))
        case _:
            return _field(key, match=grpc.Match(keyword=value))


def _range(key: str, wanted: Range) -> grpc.Condition:
    if wanted.moments:
        moments = {name: _moment(bound) for name, bound in wanted.bounds.items()}
        return _field(key, datetime_range=grpc.DatetimeRange(**moments))
    return _field(key, range=grpc.Range(**wanted.bounds))


def _field(key: str, **condition: Any) -> grpc.Condition:
    return grpc.Condition(field=grpc.FieldCondition(key=key, **condition))


def _moment(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
