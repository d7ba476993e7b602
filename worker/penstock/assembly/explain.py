"""``penstock explain``, put together: the store is asked, then the topics, then a search."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from penstock.adapters.kafka.group_offsets import GroupOffsets
from penstock.adapters.kafka.keyed import partition_of
from penstock.adapters.kafka.letters import existing, whole
from penstock.adapters.kafka.whole import Extent
from penstock.adapters.qdrant.channel import about_no_document
from penstock.adapters.qdrant.collection import NoCollection
from penstock.adapters.qdrant.metadata import resolve
from penstock.adapters.qdrant.one_document import points_of
from penstock.assembly.index import open_registry, rules_for
from penstock.assembly.models import load_models
from penstock.assembly.offsets import Step
from penstock.assembly.search import limits_of, opened_search, reader
from penstock.core.documents import DocumentKey, epoch_base
from penstock.core.errors import Unavailable
from penstock.core.filters import Filter
from penstock.core.letters import DeadLetter, read_letter
from penstock.core.queries import Query, Shaping
from penstock.core.records import Partition
from penstock.events.rules import DocumentRules
from penstock.operate.explain import (
    Document,
    Explanation,
    InStream,
    Sighting,
    State,
    document_of,
    is_letter_of,
    key_of,
    sighting,
    source_of,
    tenants_of,
    why_no_candidate,
)
from penstock.query.explain import Alone, Sought, sought, why_dropped
from penstock.query.requests import read_query, to_query
from penstock.query.search import Search, TooLate
from penstock.settings import Settings


class Story(NamedTuple):
    """What a query makes of a document, and why it is not in the answer; empty where it is."""

    found: Sought
    alone: Alone | None
    why_not: str


def stored(settings: Settings, key: DocumentKey) -> Explanation:
    """What the collection holds of it that readers get; raises Misconfigured where there is none, or Unavailable."""
    name = settings.qdrant.collection
    with closing(reader(settings.qdrant, settings.query)) as connection:
        with about_no_document():
            connection.check_version()
            actual = resolve(connection.collections, name)
        if actual is None:
            raise NoCollection(f"there is no collection {name!r} yet: index something first")
        points = points_of(connection.points, actual, key.document, key.tenant)
        elsewhere = () if points else tenants_of(points_of(connection.points, actual, key.document, None), key.tenant)
    return Explanation(document_of(key, points, datetime.now(UTC)), elsewhere, None, actual)


def in_stream(settings: Settings, document: Document, step: Step) -> InStream:
    """Its records and dead letters, as far as they are still there; raises Misconfigured or Unavailable."""
    kafka, index = settings.kafka, settings.index
    rules = rules_for(index, epoch_base(index.epoch), keyed=True, several=len(kafka.topics) != 1)
    rules = rules.asking(open_registry(settings.registry))
    with closing(GroupOffsets(kafka)) as offsets:
        group = offsets.look()
    topics = sorted({partition.topic for partition in group.partitions})
    sightings: list[Sighting] = []
    with whole(kafka, topics) as opened:
        opened.extents = where_it_lies(document, rules, opened.extents)
        read = tuple(opened.extents)
        with step("reading its topic", opened.offsets) as passed:
            for records in opened.read(passed=passed):
                found = (sighting(record, document.key, document.anchor, rules) for record in records)
                sightings += [one for one in found if one is not None]
    letters = _letters(settings, topics, document, sightings, rules, step)
    alone = len(read) < len(group.partitions)
    return InStream(tuple(sightings), tuple(letters), read, alone, group)


def where_it_lies(
    document: Document, rules: DocumentRules, extents: Mapping[Partition, Extent]
) -> dict[Partition, Extent]:
    """The partitions to read: of a topic only that of its key, where what is stored of it came from there, too."""
    source, chosen = source_of(document.anchor), dict(extents)
    if source is None or (key := key_of(document.key, rules.of(source.topic))) is None:
        return chosen
    own = [owned for owned in extents if owned.topic == source.topic]
    if not own or partition_of(key, len(own)) != source.partition:
        return chosen
    return {at: extent for at, extent in extents.items() if at.topic != source.topic or at.number == source.partition}


def _letters(
    settings: Settings, topics: list[str], document: Document, seen: list[Sighting], rules: DocumentRules, step: Step
) -> list[DeadLetter]:
    kafka = settings.kafka
    names = list(existing(kafka, sorted({kafka.dead_letters_of(topic) for topic in topics})))
    places = {one.place for one in seen} | {place for place in (source_of(document.anchor),) if place}
    if not names:
        return []
    with whole(kafka, names) as opened, step("reading dead letters", opened.offsets) as passed:
        read = ((record, read_letter(record)) for records in opened.read(passed=passed) for record in records)
        return [letter for record, letter in read if is_letter_of(record, letter, document.key, places, rules)]


def searched(settings: Settings, explained: Explanation, text: str) -> Story:
    """What a search makes of it; ``text`` is a query's, or the body of one as JSON.

    Raises InvalidEvent for a query that cannot be answered, Misconfigured or Unavailable.
    """
    limits = limits_of(settings.query, settings.qdrant)
    body = text.encode() if text.lstrip().startswith("{") else to_body(text)
    query = to_query(read_query(body, limits), limits, "explain", explained.document.key.tenant)
    query = replace(query, timeout_s=settings.query.max_timeout_s)
    models = load_models(settings.model, settings.rerank)
    with opened_search(settings, models) as search:
        try:
            return asyncio.run(_story(search, query, explained, settings.query.max_candidates))
        except TooLate as error:
            raise Unavailable(str(error)) from None


def to_body(text: str) -> bytes:
    """A query that asks for nothing but a text."""
    return json.dumps({"query": text}).encode()


async def _story(search: Search, query: Query, explained: Explanation, most: int) -> Story:
    name = explained.document.key.document
    retrieved = await search.retrieve(query, whole=True)
    answer = await search.order(retrieved)
    among = any(hit.key.document == name for hit in retrieved.hits)
    ranked = answer.documents
    if among and not any(one.hit.key.document == name for one in ranked):
        unlimited = replace(
            retrieved.query,
            top_k=len(retrieved.hits),
            offset=None if query.offset is None else 0,
            shaping=Shaping(query.shaping.boost),
        )
        ranked = (await search.order(replace(search.renewed(retrieved), query=unlimited))).documents
    found = sought(retrieved.query, name, retrieved.hits, ranked, answer.documents, answer.not_reranked)
    if among:
        return Story(found, None, why_dropped(found))
    alone = await _alone(search, query, name, most) if explained.document.state is State.SEARCHABLE else None
    return Story(found, alone, why_no_candidate(explained, found, alone))


async def _alone(search: Search, query: Query, name: str, most: int) -> Alone:
    """With no other document in its way, and then with as many as there may ever be."""
    only = Filter(field="document", equals=name)
    both = only if query.filter is None else Filter(all=(query.filter, only))
    itself = (await search.retrieve(replace(query, filter=both, offset=None), whole=True)).hits
    deep = (await search.retrieve(replace(query, candidates=most, offset=None), whole=True)).hits
    rank = next((rank for rank, hit in enumerate(deep, 1) if hit.key.document == name), None)
    return Alone(itself[0] if itself else None, rank, len(deep))
