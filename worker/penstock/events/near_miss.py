"""Fields that nobody reads and that resemble one that is read: to pass over them would be silently wrong. Pure."""

import difflib
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any
from unicodedata import normalize

LONGEST_NAME = 80
ALIKE = 0.8
"""Of difflib's ratio: a letter or two apart, or swapped."""

SHORTEST = 5
"""Letters of a name that others are compared with by likeness; shorter ones resemble too much."""

SHORT_FORMS: Mapping[str, str] = {
    "lang": "language",
    "meta": "metadata",
    "tenantid": "tenant",
    "tenantname": "tenant",
    "expires": "expires_at",
    "expiry": "expires_at",
    "expiration": "expires_at",
    "expirydate": "expires_at",
    "expirationdate": "expires_at",
}
DELETED = frozenset({"deleted", "isdeleted", "delete", "removed", "isremoved", "tombstone", "istombstone"})
DELETED_AT = frozenset({"deletedat", "deletedon", "removedat", "removedon"})
YES = frozenset({"true", "yes", "y", "t", "1", "d", "delete", "deleted"})
NO = frozenset({"", "false", "no", "n", "f", "0", "0.0"})

ADDED = "__"
"""How Debezium begins the fields that it adds to a row."""

OF_DELETES = frozenset({"id", "tenant", "version"})
"""What a delete needs of its fields."""


def near_miss(
    unknown: Mapping[str, Any], given: Collection[str], known: tuple[str, ...], *, delete: bool
) -> str | None:
    """What to say of the first unknown field that must not be passed over; None where all of them may be.

    ``given`` are the ``known`` fields that the body has: nothing else can be a misspelling of these. ``delete`` says
    that the event is one, which most fields mean nothing to.
    """
    for name, value in unknown.items():
        if value is None:
            continue
        if not delete and _sounds_deleted(name, value):
            hint = "; Debezium: delete.tombstone.handling.mode = tombstone" if name.startswith(ADDED) else ""
            told = 'is no field and sounds like a delete: send "op": "delete" or a null value'
            return f"{name[:LONGEST_NAME]!r} {told}{hint}"
        meant = None if isinstance(value, list) else _resembled(name, known)  # no field is a list: a plural is meant
        if meant is not None and meant not in given and (not delete or meant in OF_DELETES):
            return f"{name[:LONGEST_NAME]!r} is no field; did you mean {meant}?"
    return None


def _sounds_deleted(name: str, value: Any) -> bool:
    if len(name) > LONGEST_NAME:
        return False
    plain, said = _plain(name), str(value).strip().lower()
    if plain in DELETED or (plain == "op" and name.startswith(ADDED)):
        return said in YES
    return plain in DELETED_AT and said not in NO


@lru_cache(maxsize=4096)
def _resembled(name: str, known: tuple[str, ...]) -> str | None:
    """The field that a name seems to mean: by another case or style, a short form, or a slip."""
    if name.startswith(ADDED) or len(name) > LONGEST_NAME:
        return None
    plain, fields = _plain(name), {_plain(field): field for field in known}
    if plain in fields:
        return fields[plain]
    if plain in SHORT_FORMS:
        return SHORT_FORMS[plain]
    longer = [field for field in fields if len(field) >= SHORTEST and field[:1] == plain[:1]]
    close = difflib.get_close_matches(plain, longer, n=1, cutoff=ALIKE)
    return fields[close[0]] if close else None


@lru_cache(maxsize=4096)
def _plain(name: str) -> str:
    """The letters and digits alone, small: what is left of styles such as expiresAt, expires-at and EXPIRES_AT."""
    return re.sub(r"[\W_]", "", normalize("NFKC", name).casefold())
