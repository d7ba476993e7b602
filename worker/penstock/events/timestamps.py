"""Moments as other systems write them, by the format that a mapping names: RFC 3339, counts since 1970, strptime."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import partial
from zoneinfo import ZoneInfo

from penstock.core.moments import read_moment

EPOCHS = {"epoch_s": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000, "epoch_ns": 1_000_000_000}
"""How many of each are a second."""

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
DURATION = re.compile(r"([0-9]{1,9})([smhdw])")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SHOWN = 40
LOCAL = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?")
HOW = f"rfc3339, date, {', '.join(EPOCHS)}, or a pattern of strptime such as %d.%m.%Y %H:%M"

Read = Callable[[object], datetime]
"""Raises ValueError for what is no moment in that format."""


def reader(style: str, zone: str = "") -> Read:
    """What reads moments of a format; ``zone`` is that of moments that name none, UTC unless RFC 3339 asks for one.

    Raises ValueError for a format or a zone that there is not.
    """
    try:
        where = ZoneInfo(zone or "UTC")
    except (OSError, ValueError, KeyError):
        raise ValueError(f"zone: {zone!r} is no time zone, like UTC or Europe/Berlin") from None
    if style == "rfc3339":
        return partial(_with_zone, where) if zone else read_moment
    if style in EPOCHS:
        return lambda value: _counted(value, style)
    if style == "date":
        return lambda value: _parsed(value, "%Y-%m-%d", where)
    if not _is_pattern(style):
        raise ValueError(f"format: {style!r} is none of {HOW}")
    return lambda value: _parsed(value, style, where)


def _is_pattern(style: str) -> bool:
    """Whether strptime knows its directives."""
    try:
        datetime.strptime(EPOCH.strftime(style), style)  # noqa: DTZ007  # what it reads does not matter
    except ValueError:
        return False
    return "%" in style


def microseconds(moment: datetime) -> int:
    """Since 1970: below 2^53 until the year 2255."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def since_1970(milliseconds: int) -> datetime:
    """As Kafka counts."""
    return EPOCH + timedelta(milliseconds=milliseconds)


def duration(text: str) -> timedelta:
    """A length of time such as 90d; raises ValueError."""
    if not (found := DURATION.fullmatch(text)):
        raise ValueError(f"{text!r} is no length of time: a number and one of {', '.join(UNITS)}, like 90d")
    try:
        return timedelta(seconds=int(found[1]) * UNITS[found[2]])
    except OverflowError:
        raise ValueError(f"{text!r} is longer than time") from None


def _counted(value: object, style: str) -> datetime:
    """A number, or one in digits."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError  # noqa: TRY004  # told below like the others
        number = Decimal(str(value))
        micros = int(number * 1_000_000 / EPOCHS[style])
        return EPOCH + timedelta(microseconds=micros)
    except (InvalidOperation, ValueError, OverflowError):
        raise ValueError(f"{str(value)[:SHOWN]!r} is no moment as {style}") from None


def _with_zone(zone: ZoneInfo, value: object) -> datetime:
    """RFC 3339, which may be without its zone."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) and LOCAL.fullmatch(value) else None
    except ValueError:
        raise ValueError(f"no moment of the calendar: {str(value)[:SHOWN]!r}") from None
    return read_moment(value if moment is None else moment.replace(tzinfo=zone))


def _parsed(value: object, pattern: str, zone: ZoneInfo) -> datetime:
    if not isinstance(value, str):
        raise ValueError(f"{str(value)[:SHOWN]!r} is no text, which {pattern} reads")  # noqa: TRY004
    try:
        moment = datetime.strptime(value.strip(), pattern)  # noqa: DTZ007  # the zone follows
    except ValueError:
        raise ValueError(f"{value[:SHOWN]!r} is not like {pattern}") from None
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError:
        raise ValueError("not in the years 1 to 9999 in UTC") from None
