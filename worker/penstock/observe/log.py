"""Log lines on stderr: an event name and fields."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from penstock.core.errors import Unavailable

FAILURES_LOGGED = 3
"""Failed calls in a row with a line each; then every tenth has one."""

NAMES_LOGGED, LONGEST_NAME = 100, 80

LIBRARY_LINES, MINUTE_S = 5, 60.0
"""Of one kind, in a minute."""

log = structlog.get_logger()


def set_up(level: str, style: str) -> None:
    """Log to stderr. kafka-python never at its debug level: there it prints passwords and documents."""
    text = style == "text" or (style == "auto" and sys.stderr.isatty())
    colours = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    renderer: Any = structlog.dev.ConsoleRenderer(colors=colours) if text else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, handlers=[Libraries()], force=True)
    # what it reports reaches us as exceptions; what it does is worth reading only when something is looked for
    library = logging.getLogger("kafka")
    library.setLevel(logging.INFO if level == "debug" else logging.ERROR)
    library.propagate = level == "debug"
    library.addHandler(logging.NullHandler())


class Libraries(logging.Handler):
    """What libraries log, as lines like ours; of one kind, which a client may cause at will, a few a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """A line, or none."""
        kind, now = (record.name, str(record.msg)[:LONGEST_NAME]), self._clock()
        since, lines = self._told.get(kind, (now, 0))
        if now - since >= MINUTE_S:
            since, lines = now, 0
        if lines >= LIBRARY_LINES or (kind not in self._told and len(self._told) >= NAMES_LOGGED):
            return
        self._told[kind] = since, lines + 1
        level = record.levelname.lower()
        tell = getattr(log, level if level in ("debug", "info", "warning", "error", "critical") else "warning")
        tell("library", logger=record.name, message=record.getMessage(), exc_info=record.exc_info or None)


class NamedOnce:
    """Logs a line for each name of a topic when it first comes up; of names without end, the first."""

    def __init__(self, event: str) -> None:
        """``event`` is the lines' name."""
        self._event, self._seen = event, set[tuple[str, str]]()

    def __call__(self, topic: str, names: Iterable[str]) -> None:
        """These came up."""
        for name in names:
            if (topic, name) not in self._seen and len(self._seen) < NAMES_LOGGED:
                self._seen.add((topic, name))
                log.warning(self._event, name=name[:LONGEST_NAME], topic=topic)


def _worth_a_line(failures: int) -> bool:
    return failures <= FAILURES_LOGGED or failures % 10 == 0


def outage(error: Unavailable, failures: int, pause_s: float) -> None:
    """A service is away; the first failures and then every tenth are worth a line."""
    if _worth_a_line(failures):
        log.warning("unavailable", error=str(error), failures=failures, next_try_s=round(pause_s, 1))


def traces_lost(failures: int) -> None:
    """A collector takes no spans; as with an outage, not each time."""
    if _worth_a_line(failures):
        log.warning("traces_lost", failures=failures, setting="PENSTOCK_TRACE__ENDPOINT")
