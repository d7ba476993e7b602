"""Searching by hand: ``penstock search | evaluate``."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock import settings
from penstock.commands.app import SEARCH, app
from penstock.core.errors import InvalidEvent, Misconfigured, Unavailable
from penstock.observe.live import steps as progress_steps
from penstock.observe.log import set_up
from penstock.query.replies import HitBody, ReplyBody, SideBody, to_json, to_reply
from penstock.query.requests import PlaceBody, QueryBody, read_query, to_query
from penstock.settings import Settings

if TYPE_CHECKING:
    from penstock.evaluate.report import Report

SNIPPET = 160


@app.command(
    rich_help_panel=SEARCH,
    epilog='Examples: `penstock search "water under pressure"` · '
    "`penstock search --url http://localhost:8080 --json turbine` · "
    """`penstock search --filter '{"field": "metadata.section", "equals": "games"}' chess`""",
)
def search(
    text: Annotated[str, typer.Argument(help="What to look for.")],
    url: Annotated[str | None, typer.Option(help="Ask a running query worker instead of the store itself.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Whose documents.")] = None,
    top_k: Annotated[int | None, typer.Option(help="How many documents.")] = None,
    offset: Annotated[int | None, typer.Option(help="How many documents of the order to leave out.")] = None,
    candidates: Annotated[int | None, typer.Option(help="How many chunks the reranker sees.")] = None,
    rerank: Annotated[bool | None, typer.Option(help="Let the reranker order them [default: if there is one].")] = None,
    mode: Annotated[
        str | None, typer.Option(help="Find by vectors, by words or by both: dense, sparse, hybrid [default: both].")
    ] = None,
    instruction: Annotated[str | None, typer.Option(help="The task, instead of the usual one.")] = None,
    only: Annotated[str | None, typer.Option("--filter", help="Conditions on the documents, as JSON.")] = None,
    after: Annotated[str | None, typer.Option(help="Wait for this record: topic/partition/offset.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as one JSON object.")] = False,
) -> None:
    """Search, with the settings of the workers, or by asking a running one.

    The worker, and the API key for it, can be set as PENSTOCK_SEARCH__URL and PENSTOCK_SEARCH__API_KEY, too.
    """
    loaded = settings.load()
    set_up("warning", loaded.log.format)
    body = _body(
        query=text, tenant=tenant, top_k=top_k, offset=offset, candidates=candidates, rerank=rerank, mode=mode,
        instruction=instruction, filter=_json(only), after=_place(after),
    )  # fmt: skip
    try:
        worker = url or loaded.search.url
        reply = _by_worker(loaded, worker, body) if worker else _in_process(loaded, body)
    except InvalidEvent as error:
        raise Misconfigured(str(error)) from None
    if as_json:
        typer.echo(to_json(reply))
        return
    _show(reply, offset or 0)


@app.command(
    "evaluate",
    rich_help_panel=SEARCH,
    epilog="Examples: `penstock evaluate queries.jsonl` · "
    "`penstock evaluate qrels.txt --queries topics.tsv --no-rerank`",
)
def evaluate_search(
    file: Annotated[Path, typer.Argument(help="Queries with their relevant documents, or TREC's qrels.")],
    queries: Annotated[Path | None, typer.Option(help="The queries' texts, where FILE is TREC's qrels.")] = None,
    candidates: Annotated[int, typer.Option(min=1, help="Chunks retrieved and reranked per query.")] = 100,
    recall: Annotated[
        str | None, typer.Option(help="Cutoffs for recall [default: 10 and 100, as far as there are candidates].")
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose documents.")] = "",
    rerank: Annotated[bool, typer.Option(help="Measure the reranker, too, which takes longest.")] = True,
    sample: Annotated[int | None, typer.Option(min=1, help="Only so many of the queries, always the same.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure how good the search is on queries whose answers are known: nDCG@10, recall and MRR@10.

    FILE has lines {"id", "query", "relevant": ["document", ...]}, or grades as {"document": 2}; with --queries it is
    TREC's qrels. Measured are the search as it is served, in the order of the search, of the reranker and of both
    together; by vectors, by words and by both, with lines that say which to serve; and exact search over the stored
    vectors at every dimension, and without the model's task. Needs the extra `evaluate`.
    """
    from penstock.assembly.evaluate import run_evaluation  # noqa: PLC0415  # the models' libraries load slowly
    from penstock.evaluate.labelled import read, sampled  # noqa: PLC0415
    from penstock.evaluate.report import Options  # noqa: PLC0415

    labelled = read(file, queries)
    if sample is not None:
        labelled = sampled(labelled, sample)
    cutoffs = _cutoffs(recall, candidates)
    loaded = settings.load()
    set_up("warning", loaded.log.format)
    options = Options(candidates, cutoffs, tenant, rerank)
    try:
        report = run_evaluation(loaded, labelled, options, progress_steps(Console(stderr=True)))
    except InvalidEvent as error:
        raise Misconfigured(str(error)) from None
    if as_json:
        typer.echo(json.dumps(report.as_json()))
        return
    _show_report(report)


def _cutoffs(recall: str | None, candidates: int) -> list[int]:
    if recall is None:
        return [cutoff for cutoff in (10, 100) if cutoff <= candidates] or [candidates]
    if not all(part.strip().isdecimal() and int(part) > 0 for part in recall.split(",")):
        raise Misconfigured(f"--recall {recall!r}: numbers separated by commas, please")
    cutoffs = [int(part) for part in recall.split(",")]
    if max(cutoffs) > candidates:
        raise Misconfigured(f"--recall {recall}: only {candidates} candidates are looked at; raise --candidates")
    return cutoffs


