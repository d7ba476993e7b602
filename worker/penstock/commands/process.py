"""What a command has of its process: settings that are read once, and signals that end it well."""

import os
import signal
import threading
from collections.abc import Mapping

from penstock import settings
from penstock.commands.app import EXIT_FORCED
from penstock.observe.log import set_up


def load_settings(overrides: Mapping[str, Mapping[str, object]] | None = None) -> settings.Settings:
    """The settings, with what options say of groups, and the log as they ask; raises Misconfigured."""
    loaded = settings.load(overrides)
    set_up(loaded.log.level, loaded.log.format)
    return loaded


def stop_on_signals() -> threading.Event:
    """Set by the first SIGTERM or SIGINT; the second ends the process on the spot.

    A handler runs in the main thread, between any two of its steps: there it could wait for a lock that the main
    thread itself holds. So the handlers do nothing, and a thread learns of signals through a pipe.
    """
    stop = threading.Event()
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    threading.Thread(target=_watch, args=(read_end, stop), name="signals", daemon=True).start()
    return stop


def _watch(read_end: int, stop: threading.Event) -> None:
    while numbers := os.read(read_end, 1):
        if numbers[0] in (signal.SIGTERM, signal.SIGINT):
            if stop.is_set():
                os._exit(EXIT_FORCED)
            stop.set()
