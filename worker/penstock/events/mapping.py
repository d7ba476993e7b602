"""From the fields that somebody else's records have to those of a document event, as ``index.mapping`` says. Pure."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from penstock.core.errors import InvalidEvent
from penstock.core.moments import written
from penstock.core.records import Record
from penstock.events.metadata import MetadataFrom
from penstock.events.near_miss import NO
from penstock.events.selectors import Seen, Selector, Template, as_text, identifier, listed, selector
from penstock.events.timestamps import Read, duration, microseconds, reader, since_1970

TEXTS = ("text", "title", "language", "op", "format")
MOMENTS = ("timestamp", "expires_at", "version")


class IdMissing(InvalidEvent):
    """A record without what the mapping takes for the id: with a wrong mapping that is each of them."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class MomentFrom(_Part):
    """Where a moment stands, and how it is written."""

    field: str
    """A path."""
    format: str = "rfc3339"
    """rfc3339, date, epoch_s, epoch_ms, epoch_us, epoch_ns, or a pattern of strptime."""
    zone: str = ""
    """Of moments that name none: UTC, but of rfc3339, which needs one, none."""


class DeleteWhen(_Part):
    """A field that says that the document is gone."""

    field: str
    """A path."""
    equals: tuple[str | bool | int | float, ...] = ()
    """The values that mean it, in any case of their letters; none here: any value but null, false, no, 0 and the empty
    text, list and object."""

    def holds(self, seen: Seen) -> bool:
        """Whether it is gone."""
        value = selector(self.field).get(seen)
        if value is None:
            return False
        said = _said(value)
        return said in map(_said, self.equals) if self.equals else said not in NO


