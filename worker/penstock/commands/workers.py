"""The workers: ``penstock index | query``."""

import sys
from typing import Annotated

import typer

from penstock.commands.app import WORKERS, app
from penstock.commands.process import load_settings, stop_on_signals
from penstock.core.errors import Misconfigured


@app.command(
    "index",
    rich_help_panel=WORKERS,
    epilog="Examples: `penstock index` · `penstock index --once` · `penstock index --from-beginning` · "
    "`penstock index --from events.jsonl` · `zcat events.gz | penstock index --from -` · "
    "`penstock index --backfill articles-before` · `penstock index --backfill-from events.jsonl`",
)
def index_stream(
    once: Annotated[bool, typer.Option("--once", help="End at the offsets where the topic ends now.")] = False,
    source: Annotated[
        str | None, typer.Option("--from", metavar="FILE|-", help="Read JSON lines instead of Kafka.")
    ] = None,
    from_beginning: Annotated[
        bool,
        typer.Option("--from-beginning", help="First set the group's offsets back to where the topic begins."),
    ] = False,
    backfill: Annotated[
        str,
        typer.Option(metavar="TOPIC", help="Another topic for the same collection, behind what is live."),
    ] = "",
    backfill_from: Annotated[
        str | None,
        typer.Option("--backfill-from", metavar="FILE|-", help="The same, of JSON lines."),
    ] = None,
) -> None:
    """Index the topic's documents: read events, embed them, write them to Qdrant, commit.

    On a terminal a live line shows how far it is. Runs until SIGTERM or SIGINT: then finishes what is in hand, commits
    and exits 0 within PENSTOCK_INDEX__DRAIN_TIMEOUT_S. A second signal ends it at once. Records that can never be
    indexed go to the topic's dead letter topic; with --from, to FILE.dlq.jsonl, and where all records of
    the file do, the exit code is 2.

    When the topic or the collection is no longer the one that it joined, the worker ends with exit code 2 and what to
    do. --from-beginning, while no other worker of the group runs, indexes all that the topic holds once more.

    A backfill (PENSTOCK_INDEX__BACKFILL, --backfill, --backfill-from) is indexed beside the topic, by what live
    documents leave of the worker's time; any live event is newer. At the end of a file the worker goes on.
    """
    if sum(map(bool, (source, backfill, backfill_from))) > 1:
        raise Misconfigured("--from, --backfill and --backfill-from: one of them; a file alone has nothing beside it")
    settings, stop = load_settings({"index": {"backfill": backfill} if backfill else {}}), stop_on_signals()
    from penstock.assembly.backfill import backfill_beside  # noqa: PLC0415  # slow: first what can fail at once
    from penstock.assembly.index import run_index_worker  # noqa: PLC0415

    bar, beside = sys.stderr.isatty(), None
    if source is None:
        beside = backfill_beside(settings, stop, backfill_from, once=once, anew=from_beginning, bar=bar)
    run_index_worker(settings, stop, file=source, once=once, anew=from_beginning, bar=bar, beside=beside)


@app.command(
    "query",
    rich_help_panel=WORKERS,
    epilog="Examples: `penstock query` · `PENSTOCK_RERANK__ENABLED=false penstock query` · "
    "`PENSTOCK_QUERY__TOPIC=queries penstock query`",
)
def answer_queries(
    once: Annotated[bool, typer.Option("--once", help="End at the offsets where the topic ends now.")] = False,
) -> None:
    """Answer queries: over HTTP with a page to try it on, and over a topic where PENSTOCK_QUERY__TOPIC names one.

    Reads only. On a terminal a live line shows what it does. Runs until SIGTERM or SIGINT: then answers what is in
    hand and exits 0 within PENSTOCK_QUERY__DRAIN_TIMEOUT_S. Queries on the topic that can never be answered go to
    its dead letter topic.
    """
    settings = load_settings()
    if not settings.http.enabled and not settings.query.topic:
        raise Misconfigured("nothing to listen to: set PENSTOCK_QUERY__TOPIC, or leave PENSTOCK_HTTP__ENABLED on")
    if once and not settings.query.topic:
        raise Misconfigured("--once is about a topic: set PENSTOCK_QUERY__TOPIC")
    settings.http.check_closed()
    stop = stop_on_signals()
    from penstock.assembly.models import load_models  # noqa: PLC0415  # slow: first what can fail at once
    from penstock.assembly.query import run_query_worker  # noqa: PLC0415

    models = load_models(settings.model, settings.rerank, settings.migration)
    run_query_worker(settings, models, stop, once=once, bar=sys.stderr.isatty())
