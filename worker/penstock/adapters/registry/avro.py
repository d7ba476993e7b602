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


def avro_reader(schema: str, references: Sequence[str]) -> Callable[[bytes], Any]:
    """What reads values of a schema, which may name those it refers to; logical types become what JSON has for them."""
    named: dict[str, Any] = {}
    for reference in references:
        fastavro.parse_schema(json.loads(reference), named_schemas=named)
    parsed = fastavro.parse_schema(json.loads(schema), named_schemas=named)

    def read(payload: bytes) -> Any:
        stream = io.BytesIO(payload)
        value = fastavro.schemaless_reader(stream, parsed, None)
        if left := len(payload) - stream.tell():
            raise ValueError(f"{left} bytes are left over")
        return as_json(value)

    return read


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
