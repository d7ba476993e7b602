"""``penstock``: one command, and what its failures are to the caller."""

from typing import Annotated, NoReturn

import typer

from penstock import __version__

from penstock.commands import workers, search, export, models, operation, about  # isort: skip  # noqa: F401  # as the help has them
from penstock.commands.app import EXIT_BUG, EXIT_MISCONFIGURED, EXIT_OWNERSHIP_LOST, app
from penstock.core.errors import Misconfigured, OwnershipLost
from penstock.observe.log import log
from penstock.stream.pipeline import StageFailed
from penstock.stream.retry import Stopped


def main() -> NoReturn:
    """Run a command; what a user can mend is one line on stderr, and exit code 2 or 3."""
    try:
        app(standalone_mode=True)
    except Misconfigured as error:
        _fail(str(error), EXIT_MISCONFIGURED)
    except OwnershipLost as error:
        _fail(str(error), EXIT_OWNERSHIP_LOST)
    except Stopped:
        log.info("ended", before="anything was read")
    except StageFailed as error:
        if isinstance(error.__cause__, Misconfigured):
            _fail(str(error.__cause__), EXIT_MISCONFIGURED)
        if isinstance(error.__cause__, OwnershipLost):
            _fail(str(error.__cause__), EXIT_OWNERSHIP_LOST)
        log.error("bug", error=str(error), exc_info=error.__cause__)
        _fail(f"{error}. This is a bug; nothing was committed that is not stored.", EXIT_BUG)
    raise SystemExit(0)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"penstock {__version__}")
        raise typer.Exit


def _fail(line: str, code: int) -> NoReturn:
    typer.echo(f"penstock: {line}", err=True)
    raise SystemExit(code)
