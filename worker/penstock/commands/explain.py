"""Why a document is as it is: ``penstock explain``."""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from penstock.commands.app import UPKEEP, app
from penstock.commands.process import load_settings
from penstock.core.documents import TENANT, DocumentKey
from penstock.core.errors import InvalidEvent, Misconfigured
from penstock.core.explained import StoredPoint
from penstock.events.keys import check_id
from penstock.observe.live import steps
from penstock.operate.explain import Document, Explanation, InStream, in_words, past
from penstock.operate.letters import at

if TYPE_CHECKING:
    from penstock.assembly.explain import Story
    from penstock.core.queries import Hit

SHOWN, MOST = 70, 20


@app.command(
    "explain",
    rich_help_panel=UPKEEP,
    epilog="Examples: `penstock explain d3` · `penstock explain d3 --query turbine --no-topic` · "
    """`penstock explain d3 --query '{"query": "turbine", "top_k": 3}' --json`""",
)
def explain_document(
    document: Annotated[str, typer.Argument(help="Its id.")],
    tenant: Annotated[str | None, typer.Option(help="Whose document, where there are tenants.")] = None,
    query: Annotated[
        str | None, typer.Option(metavar="TEXT|JSON", help="Say also why this query finds it, or does not.")
    ] = None,
    no_topic: Annotated[bool, typer.Option("--no-topic", help="Ask the store only, and not Kafka.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say all that is known of one document: what is stored, its records and dead letters, and whether they are read.

    Records are looked for where its key belongs, where that is certain, else in all partitions, which takes as long as
    reading the topic. With --query: at which place it is found and reranked, or which rule leaves it out; a query is
    its text, or a body as the query workers take it. Changes nothing; a document that nobody knows is no error.
    """
    settings = load_settings()
    key = _key(document, settings.index.tenant if tenant is None else tenant)
    from penstock.assembly import explain as explaining  # noqa: PLC0415  # slow: first what can fail at once

    explained = explaining.stored(settings, key)
    if not no_topic:
        step = steps(Console(stderr=True))
        explained = replace(explained, stream=explaining.in_stream(settings, explained.document, step))
    try:
        story = None if query is None else explaining.searched(settings, explained, query)
    except InvalidEvent as error:
        raise Misconfigured(f"--query: {error}") from None
    if as_json:
        typer.echo(json.dumps(_as_json(explained, story), ensure_ascii=False))
        return
    for line in _lines(explained, story):
        typer.echo("".join(letter for letter in line if letter.isprintable()))


def _key(document: str, tenant: str) -> DocumentKey:
    if tenant and not TENANT.fullmatch(tenant):
        raise Misconfigured(f"--tenant {tenant!r}: letters, digits and . _ - only, at most 128")
    try:
        check_id(document)
    except InvalidEvent as error:
        raise Misconfigured(str(error)) from None
    return DocumentKey(tenant, document)


def _lines(explained: Explanation, story: "Story | None") -> Iterable[str]:
    yield from _stored(explained.document)
    if explained.elsewhere:
        yield f"  there is one of that id of tenant {', '.join(explained.elsewhere)}"
    if explained.stream is not None:
        yield from _in_stream(explained.stream)
    if story is not None:
        yield from _searched(story)


def _stored(document: Document) -> Iterable[str]:
    whose = f" of tenant {document.key.tenant}" if document.key.tenant else ""
    yield f"document {document.key.document}{whose}: {document.state}"
    if (anchor := document.anchor) is not None:
        held = anchor.held
        yield f"  {in_words(held.stored.order)}; recipe {held.stored.recipe}; indexed {held.indexed_at}"
        yield f"  made of {held.source}" + (f"; expires {held.expires_at}" if held.expires_at else "")
        yield from ([f"  title {_short(anchor.title)!r}"] if anchor.title else [])
    for point in document.current if anchor is None or not anchor.held.stored.deleted else ():
        place = f"chunk {point.held.key.chunk}, {point.start} to {point.end}"
        yield f"  {place}, {point.held.stored.hash}: {_short(point.text)}"
    if document.missing:
        yield f"  chunks that its anchor names and that are not there: {', '.join(map(str, document.missing))}"
    for what, points in (("left over from an older version", document.below), ("ahead of its anchor", document.above)):
        for point in points:
            yield f"  {what}: chunk {point.held.key.chunk}, {in_words(point.held.stored.order)}"


def _in_stream(stream: InStream) -> Iterable[str]:
    where = ", ".join(f"{owned.topic}/{owned.number}" for owned in stream.partitions)
    alone = ", where its key belongs" if stream.alone else ""
    yield f"{len(stream.sightings)} records in {where}{alone}"
    for one in stream.sightings[-MOST:]:
        compared = f" ({one.compared}, beside what is stored)" if one.compared else ""
        yield f"  {_place(one.place)}  {_when(one.time_ms)}  {one.became}{compared}: {one.said}"
    yield f"{len(stream.letters)} dead letters"
    for letter in stream.letters[-MOST:]:
        of = f" of {_place(letter.origin)}" if letter.origin else ""
        yield f"  {_place(letter.place)}  {_when(letter.time_ms)}{of}: {letter.reason}"
    if stream.newest is not None and stream.group is not None:
        yield f"group {stream.group.group} {_progress(stream)} its newest record"


def _progress(stream: InStream) -> str:
    if stream.newest is None or stream.group is None or (known := past(stream.group, stream.newest.place)) is None:
        return "knows nothing of"
    done, offsets = known
    return "has committed beyond" if done else f"is {offsets} offsets before"


def _searched(story: "Story") -> Iterable[str]:
    found = story.found
    yield f"query {found.query.text!r}, {found.query.mode}, {found.candidates} candidates"
    if found.best is not None:
        yield f"  retrieved at place {found.retrieved}: {_sides(found.best)}"
    elif story.alone is not None and story.alone.hit is not None:
        yield f"  looked for alone: {_sides(story.alone.hit)}"
    if found.ranked is not None:
        judged = found.ranked.rerank_score
        by = f"not reranked: {found.not_reranked}" if judged is None else f"the reranker says {judged:.3f}"
        yield f"  ordered at place {found.place}, score {found.ranked.score:.3f}; {by}"
    yield f"  not found, {story.why_not}" if story.why_not else f"  found, hit {found.answered} of the answer"


def _sides(hit: "Hit") -> str:
    told = [f"chunk {hit.key.chunk}, score {hit.score:.3f}"]
    for name, side in (("dense", hit.dense), ("sparse", hit.sparse)):
        told += [] if side is None else [f"{name} {side.score:.3f}" + (f" #{side.rank}" if side.rank else "")]
    return ", ".join(told)


def _as_json(explained: Explanation, story: "Story | None") -> dict[str, Any]:
    document, stream = explained.document, explained.stream
    anchor = None if document.anchor is None else document.anchor.held
    return {
        "tenant": document.key.tenant,
        "document": document.key.document,
        "state": document.state,
        "collection": explained.collection,
        "anchor": None if anchor is None else {
            "version": anchor.stored.order.version, "sequence": anchor.stored.order.sequence,
            "recipe": anchor.stored.recipe, "deleted": anchor.stored.deleted, "hashes": anchor.stored.hashes,
            "indexed_at": anchor.indexed_at, "expires_at": anchor.expires_at or None, "source": anchor.source,
        },
        "chunks": list(map(_chunk, document.current)),
        "left_over": list(map(_chunk, document.below)),
        "ahead": list(map(_chunk, document.above)),
        "missing": document.missing,
        "elsewhere": explained.elsewhere,
        "stream": None if stream is None else _stream(stream),
        "query": None if story is None else _story(story),
    }  # fmt: skip


def _chunk(point: StoredPoint) -> dict[str, Any]:
    stored = point.held.stored
    order = {"version": stored.order.version, "sequence": stored.order.sequence, "recipe": stored.recipe}
    place = {"chunk": point.held.key.chunk, "start": point.start, "end": point.end, "hash": stored.hash}
    return place | order | {"text": point.text}


def _stream(stream: InStream) -> dict[str, Any]:
    newest = stream.newest
    known = None if newest is None or stream.group is None else past(stream.group, newest.place)
    return {
        "partitions": [f"{owned.topic}/{owned.number}" for owned in stream.partitions],
        "key_partition_only": stream.alone,
        "records": [asdict(one) | {"place": _place(one.place)} for one in stream.sightings],
        "dead_letters": [
            {
                "place": _place(letter.place), "time_ms": letter.time_ms, "reason": letter.reason,
                "origin": None if letter.origin is None else _place(letter.origin),
            }
            for letter in stream.letters
        ],
        "newest_is_committed": None if known is None else known[0],
    }  # fmt: skip


def _story(story: "Story") -> dict[str, Any]:
    found = story.found
    hit = found.best or (story.alone.hit if story.alone else None)
    return {
        "found": not story.why_not,
        "why_not": story.why_not or None,
        "mode": found.query.mode,
        "candidates": found.candidates,
        "retrieved": found.retrieved,
        "dense": None if hit is None or hit.dense is None else hit.dense._asdict(),
        "sparse": None if hit is None or hit.sparse is None else hit.sparse._asdict(),
        "place": found.place,
        "score": None if found.ranked is None else found.ranked.score,
        "rerank_score": None if found.ranked is None else found.ranked.rerank_score,
        "not_reranked": found.not_reranked or None,
        "answered": found.answered,
    }


def _place(place: tuple[str, int, int]) -> str:
    return "/".join(map(str, place))


def _when(time_ms: int | None) -> str:
    if time_ms is None:
        return "at no known time"
    return at(time_ms).isoformat(timespec="seconds").replace("+00:00", "Z")


def _short(text: str) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= SHOWN else one_line[: SHOWN - 1] + "…"
