"""``penstock``: one command, and what its failures are to the caller."""

import errno
import signal
from collections.abc import Mapping
from typing import Annotated, NoReturn

import typer

from penstock import __version__

# as the help has them
from penstock.commands import workers, search, export, fetch, models  # isort: skip  # noqa: F401
from penstock.commands import operation, produce, events  # isort: skip  # noqa: F401
from penstock.commands import letters, offsets, explain, audit, purge, erase, migrate, about  # isort: skip  # noqa: F401
from penstock.commands.app import EXIT_BUG, EXIT_FORCED, EXIT_MISCONFIGURED, EXIT_OWNERSHIP_LOST, EXIT_UNAVAILABLE, app
from penstock.core.errors import Misconfigured, OwnershipLost, Stopped, Unavailable
from penstock.observe.log import log
from penstock.stream.pipeline import StageFailed

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""What a disk says that takes no more."""


ENDS: Mapping[type[Exception], int] = {
    Misconfigured: EXIT_MISCONFIGURED,
    OwnershipLost: EXIT_OWNERSHIP_LOST,
    Unavailable: EXIT_UNAVAILABLE,
}


class _Interrupted(BaseException):
    """Ctrl-C where no command waits for it.

    ``seen`` outlives who swallows it or makes another error of it, as some libraries do while they load.
    """

    seen = False


def main() -> NoReturn:
    """Run a command; what a user can mend, or wait for, is one line on stderr, and an exit code of its own."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as nohup and scripts set it for what they leave behind
        signal.signal(signal.SIGINT, _interrupt)
    try:
        _run()
    except Stopped:
        log.info("ended", before="anything was read")
    except _Interrupted:
        _fail("interrupted", EXIT_FORCED)
    except StageFailed as error:
        if (code := _code(error.__cause__)) is not None:
            _fail(str(error.__cause__), code)
        log.error("bug", error=str(error), exc_info=error.__cause__)
        _fail(f"{error}. This is a bug; nothing was committed that is not stored.", EXIT_BUG)
    except Exception as error:
        if (code := _code(error)) is None:
            raise
        _fail(f"cannot write: {error.strerror}" if isinstance(error, OSError) else str(error), code)
    raise SystemExit(0)


def _run() -> None:
    """The command; raises _Interrupted, too, where a library has swallowed that or made another error of it."""
    try:
        app(standalone_mode=True)
    except BaseException as ended:
        if _Interrupted.seen and not (isinstance(ended, SystemExit) and ended.code):
            raise _Interrupted from None
        raise


def _code(error: BaseException | None) -> int | None:
    """Of what a user can mend or wait for; None for a bug."""
    if isinstance(error, OSError):
        return EXIT_MISCONFIGURED if error.errno in FULL else None
    return next((code for kind, code in ENDS.items() if isinstance(error, kind)), None)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"penstock {__version__}")
        raise typer.Exit


def _interrupt(_number: int, _frame: object) -> NoReturn:
    _Interrupted.seen = True
    raise _Interrupted


def _fail(line: str, code: int) -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends already
    typer.echo(f"penstock: {line}", err=True)
    raise SystemExit(code)