class MappingSpec(_Part):
    """Where each field of a document event stands in a record: a path, or a template of several.

    What is not said keeps its own name; an empty text means that the field is not read.
    """

    id: str = Field(default="id", min_length=1)
    """A path, or a template of several, which are joined so that no two ids run together."""
    text: str = Field(default="text", min_length=1)
    title: str = "title"
    language: str = "language"
    tenant: str = "tenant"
    """With index.tenant_from = field."""
    op: str = "op"
    version: str | MomentFrom = "version"
    """A whole number, also in digits; a moment counts in microseconds."""
    timestamp: str | MomentFrom = "timestamp"
    expires_at: str | MomentFrom = "expires_at"
    ttl: str = ""
    """Instead of expires_at: how long after its timestamp, or else after its record was produced, a document is found,
    like 90d."""
    metadata: str | MetadataFrom = "metadata"
    """A path to an object; or include, exclude, rename and flatten, which make one."""
    delete_when: DeleteWhen | None = None
    format: str = "format"
    """Where it stands whether the text is text, markdown or html: see index.format."""

    @model_validator(mode="after")
    def _usable(self) -> Self:
        whole = selector(self.id)
        if isinstance(whole, Template) and not whole.told_apart:
            raise ValueError(
                "id: something must stand between its parts, and not only digits, A to F or %, or ids run together"
            )
        if self.tenant and isinstance(selector(self.tenant), Template):
            raise ValueError("tenant: a path, not a template, or tenants run together")
        _ = self._selectors  # each of them, or the error of one that is none
        if self.ttl and isinstance(self.expires_at, str) and self.expires_at not in ("", "expires_at"):
            raise ValueError("ttl and expires_at: one of the two says when a document is no longer found")
        if self.ttl:
            duration(self.ttl)
        return self

    @cached_property
    def _moments(self) -> dict[str, tuple[Selector, Read]]:
        """Of timestamp, expires_at and version, as far as they are read."""
        found: dict[str, tuple[Selector, Read]] = {}
        for name in MOMENTS:
            given: str | MomentFrom = getattr(self, name)
            at = MomentFrom(field=given) if isinstance(given, str) else given
            if at.field:
                found[name] = selector(at.field), reader(at.format, at.zone)
        return found

    @cached_property
    def _texts(self) -> dict[str, Selector]:
        return {name: selector(getattr(self, name)) for name in TEXTS if getattr(self, name)}

    @cached_property
    def _selectors(self) -> tuple[Selector, ...]:
        """All that is read, wherever it stands."""
        metadata = self.metadata.paths if isinstance(self.metadata, MetadataFrom) else (self.metadata,)
        others = (self.id, self.tenant, self.delete_when.field if self.delete_when else "", *metadata)
        moments = (where for where, _ in self._moments.values())
        return (*self._texts.values(), *moments, *(selector(path) for path in others if path))

    @cached_property
    def used(self) -> frozenset[str]:
        """Names of the record's own fields that are read, or that are said not to be."""
        named = self.metadata.named if isinstance(self.metadata, MetadataFrom) else frozenset()
        named |= {name for name in (*TEXTS, *MOMENTS, "tenant", "metadata") if getattr(self, name) == ""}
        return named.union(*(one.names for one in self._selectors))

    @property
    def keeps_all(self) -> bool:
        """Whether fields that are read by nothing else are metadata."""
        return isinstance(self.metadata, MetadataFrom) and self.metadata.all

    def id_of(self, seen: Seen) -> str | None:
        """The id; None where nothing of it is there. Raises InvalidEvent for what cannot be one."""
        try:
            found = selector(self.id)
            if isinstance(found, Template):
                return found.identify(seen)
            value = found.get(seen)
            return None if value is None else identifier(value, repr(self.id))
        except InvalidEvent as error:
            raise InvalidEvent(f"mapping.id: {error}") from None

    def tenant_of(self, seen: Seen) -> str | None:
        """The tenant: a text or a whole number, and of headers the only one."""
        if not self.tenant:
            return None
        where = selector(self.tenant)
        (path,) = where.every
        headers = seen.record.headers if path.origin == "header" and seen.record is not None else ()
        if sum(name == path.steps[0] for name, _ in headers) > 1:
            raise InvalidEvent(f"mapping.tenant: the record has several headers {path.steps[0]!r}")
        value = where.get(seen)
        return None if value is None else _named("tenant", identifier, value, repr(self.tenant))

    def id_of_key(self, key: Any, record: Record) -> str | None:
        """The id by a record's key alone: an object that has its fields, or what a template of one place is made of.

        Raises InvalidEvent for an object that lacks some of several.
        """
        found = selector(self.id)
        if not isinstance(key, Mapping):
            return found.around(identifier(key, "the key")) if isinstance(found, Template) else None
        seen = Seen(key, key, {}, record)
        missing = [path.text for path in found.every if path.get(seen) is None]
        if not missing:
            return self.id_of(seen)
        if len(found.every) > 1:
            raise InvalidEvent(f"the key has no {missing[0]!r}, a part of mapping.id; it has: {listed(key)}")
        if isinstance(found, Template) and len(key) == 1:
            return found.around(identifier(next(iter(key.values())), "the key"))
        return None

    def key_of(self, document: str) -> str:
        """The record key as text that ``id_of_key`` makes this id of."""
        found = selector(self.id)
        return found.within(document) if isinstance(found, Template) else document

    @cached_property
    def origins(self) -> frozenset[str]:
        """What is read of what lies around a document's fields, like @key."""
        return frozenset(f"@{path.origin}" for one in self._selectors for path in one.every if path.origin)

    def document(self, seen: Seen, name: str | None, *, gone: bool) -> dict[str, Any]:
        """The fields of the document event. ``name`` is the id that the record's key says, for where no other is.

        ``gone`` where the envelope says so; raises InvalidEvent that names the field of the mapping.
        """
        found = self.id_of(seen)
        if found is None and name is None:
            raise IdMissing(f"mapping.id: there is no {self.id!r}; the record has: {listed(seen.fields)}")
        fields: dict[str, Any] = {"id": name if found is None else found}
        gone = gone or (self.delete_when is not None and self.delete_when.holds(seen))
        if (tenant := self.tenant_of(seen)) is not None:
            fields["tenant"] = tenant
        for field in ("op",) if gone else TEXTS:
            if field in self._texts and (value := self._texts[field].get(seen)) is not None:
                fields[field] = _named(field, as_text, value, field)
        if not gone and fields.get("op") != "delete" and "text" not in fields:
            raise InvalidEvent(f"mapping.text: there is no {self.text!r}; the record has: {listed(seen.fields)}")
        if (version := self._version(seen)) is not None:
            fields["version"] = version
        return fields | {"op": "delete"} if gone else fields | self._rest(seen)

    def _rest(self, seen: Seen) -> dict[str, Any]:
        rest: dict[str, Any] = {}
        for field, (where, read) in self._moments.items():
            if field != "version" and (value := where.get(seen)) is not None:
                rest[field] = written(_named(field, read, value))
        if self.ttl:
            rest["expires_at"] = self._expiry(seen)
        if isinstance(self.metadata, MetadataFrom):
            rest["metadata"] = _named("metadata", self.metadata.of, seen, self.used)
        elif self.metadata and (value := selector(self.metadata).get(seen)) is not None:
            rest["metadata"] = value
        return rest

    def _expiry(self, seen: Seen) -> str | None:
        where = self._moments.get("timestamp")
        if where is not None and (value := where[0].get(seen)) is not None:
            begin = _named("timestamp", where[1], value)
        elif seen.record is not None and seen.record.timestamp_ms is not None:
            begin = since_1970(seen.record.timestamp_ms)
        else:
            raise InvalidEvent("mapping.ttl: neither the document nor its record has a timestamp that it counts from")
        try:
            return written(begin + duration(self.ttl))
        except OverflowError:
            raise InvalidEvent("mapping.ttl: not in the years 1 to 9999 in UTC") from None

    def _version(self, seen: Seen) -> Any:
        at = self._moments.get("version")
        if at is None or (value := at[0].get(seen)) is None:
            return None
        if isinstance(self.version, MomentFrom):
            return microseconds(_named("version", at[1], value))
        digits = isinstance(value, str) and value.isascii() and value.isdigit()
        return int(value) if digits and len(value) < 20 else value  # noqa: PLR2004  # no number is refused later


def _named(field: str, read: Callable[..., Any], *given: Any) -> Any:
    """What is read; raises InvalidEvent that names the field."""
    try:
        return read(*given)
    except (ValueError, InvalidEvent) as error:
        raise InvalidEvent(f"mapping.{field}: {error}") from None


def _said(value: Any) -> str:
    """A value as others may write it, too: small letters, whole numbers without a fraction."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return as_text(value, "a value").strip().lower() if not isinstance(value, Mapping) else "an object" if value else ""
