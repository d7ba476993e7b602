"""What a document may hold beside its text: what every chunk of it repeats, and what a store takes. Pure."""

import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from penstock.core.errors import InvalidEvent

LONGEST_TITLE = 2000
DEEPEST_METADATA = 16
"""Levels; protobuf readers refuse messages nested deeper than 100, and one level of JSON takes up to three."""

_INT64 = range(-(2**63), 2**63)


def check_title(title: str) -> None:
    """Raises InvalidEvent for one that is too long."""
    if len(title) > LONGEST_TITLE:
        raise InvalidEvent(f"title has {len(title)} characters; at most {LONGEST_TITLE} are stored")


def check_size(metadata: Mapping[str, Any], most: int) -> None:
    """Raises InvalidEvent for metadata of more than so many bytes as JSON."""
    measured = len(json.dumps(metadata, ensure_ascii=False).encode())
    if measured > most:
        raise InvalidEvent(
            f"metadata has {measured} bytes, and every chunk repeats it; index.max_metadata_bytes is {most}"
        )


def check_metadata(value: JsonValue | Mapping[str, Any], path: str = "metadata", depth: int = 1) -> None:
    """Qdrant's payload takes finite doubles and 64-bit integers, and no deep nesting."""
    if isinstance(value, dict | list):
        if depth > DEEPEST_METADATA:
            raise InvalidEvent(f"{path[:80]} nests deeper than {DEEPEST_METADATA} levels")
        children = value.items() if isinstance(value, dict) else enumerate(value)
        for name, child in children:
            if isinstance(child, dict | list | int | float):
                check_metadata(child, f"{path}.{name}", depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidEvent(f"{path[:80]} is {value}, which JSON and Qdrant do not know")
    elif isinstance(value, int) and value not in _INT64:
        raise InvalidEvent(f"{path[:80]} does not fit into 64 bits")
