"""The filter language as Qdrant's conditions. Pure.

A query's own filter is one condition among those that must hold: whatever it says, it can only narrow.
"""

from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from qdrant_client import grpc

from penstock.core.filters import Filter, Range
from penstock.core.queries import Lookup

LARGEST_EXACT = 2**53
"""Beyond it doubles skip integers."""


def readable(lookup: Lookup) -> grpc.Filter:
    """The points that a query may see: of its tenant, as its filter says."""
    return living(lookup.tenant, lookup.now, *([] if lookup.filter is None else [_condition(lookup.filter)]))


def living(tenant: str, now: datetime, *more: grpc.Condition) -> grpc.Filter:
    """A tenant's points, but for tombstones and what has expired."""
    expired = grpc.DatetimeRange(lte=_moment(now))
    return grpc.Filter(
        must=[_field("tenant", match=grpc.Match(keyword=tenant)), *more],
        must_not=[
            _field("deleted", match=grpc.Match(boolean=True)),
            _field("expires_at", datetime_range=expired),
        ],
    )


def _condition(given: Filter) -> grpc.Condition:
    parts = [_condition(part) for part in given.parts]
    match given.operator:
        case "all":
            return grpc.Condition(filter=grpc.Filter(must=parts))
        case "any":
            return grpc.Condition(filter=grpc.Filter(should=parts))
        case "negated":
            return grpc.Condition(filter=grpc.Filter(must_not=parts))
    return _comparison(given.field or "", given)


def _comparison(key: str, given: Filter) -> grpc.Condition:
    if given.exists is not None:
        empty = grpc.Condition(is_empty=grpc.IsEmptyCondition(key=key))
        return grpc.Condition(filter=grpc.Filter(must_not=[empty])) if given.exists else empty
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
        case int() if abs(value) > LARGEST_EXACT:
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
