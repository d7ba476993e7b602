"""For whoever runs Penstock: ``penstock setup | probe | size | lag-exporter``."""

import json
import threading
import time
from typing import Annotated

import typer

from penstock.commands.app import OPERATION, app
from penstock.commands.process import load_settings, stop_on_signals
from penstock.core.errors import Misconfigured, Stopped, Unavailable
from penstock.operate import size as sizing
from penstock.settings import IndexSettings

GIB = 1 << 30
CHUNK = IndexSettings.model_fields


@app.command(rich_help_panel=OPERATION, epilog="Examples: `penstock setup` · `penstock setup --wait-s 600 --json`")
def setup(
    wait_s: Annotated[float, typer.Option(min=0, help="How long to wait for Kafka and Qdrant to come up.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Make the topics and the collection that the settings name, or verify those that are there.

    Nothing that exists is changed. Topics get PENSTOCK_SETUP__PARTITIONS; the collection its payload indexes, and
    what PENSTOCK_QDRANT__QUANTIZATION, SHARDS and REPLICATION_FACTOR say.
    """
    settings, stop = load_settings(), stop_on_signals()
    from penstock.assembly.setup import set_up  # noqa: PLC0415  # slow: first what can fail at once
    from penstock.assembly.stream import Retries  # noqa: PLC0415

    began = time.monotonic()
    late = threading.Timer(wait_s, stop.set)
    late.daemon = True
    late.start()
    try:
        steps = set_up(settings, Retries(stop).of())
    except Stopped as error:
        raise Unavailable(f"after {time.monotonic() - began:.0f} s still: {error.__cause__}") from error
    for step in steps:
        line = f"{step.kind} {step.name}: {'made' if step.made else 'there'}"
        typer.echo(json.dumps(step._asdict()) if as_json else line)


@app.command(rich_help_panel=OPERATION, epilog="Example: `penstock probe --url http://localhost:8080`")
def probe(
    url: Annotated[str, typer.Option(help="A query worker.")] = "http://localhost:8080",
    timeout_s: Annotated[float, typer.Option(min=0, help="How long it may take.")] = 60.0,
) -> None:
    """Send one document through the stream, find it by a query, and delete it again.

    For a tenant of its own, where there are tenants; where the worker asks for a key, set
    PENSTOCK_SEARCH__API_KEY.
    """
    settings = load_settings()
    from penstock.operate import probe as probing  # noqa: PLC0415  # slow: first what can fail at once
    from penstock.query.http.client import QueryClient  # noqa: PLC0415

    asked = settings.search
    worker = QueryClient(url, asked.api_key.get_secret_value(), asked.allow_insecure)
    name, took_s = probing.probe(settings.kafka, settings.index, worker, timeout_s)
    typer.echo(f"{name} was searchable after {took_s:.1f} s")


@app.command(
    rich_help_panel=OPERATION,
    epilog="Example: `penstock size --documents-per-s 50 --tokens 400 --speed 20000 --documents 10000000`",
)
def size(
    documents_per_s: Annotated[
        float, typer.Option(min=1e-9, max=1e9, help="Documents per second in the busiest hour.")
    ],
    tokens: Annotated[int, typer.Option(min=1, max=10**9, help="Tokens of an average document.")],
    speed: Annotated[float, typer.Option(min=1e-9, max=1e12, help="Tokens/s of one worker, by penstock bench.")],
    documents: Annotated[int, typer.Option(min=0, help="Documents in the index.")] = 0,
    dimension: Annotated[int, typer.Option(min=1, help="Length of the vectors.")] = 1024,
    chunk_tokens: Annotated[int, typer.Option(min=16, help="As index.chunk_tokens.")] = CHUNK["chunk_tokens"].default,
    chunk_overlap: Annotated[int, typer.Option(min=0, help="As index.chunk_overlap.")] = CHUNK["chunk_overlap"].default,
    quantized: Annotated[bool, typer.Option("--quantized", help="With qdrant.quantization = int8.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """How many workers a stream needs, how many partitions to give it, and what its vectors take in memory."""
    if chunk_overlap * 2 > chunk_tokens:
        raise Misconfigured("--chunk-overlap may be at most half of --chunk-tokens")
    stream = sizing.StreamLoad(documents_per_s, tokens, chunk_tokens, chunk_overlap)
    needed = sizing.size(stream, speed, documents, dimension, quantized=quantized)
    if as_json:
        names = ("workers", "partitions", "tokens_per_s", "catch_up_s", "memory_bytes")
        typer.echo(json.dumps({name: getattr(needed, name) for name in names}))
        return
    typer.echo(
        f"{needed.workers} workers for {needed.tokens_per_s:,.0f} tokens/s, at {sizing.SPARE:.0%} of their speed"
    )
    typer.echo(f"{needed.partitions} partitions, so that there may be more of them later")
    typer.echo(f"{needed.catch_up_s / 60:,.0f} minutes to catch up after an hour's outage")
    if documents:
        typer.echo(f"{needed.memory_bytes / GIB:,.1f} GiB in Qdrant for the vectors and their graph")


@app.command(
    "lag-exporter",
    rich_help_panel=OPERATION,
    epilog="Examples: `PENSTOCK_MONITOR__PORT=9465 penstock lag-exporter` · "
    "`PENSTOCK_MONITOR__PORT=9465 penstock lag-exporter --watch another-group=documents --every-s 5`",
)
def export_lag(
    watch: Annotated[
        list[str] | None,
        typer.Option("--watch", metavar="GROUP=TOPIC", help="Another group, and what it reads; may be repeated."),
    ] = None,
    every_s: Annotated[float, typer.Option(min=0.1, max=30, help="How often Kafka is asked, in seconds.")] = 15.0,
) -> None:
    """Serve to Prometheus how far consumer groups are behind, seen from outside: also while no worker runs.

    Of PENSTOCK_KAFKA__GROUP on its topics and, where PENSTOCK_QUERY__TOPIC names one, of PENSTOCK_QUERY__GROUP: records
    that are not committed, the age of the first of them, and how many consumers there are. /metrics, /healthz and
    /readyz are on PENSTOCK_MONITOR__PORT. It joins no group and commits nothing; its rights are Describe on groups and
    topics, and Read on topics. Runs until SIGTERM or SIGINT.
    """
    settings, stop = load_settings(), stop_on_signals()
    from penstock.assembly.lag import run_lag_exporter  # noqa: PLC0415  # slow: first what can fail at once

    run_lag_exporter(settings, watch or (), every_s, stop)