def _by_worker(loaded: Settings, url: str, body: Mapping[str, Any]) -> ReplyBody:
    from penstock.query.http.client import QueryClient  # noqa: PLC0415  # loads slowly

    client = QueryClient(url, loaded.search.api_key.get_secret_value(), loaded.search.allow_insecure)
    return client.ask(_checked(body), loaded.query.timeout_s)


def _in_process(loaded: Settings, body: Mapping[str, Any]) -> ReplyBody:
    """In this process, on the store of the settings."""
    from penstock.assembly.models import load_models  # noqa: PLC0415  # the models' libraries load slowly
    from penstock.assembly.search import limits_of, opened_search  # noqa: PLC0415
    from penstock.query.search import TooLate  # noqa: PLC0415

    limits = limits_of(loaded.query, loaded.qdrant)
    query = to_query(read_query(json.dumps(body).encode(), limits), limits, "search", body.get("tenant") or "")
    models = load_models(loaded.model, loaded.rerank, loaded.migration)
    with opened_search(loaded, models) as opened:
        try:
            return to_reply(asyncio.run(opened.answer(query)), models.body.reranker)
        except TooLate as error:
            raise Unavailable(str(error)) from None


def _body(**fields: object) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _checked(body: Mapping[str, Any]) -> QueryBody:
    """The worker checks the rest, by its own limits."""
    from penstock.query.requests import Limits  # noqa: PLC0415

    unlimited = Limits(most_top_k=2**31, most_candidates=2**31, most_characters=2**31, most_conditions=2**31)
    return read_query(json.dumps(body).encode(), unlimited)


def _json(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Misconfigured(f"--filter: no JSON: {error}") from None


def _place(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    topic, _, numbers = text.partition("/")
    partition, _, offset = numbers.partition("/")
    try:
        return PlaceBody(topic=topic, partition=int(partition), offset=int(offset)).model_dump()
    except ValueError:  # pydantic's error is one, too
        raise Misconfigured(f"--after {text}: topic/partition/offset, please") from None


def _show(reply: ReplyBody, offset: int) -> None:
    console = Console()
    table = Table("", "score", "document", "text")
    for rank, hit in enumerate(reply.hits, offset + 1):
        text = " ".join(hit.text.split())
        snippet = text if len(text) <= SNIPPET else text[: SNIPPET - 1] + "…"
        titled = (_plain(hit.title), "bold"), "\n" if hit.title else ""
        path = (_plain(" > ".join(hit.headings)), "italic"), "\n" if hit.headings else ""
        shown = Text.assemble(*titled, *path, _plain(snippet), "\n", (_judged(reply, rank, hit), "dim"))
        table.add_row(str(rank), f"{hit.score:.3f}", Text(_plain(hit.document)), shown)
    console.print(table if reply.hits else "nothing found")
    steps = ", ".join(f"{step} {took:.0f} ms" for step, took in reply.timings_ms.items())
    why = "reranked" if reply.reranked else f"not reranked: {reply.not_reranked}"
    console.print(Text(f"{reply.mode}, {why}; {steps}", style="dim"))


def _judged(reply: ReplyBody, rank: int, hit: HitBody) -> str:
    """What each stage says of the hit, and at which place it found it."""
    moved = f" ({hit.retrieval_rank - rank:+d})" if reply.reranked else ""
    said = [f"retrieval {hit.retrieval_score:.3f}{moved}"]
    said += [f"{name} {_side(side)}" for name, side in (("dense", hit.dense), ("sparse", hit.sparse)) if side]
    said += [] if hit.rerank_score is None else [f"reranker {hit.rerank_score:.3f}"]
    return ", ".join(said)


def _side(side: SideBody) -> str:
    return f"{side.score:.3f}" if side.rank is None else f"{side.score:.3f} #{side.rank}"


def _show_report(report: "Report") -> None:
    from penstock.evaluate.report import SERVED  # noqa: PLC0415  # the models' libraries load slowly

    names = list(report.rows[0].metrics)
    table = Table("search", "dimension", "task", "order", *names)
    for row in report.rows:
        dimension = f"{row.dimension}" if row.trained else f"{row.dimension} *"
        way = row.mode if row.search == SERVED else row.search
        cells = (way, dimension, "yes" if row.instruction else "no", row.order)
        table.add_row(*cells, *(f"{row.metrics[name]:.4f}" for name in names))
    console = Console()
    console.print(table)
    console.print("exact: over all stored vectors; all others: as served", style="dim")
    console.print(f"{report.queries} queries, {report.documents} documents in {report.chunks} chunks", highlight=False)
    for name, gain in report.gains.items():
        interval = f"95 % of resamples between {gain.low:+.4f} and {gain.high:+.4f}"
        console.print(f"{name}: nDCG@10 {gain.difference:+.4f}, {interval}", highlight=False)
    if report.not_reranked:
        query, why = next(iter(report.not_reranked.items()))
        console.print(
            f"{len(report.not_reranked)} queries were not reranked, the first {query}: {why}",
            style="bold",
            markup=False,
        )
    for advice in report.serve:
        console.print(advice, style="bold", highlight=False)
    if report.missing:
        console.print(f"{report.missing} relevant documents are not in the collection", style="bold")
    if not all(row.trained for row in report.rows):
        console.print("* the model was not trained for this dimension", style="dim")


def _plain(text: str) -> str:
    """Without control sequences: a document must not speak to the terminal."""
    return "".join(letter for letter in text if letter.isprintable())
