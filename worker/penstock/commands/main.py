"""The commands of ``penstock``."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from penstock import __version__, settings
from penstock.commands import models as model_commands
from penstock.commands import operate as operation_commands
from penstock.commands import search as query_commands
from penstock.core.errors import Misconfigured, OwnershipLost
from penstock.events import schemas
from penstock.observe.log import log, set_up, traces_lost
from penstock.stream.patience import Stopped
from penstock.stream.pipeline import StageFailed

EXIT_BUG, EXIT_MISCONFIGURED, EXIT_OWNERSHIP_LOST, EXIT_FORCED = 1, 2, 3, 130

EPILOG = (
    "Exit codes: 0 done; 1 a bug, nothing was committed that is not stored; 2 a setting, a file or a collection "
    "does not fit; 3 another consumer took this one's place; 130 ended by a second signal."
)

app = typer.Typer(
    help="Index a stream of documents from Kafka into Qdrant, through an embedding model, and search it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog=EPILOG,
    rich_markup_mode="markdown",
)


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
        log.error("bug", error=str(error), exc_info=error.__cause__)
        _fail(f"{error}. This is a bug; nothing was committed that is not stored.", EXIT_BUG)
    raise SystemExit(0)


@app.command(
    epilog="Examples: `penstock index` · `penstock index --once` · `penstock index --from events.jsonl` · "
    "`zcat events.gz | penstock index --from -`"
)
def index(
    once: Annotated[bool, typer.Option("--once", help="End at the offsets where the topic ends now.")] = False,
    source: Annotated[
        str | None, typer.Option("--from", metavar="FILE|-", help="Read JSON lines instead of Kafka.")
    ] = None,
) -> None:
    """Index the topic's documents: read events, embed them, write them to Qdrant, commit.

    On a terminal a live line shows how far it is. Runs until SIGTERM or SIGINT: then finishes what is in hand, commits
    and exits 0 within PENSTOCK_INDEX__DRAIN_TIMEOUT_S. A second signal ends it at once. Records that can never be
    indexed go to the topic's dead letter topic; with --from, to FILE.dlq.jsonl.
    """
    from penstock.adapters.opentelemetry import open_tracer  # noqa: PLC0415
    from penstock.assembly import index as wiring  # noqa: PLC0415  # the models' libraries load slowly, and other commands need none
    from penstock.assembly.models import load_model  # noqa: PLC0415
    from penstock.assembly.monitor import Monitor, served  # noqa: PLC0415

    chosen = _load()
    stop = _stop_on_signals()
    tracer = open_tracer(chosen.trace, "penstock-index", __version__, traces_lost)
    monitor = Monitor.of(chosen.kafka.topic, chosen.monitor, tracer)
    if source is None:
        connect: Callable[[], wiring.Feed] = lambda: wiring.kafka_feed(chosen, monitor.watch, once=once)  # noqa: E731
    else:
        connect = lambda: wiring.file_feed(chosen, source, time.time())  # noqa: E731
    bar = sys.stderr.isatty()
    with closing(tracer), served(monitor, chosen.monitor):
        model = load_model(chosen.model)
        monitor.loaded(model)
        wiring.index(chosen, model, connect, stop, bar=bar, monitor=monitor).summary("ended")


@app.command(
    epilog="Examples: `penstock demo` · `penstock demo --serve` · "
    "`penstock demo --bootstrap-servers localhost:9092` · `penstock demo --json`"
)
def demo(
    bootstrap_servers: Annotated[str | None, typer.Option(help="Send the corpus through this Kafka.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where to keep the points [default: in the cache].")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Another embedding model [default: the shipped one].")] = None,
    reranker: Annotated[Path | None, typer.Option(help="Another reranker [default: the shipped one].")] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Then open a page to search on.")] = False,
    port: Annotated[int, typer.Option(help="The page's port; 0 for any that is free.")] = 8080,
    as_json: Annotated[bool, typer.Option("--json", help="Print nothing but one JSON object.")] = False,
) -> None:
    """Index a stream of descriptions of Debian packages and search them, with a small model that is shipped.

    The points live in an embedded Qdrant folder and stay there: a second run finds most texts unchanged. With Kafka
    they pass through a topic of their own, and `penstock index` and `penstock query` run as processes of their own.
    """
    from penstock.demo import story  # noqa: PLC0415  # the models' libraries load slowly
    from penstock.demo.stage import Options  # noqa: PLC0415

    set_up("warning", "auto")
    stop = _stop_on_signals()
    story.run(Options(bootstrap_servers, folder, bundle, reranker, port if serve else None, as_json), stop)


@app.command(epilog="Example: `PENSTOCK_KAFKA__TOPIC=wiki penstock config`")
def config(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the settings in effect, secrets hidden, and where those come from that are not left at their defaults."""
    chosen = settings.load().model_dump(mode="json")
    origins = settings.origins()
    if as_json:
        typer.echo(json.dumps(chosen | {"origins": origins}, indent=2))
        return
    for name, _, meaning in settings.variables():
        group, field = name.removeprefix(settings.PREFIX).lower().split("__", 1)
        value = chosen[group][field]
        origin = f"  [{origins[name]}]" if name in origins else ""
        typer.echo(f"{name}={'' if value is None else value}{origin}")
        typer.echo(f"  {meaning}")


@app.command(epilog="Examples: `penstock schema` · `penstock schema document.v1`")
def schema(name: Annotated[str | None, typer.Argument(help="Which one; all names when left out.")] = None) -> None:
    """Print the JSON Schema of an event, or the names of all."""
    if name is None:
        typer.echo("\n".join(schemas.names()))
    else:
        typer.echo(schemas.text(name), nl=False)


model_commands.add_to(app)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"penstock {__version__}")
        raise typer.Exit


def _load() -> settings.Settings:
    chosen = settings.load()
    set_up(chosen.log.level, chosen.log.format)
    return chosen


def _stop_on_signals() -> threading.Event:
    """Set by the first SIGTERM or SIGINT; the second ends the process on the spot.

    A handler runs in the main thread, between any two of its steps: there it could wait for a lock that the main
    thread itself holds. So the handlers do nothing, and a thread learns of signals through a pipe.
    """
    stop = threading.Event()
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    threading.Thread(target=_watch, args=(told, stop), name="signals", daemon=True).start()
    return stop


def _watch(told: int, stop: threading.Event) -> None:
    while numbers := os.read(told, 1):
        if numbers[0] in (signal.SIGTERM, signal.SIGINT):
            if stop.is_set():
                os._exit(EXIT_FORCED)
            stop.set()


def _fail(line: str, code: int) -> NoReturn:
    typer.echo(f"penstock: {line}", err=True)
    raise SystemExit(code)


query_commands.add_to(app, _stop_on_signals)
operation_commands.add_to(app, _load, _stop_on_signals)
