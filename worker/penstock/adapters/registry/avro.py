"""Avro, by the schema that a value was written with."""

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import fastavro
from fastavro import _read_py

DEEPEST = 64


def avro_reader(schema: str, references: Sequence[str]) -> Callable[[bytes], Any]:
    """What reads values of a schema, which may name those it refers to; logical types become what JSON has for them."""
    named: dict[str, Any] = {}
    for reference in references:
        fastavro.parse_schema(json.loads(reference), named_schemas=named)
    parsed = fastavro.parse_schema(json.loads(schema), named_schemas=named)
    # compiled code that calls itself ends the process where a value nests too deep; Python's says so
    reader = _read_py if _Shape(named).recursive(parsed) else fastavro

    def read(payload: bytes) -> Any:
        stream = io.BytesIO(payload)
        value = reader.schemaless_reader(stream, parsed, None)
        if left := len(payload) - stream.tell():
            raise ValueError(f"{left} bytes are left over")
        return as_json(value)

    return read


class _Shape:
    """What a schema lets a value be; ``named`` are the types that it may name."""

    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named = named

    def recursive(self, schema: Any, within: tuple[str, ...] = ()) -> bool:
        """Whether a value can hold another of its own type. Raises ValueError for a list of nothing, without end."""
        kind = self._named.get(schema, schema) if isinstance(schema, str) else schema
        if isinstance(kind, list):
            return self._any(kind, within)
        if not isinstance(kind, dict):
            return False
        if "name" in kind:
            if kind["name"] in within:
                return True
            within = (*within, kind["name"])
        inner = [field["type"] for field in kind.get("fields", ())]
        if "items" in kind and self._empty(kind["items"]):
            raise ValueError("a list of items without any bytes could have any length")
        inner += [kind[part] for part in ("items", "values") if part in kind]
        if isinstance(kind.get("type"), dict | list):
            inner.append(kind["type"])
        return self._any(inner, within)

    def _any(self, kinds: Sequence[Any], within: tuple[str, ...]) -> bool:
        """Each is looked at: one of them may be refused."""
        return sum(self.recursive(kind, within) for kind in kinds) > 0

    def _empty(self, schema: Any, depth: int = 0) -> bool:
        kind = self._named.get(schema, schema) if isinstance(schema, str) else schema
        if kind == "null" or depth > DEEPEST:
            return True
        if not isinstance(kind, dict):
            return False
        if kind.get("type") in ("record", "error"):
            return all(self._empty(field["type"], depth + 1) for field in kind["fields"])
        return kind.get("type") == "null" or (kind.get("type") == "fixed" and kind["size"] == 0)


def as_json(value: Any) -> Any:
    """A value of Avro as JSON has it: moments as RFC 3339, decimals as numbers, bytes in Base64."""
    if isinstance(value, dict):
        return {name: as_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    plain = PLAIN.get(type(value))
    return plain(value) if plain else value


def _moment(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value.tzinfo else value.isoformat()


PLAIN: Mapping[type, Callable[[Any], Any]] = {
    datetime: _moment,
    date: date.isoformat,
    time: time.isoformat,
    Decimal: lambda value: int(value) if value == value.to_integral_value() else float(value),
    bytes: lambda value: base64.b64encode(value).decode(),
    UUID: str,
}
"""Of Avro's logical types, and of bytes."""
