"""Moments as people write them: RFC 3339, and nothing else, wherever one is read."""

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BeforeValidator

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
RFC_3339 = rf"{_DATE}{_TIME}([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
"""A pattern; what it lets through may still be no day of the calendar. Of a fraction microseconds are kept."""

LIKE = "2026-11-27T12:00:00Z"
SHOWN = 40


def _read(value: object) -> datetime:
    """By hand, since libraries guess: a string of digits would be seconds since 1970."""
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str):
        raise ValueError(f"not RFC 3339, a string like {LIKE}")  # noqa: TRY004  # pydantic tells only ValueErrors
    if not re.fullmatch(RFC_3339, value):
        if re.fullmatch(_DATE, value):
            raise ValueError(f"a moment needs a time and a zone, too, like {LIKE}; this is {value!r}")
        if re.fullmatch(_DATE + _TIME, value):
            raise ValueError(f"a moment needs a zone, too: Z or, say, +01:00; this is {value[:SHOWN]!r}")
        raise ValueError(f"not RFC 3339, like {LIKE}; this is {value[:SHOWN]!r}")
    try:
        return datetime.fromisoformat(value.upper())
    except ValueError as error:
        raise ValueError(f"no moment of the calendar: {value[:SHOWN]!r} ({error})") from None


def _in_utc(moment: datetime) -> datetime:
    """Stores count in UTC, from year 1 to 9999."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("not in the years 1 to 9999 in UTC") from None


def read_moment(value: object) -> datetime:
    """A moment in UTC; raises ValueError that says what RFC 3339 asks for."""
    return _in_utc(_read(value))


Moment = Annotated[AwareDatetime, BeforeValidator(_read), AfterValidator(_in_utc)]


def as_stored(value: object) -> datetime | None:
    """A moment in metadata, as stores read one: ISO 8601, in UTC where it names no zone; None for all else."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def written(moment: datetime | None) -> str | None:
    """A moment in UTC as it is stored."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
