"""Metadata made of a record's fields: which, under which names, nested or flat. Pure."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

from penstock.core.errors import InvalidEvent
from penstock.events.selectors import Path, Seen, selector

ALL = "*"
BETWEEN = "_"
"""Between the names of a nested field that is made flat: a dot would have to be quoted in filters."""


class MetadataFrom(BaseModel):
    """Metadata made of a record's fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    include: tuple[str, ...] = (ALL,)
    """Paths; each is called by its last name. * stands for all fields that nothing else of the mapping reads."""
    exclude: tuple[str, ...] = ()
    """Names of fields that * leaves out."""
    rename: Mapping[str, str] = {}
    """New names by path, like {"created_by.name" = "author"}."""
    flatten: bool = False
    """Make author_name of {"author": {"name": …}}."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        for path in (*self.paths, *self.exclude):
            if len(selector(path).every) != 1 or "{" in path:
                raise ValueError(f"metadata: {path!r} is a template, and only paths are included")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """Those that are named."""
        return tuple(dict.fromkeys([*(path for path in self.include if path != ALL), *self.rename]))

    @property
    def all(self) -> bool:
        """Whether fields are included that are not named."""
        return ALL in self.include

    @cached_property
    def named(self) -> frozenset[str]:
        """Names of the record's own fields that are named here."""
        return frozenset(name for path in (*self.paths, *self.exclude) for name in selector(path).names)

    def of(self, seen: Seen, used: frozenset[str]) -> dict[str, Any]:
        """The metadata; ``used`` are the fields that * does not stand for. Raises InvalidEvent."""
        found: dict[str, Any] = {}
        if self.all and isinstance(seen.fields, Mapping):
            found = {name: value for name, value in seen.fields.items() if name not in used and value is not None}
        for path in self.paths:
            if (value := selector(path).get(seen)) is not None:
                _put(found, self.rename.get(path, _last(path)), value)
        return _flat(found) if self.flatten else found


def _last(path: str) -> str:
    where = selector(path)
    steps = where.steps if isinstance(where, Path) else ()
    return steps[-1] if steps else path.lstrip("@")


def _put(found: dict[str, Any], name: str, value: Any) -> None:
    if name in found:
        raise InvalidEvent(f"two fields are both called {name!r}: rename one of them")
    found[name] = value


def _flat(nested: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    stack = [(str(name), value) for name, value in reversed(list(nested.items()))]
    while stack:
        name, value = stack.pop()
        if isinstance(value, Mapping):
            stack += [(f"{name}{BETWEEN}{inner}", deeper) for inner, deeper in reversed(list(value.items()))]
        elif value is not None:
            _put(flat, name, value)
    return flat
