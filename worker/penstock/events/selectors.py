"""Where in a record something stands, as a mapping says it: a path, or a template of several. Pure.

    title      author.name      tags.0      /file name/0      @key.id      @header.source      {region}:{number}

A dotted path goes through objects, by a number into a list, by a name into each object of a list. What begins with a
slash is a JSON pointer (RFC 6901), for names with dots in them. ``@`` begins what lies around the document's fields.
"""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from penstock.core.errors import InvalidEvent
from penstock.core.records import Record

AROUND = ("key", "header", "topic", "envelope")
HOW = (
    "a path like author.name, a JSON pointer like /author/name, @key, @key.name, @header.name, @topic, @envelope.name, "
    "or a template of these like {region}:{number}"
)
SHOWN = 60
EXTENDED = '{"$'
"""How an id begins that MongoDB writes as JSON."""

SAFE = re.compile("[^%0-9A-F]")
"""What escaped parts do not hold where it stands between them."""

PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")

Fields = Mapping[str, Any]
NONE: Fields = MappingProxyType({})


class Seen(NamedTuple):
    """What a selector looks at: a document's fields, and what lies around them."""

    fields: Any
    key: Any = None
    envelope: Fields = NONE
    record: Record | None = None


@dataclass(frozen=True, slots=True)
class Path:
    """One place; None stands for what is not there, and for null."""

    text: str
    origin: str
    steps: tuple[str, ...]

    def get(self, seen: Seen) -> Any:
        """What stands there."""
        match self.origin:
            case "":
                return _follow(seen.fields, self.steps)
            case "key":
                return _follow(seen.key, self.steps)
            case "envelope":
                return _follow(seen.envelope, self.steps)
        if seen.record is None:
            return None
        return seen.record.partition.topic if self.origin == "topic" else _header(seen.record, self.steps[0])

    @property
    def every(self) -> "tuple[Path, ...]":
        """Itself: a template has several."""
        return (self,)

    @property
    def names(self) -> frozenset[str]:
        """The document's own field that it reads."""
        return frozenset() if self.origin else frozenset(self.steps[:1])


@dataclass(frozen=True, slots=True)
class Template:
    """Several places joined: ``parts`` alternate between what stands between them and the places."""

    text: str
    literals: tuple[str, ...]
    paths: tuple[Path, ...] = field(default=())

    def get(self, seen: Seen) -> str | None:
        """The text with what is there in its places; None where nothing is."""
        values = [path.get(seen) for path in self.paths]
        if all(value is None for value in values):
            return None
        between = "\n" if "\n" in self.text else ", "
        filled = ["" if value is None else as_text(value, path.text, between) for value, path in self._pairs(values)]
        return self._joined(filled).strip()

    def identify(self, seen: Seen) -> str | None:
        """As an id: each part must be there, and none runs into the next, since what joins them is escaped in them."""
        values = [path.get(seen) for path in self.paths]
        if all(value is None for value in values):
            return None
        if missing := [path.text for value, path in self._pairs(values) if value is None]:
            raise InvalidEvent(f"there is no {missing[0]!r}, and every part of an id must be there")
        unsafe = "%" + "".join(self.literals[1:-1]) if len(self.paths) > 1 else ""
        return self._joined([_escaped(identifier(value, path.text), unsafe) for value, path in self._pairs(values)])

    def around(self, part: str) -> str:
        """The id by its only part; where it has several, what is given is all of it."""
        return part.join(self.literals) if len(self.paths) == 1 else part

    def within(self, whole: str) -> str:
        """The other way."""
        if len(self.paths) != 1:
            return whole
        first, last = self.literals
        return whole[len(first) : len(whole) - len(last)]

    @property
    def told_apart(self) -> bool:
        """Whether what stands between the places can tell their values apart: escaped ones hold no such character."""
        return all(SAFE.search(between) for between in self.literals[1:-1])

    @property
    def every(self) -> tuple[Path, ...]:
        """Its places."""
        return self.paths

    @property
    def names(self) -> frozenset[str]:
        """The document's own fields that it reads."""
        return frozenset(name for path in self.paths for name in path.names)

    def _pairs(self, values: list[Any]) -> list[tuple[Any, Path]]:
        return list(zip(values, self.paths, strict=True))

    def _joined(self, filled: list[str]) -> str:
        between = zip(self.literals[1:], filled, strict=True)
        return self.literals[0] + "".join(part + literal for literal, part in between)


