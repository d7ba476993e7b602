"""What Penstock says of itself: ``penstock demo | config | schema``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from penstock import settings
from penstock.commands.app import ABOUT, app
from penstock.commands.process import stop_on_signals
from penstock.events import schemas
from penstock.observe.log import set_up


@app.command(
    "demo",
    rich_help_panel=ABOUT,
    epilog="Examples: `penstock demo` · `penstock demo --serve` · "
    "`penstock demo --from docs/ --serve` · "
    "`penstock demo --bootstrap-servers localhost:9092` · `penstock demo --json`",
)
def run_demo(
    bootstrap_servers: Annotated[str | None, typer.Option(help="Send the corpus through this Kafka.")] = None,
    own: Annotated[
        Path | None, typer.Option("--from", metavar="FILE|FOLDER", help="Documents of yours instead of the corpus.")
    ] = None,
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

    With --from the documents are your own: JSON lines of events, or a folder, each of whose text and Markdown files is
    a document. Queries are typed, or read from standard input; a file that has gone is forgotten by the next run.
    """
    from penstock.demo.backend import Options  # noqa: PLC0415  # the models' libraries load slowly
    from penstock.demo.run import run  # noqa: PLC0415

    set_up("warning", "auto")
    stop = stop_on_signals()
    run(Options(bootstrap_servers, folder, bundle, reranker, port if serve else None, as_json, own), stop)


@app.command(rich_help_panel=ABOUT, epilog="Example: `PENSTOCK_KAFKA__TOPIC=wiki penstock config`")
def config(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the settings in effect, secrets hidden, and where those come from that are not left at their defaults."""
    values = settings.load().model_dump(mode="json")
    origins = settings.origins()
    if as_json:
        typer.echo(json.dumps(values | {"origins": origins}, indent=2))
        return
    for name, _, meaning in settings.variables():
        group, field = name.removeprefix(settings.PREFIX).lower().split("__", 1)
        value = values[group][field]
        origin = f"  [{origins[name]}]" if name in origins else ""
        typer.echo(f"{name}={'' if value is None else value}{origin}")
        typer.echo(f"  {meaning}")


@app.command(rich_help_panel=ABOUT, epilog="Examples: `penstock schema` · `penstock schema document.v1`")
def schema(name: Annotated[str | None, typer.Argument(help="Which one; all names when left out.")] = None) -> None:
    """Print the JSON Schema of an event, or the names of all."""
    if name is None:
        typer.echo("\n".join(schemas.names()))
    else:
        typer.echo(schemas.text(name), nl=False)