Selector = Path | Template


@lru_cache(maxsize=1024)
def selector(text: str) -> Selector:
    """What a text selects; raises ValueError that says how one is written."""
    if text.startswith("/") or not re.search("[{}]", text):
        return _path(text)
    literals, paths, begin, literal = [], [], 0, ""
    for found in PART.finditer(text):
        literal += text[begin : found.start()]
        begin = found.end()
        if found[1] is None:
            literal += found[0][0]
            continue
        literals.append(literal)
        paths.append(_path(found[1].strip()))
        literal = ""
    literals.append(literal + text[begin:])
    if not paths or re.search("[{}]", PART.sub("", text)):
        raise ValueError(f"{text!r} is no template: {HOW}; a brace itself is written twice")
    return Template(text, tuple(literals), tuple(paths))


def identifier(value: Any, what: str = "id") -> str:
    """An id as text: texts as they are, whole numbers in digits, MongoDB's ids by what is in them."""
    if isinstance(value, str) and value.startswith(EXTENDED):
        with suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, Mapping) and len(value) == 1:
        (name, inner), *_ = value.items()
        if name in ("$oid", "$numberLong", "$numberInt", "$uuid") and isinstance(inner, str):
            return inner
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    raise InvalidEvent(f"{what} is {_kind(value)}, and an id is a text or a whole number")


def as_text(value: Any, what: str, between: str = "\n") -> str:
    """A value as text: numbers in digits, lists of these joined; raises InvalidEvent for objects."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list):
        return between.join(as_text(one, what, between) for one in value if one is not None)
    raise InvalidEvent(f"{what} is {_kind(value)}, no text")


def listed(fields: Any) -> str:
    """The names that there are, for who looks for one that is not."""
    if not isinstance(fields, Mapping):
        return f"{_kind(fields)}, no object"
    return ", ".join(str(name)[:SHOWN] for name in list(fields)[:12]) or "none"


def _path(text: str) -> Path:
    if not text:
        raise ValueError(f"an empty path: {HOW}")
    if not text.startswith("@"):
        return Path(text, "", _steps(text))
    origin, _, rest = text[1:].partition(".")
    if origin not in AROUND or (origin == "header" and not rest) or (origin == "topic" and rest):
        raise ValueError(f"{text!r} is none: {HOW}")
    if origin == "header":
        return Path(text, origin, (rest,))
    return Path(text, origin, _steps(rest) if rest else ())


def _steps(text: str) -> tuple[str, ...]:
    if text.startswith("/"):
        return tuple(step.replace("~1", "/").replace("~0", "~") for step in text[1:].split("/"))
    steps = tuple(text.split("."))
    if not all(step.strip() == step and step for step in steps):
        raise ValueError(f"{text!r} has an empty name in it: {HOW}")
    return steps


def _follow(value: Any, steps: tuple[str, ...]) -> Any:
    for at, step in enumerate(steps):
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit():
            value = value[int(step)] if int(step) < len(value) else None
        elif isinstance(value, list):
            found = [_follow(element, steps[at:]) for element in value]
            return [element for element in found if element is not None] or None
        else:
            return None
    return value


def _header(record: Record, name: str) -> str | None:
    values = [value for header, value in record.headers if header == name and value is not None]
    return values[-1].decode("utf-8", "replace") if values else None


def _escaped(part: str, unsafe: str) -> str:
    """Percent-encoded where it must be; not by the library, which leaves dots and hyphens as they are."""
    return "".join("".join(f"%{byte:02X}" for byte in c.encode()) if c in unsafe else c for c in part)


def _kind(value: Any) -> str:
    names: dict[type, str] = {dict: "an object", list: "a list", bool: "true or false", float: "a fraction"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
