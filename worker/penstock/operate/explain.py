"""What is known of one document: its points, its records, its dead letters, and how far the workers are. Pure."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from penstock.core.documents import EPOCH_SHIFT, DocumentKey, Event, Order
from penstock.core.errors import InvalidEvent, Unforeseen
from penstock.core.explained import StoredPoint
from penstock.core.filters import matches
from penstock.core.letters import DeadLetter
from penstock.core.moments import as_stored
from penstock.core.offsets import GroupStanding
from penstock.core.records import Partition, Place, Record
from penstock.events.check import check
from penstock.events.document import decode
from penstock.events.foreign import key_name
from penstock.events.keys import split_key, written_key
from penstock.events.rules import DocumentRules
from penstock.query.explain import Alone, Sought


class State(StrEnum):
    """What a document is for readers."""

    UNKNOWN = "unknown"
    SEARCHABLE = "searchable"
    DELETED = "deleted"
    EXPIRED = "expired"
    WITHOUT_ANCHOR = "without anchor"


@dataclass(frozen=True, slots=True)
class Document:
    """The points of a document, by what its anchor makes of them.

    ``current`` are those that readers get; ``below`` what an older version has left, ``above`` what a newer one, being
    written or given up, has written before its anchor. ``missing`` are chunks that the anchor names and nobody has.
    """

    key: DocumentKey
    state: State
    anchor: StoredPoint | None = None
    current: tuple[StoredPoint, ...] = ()
    below: tuple[StoredPoint, ...] = ()
    above: tuple[StoredPoint, ...] = ()
    missing: tuple[int, ...] = ()


def document_of(key: DocumentKey, points: Sequence[StoredPoint], now: datetime) -> Document:
    """As readers would judge it at that moment."""
    anchor = next((point for point in points if point.held.key.chunk == 0), None)
    if anchor is None:
        return Document(key, State.WITHOUT_ANCHOR if points else State.UNKNOWN, above=tuple(points))
    whose = anchor.held.stored
    current = tuple(
        point for point in points
        if point.held.stored.order == whose.order and point.held.stored.recipe >= whose.recipe
    )  # fmt: skip
    below = tuple(point for point in points if point.held.stored.older(whose.order, whose.recipe))
    above = tuple(point for point in points if point not in current and point not in below)
    there = {point.held.key.chunk for point in current}
    missing = tuple(chunk for chunk in range(len(whose.hashes)) if chunk not in there)
    return Document(key, _state(anchor, now), anchor, current, below, above, missing)


def _state(anchor: StoredPoint, now: datetime) -> State:
    if anchor.held.stored.deleted:
        return State.DELETED
    expires = as_stored(anchor.held.expires_at)
    return State.EXPIRED if expires is not None and expires <= now else State.SEARCHABLE


def in_words(order: Order) -> str:
    """Version, and the place in the stream that makes it later than others of that version."""
    epoch, offset = order.sequence >> EPOCH_SHIFT, order.sequence & ((1 << EPOCH_SHIFT) - 1)
    where = f"epoch {epoch}, offset {offset}" if epoch else f"of a file, {order.sequence}"
    return where if order.version == order.sequence else f"version {order.version}, {where}"


def key_of(document: DocumentKey, rules: DocumentRules) -> bytes | None:
    """The key that its records have; None where keys say nothing, or are not written here."""
    if rules.key == "ignore" or rules.registry is not None:
        return None
    name = document.document if rules.mapping is None else rules.mapping.key_of(document.document)
    try:
        return written_key(f"{document.tenant}/{name}" if rules.tenant_from == "key" else name, rules.key_format)
    except InvalidEvent:
        return None


def source_of(point: StoredPoint | None) -> Place | None:
    """The record that a point was made of; None of a file's, or where there is none."""
    topic, _, place = ("" if point is None else point.held.source).partition("/")
    partition, _, offset = place.partition("/")
    return Place(topic, int(partition), int(offset)) if partition.isdigit() and offset.isdigit() else None


@dataclass(frozen=True, slots=True)
class Sighting:
    """A record that is about the document: what it would become, and how it stands to what is stored.

    ``compared`` is newer, equal or older; empty where nothing is stored, or where it can never be indexed.
    """

    place: Place
    time_ms: int | None
    became: str
    said: str
    compared: str = ""


def is_about(record: Record, document: DocumentKey, rules: DocumentRules) -> bool | None:
    """By its key alone; None where the key does not tell. Raises Unavailable where a registry is away."""
    rules = rules.of(record.partition.topic)
    try:
        name = key_name(record, rules)
        if name is None:
            return None
        named = DocumentKey(*split_key(name)) if rules.tenant_from == "key" else DocumentKey(document.tenant, name)
    except (InvalidEvent, Unforeseen):
        return False
    return named == document


def sighting(
    record: Record, document: DocumentKey, anchor: StoredPoint | None, rules: DocumentRules
) -> Sighting | None:
    """What it is, where it is about the document; None where it is not, as far as that can be told."""
    if is_about(record, document, rules) is False:
        return None
    try:
        event: Event | None = decode(record, rules)
    except (InvalidEvent, Unforeseen):
        event = None
    if event is None and not is_about(record, document, rules):
        return None
    if event is not None and event.key != document:
        return None
    told = check(record, rules)
    compared = "" if event is None or anchor is None else _compared(event, anchor.held.stored.order)
    return Sighting(Place(*record.partition, record.offset), record.timestamp_ms, told.became, told.said, compared)


def _compared(event: Event, stored: Order) -> str:
    """A delete without a version has the highest that is known."""
    order = event.order
    if event.unversioned:
        order = Order(max(order.version, stored.version), order.sequence)
    return "newer" if order > stored else "equal" if order == stored else "older"


def is_letter_of(
    record: Record, letter: DeadLetter, document: DocumentKey, places: Collection[Place], rules: DocumentRules
) -> bool:
    """Whether a dead letter is of one of these records, or names the document by its key."""
    if letter.origin is not None and letter.origin in places:
        return True
    topic = record.partition.topic if letter.origin is None else letter.origin.topic
    as_sent = replace(record, partition=Partition(topic, 0))
    return bool(is_about(as_sent, document, rules))


@dataclass(frozen=True, slots=True)
class InStream:
    """What the topics say of it: its records and dead letters, and where the index group is in each partition.

    ``partitions`` were read; ``alone`` says that the records of its key lie in these only.
    """

    sightings: tuple[Sighting, ...] = ()
    letters: tuple[DeadLetter, ...] = ()
    partitions: tuple[Partition, ...] = ()
    alone: bool = False
    group: GroupStanding | None = None

    @property
    def newest(self) -> Sighting | None:
        """The record of it that came last, where it can be indexed."""
        fit = [one for one in self.sightings if one.became != "dead letter"]
        return max(fit, key=lambda one: (one.time_ms or 0, one.place), default=None)


def past(group: GroupStanding, place: Place) -> tuple[bool, int] | None:
    """Whether the group has committed beyond a record, and how many offsets it is before or behind.

    None where it does not read that partition.
    """
    at = group.partitions.get(Partition(place.topic, place.partition))
    if at is None:
        return None
    committed = at.committed or 0
    return committed > place.offset, abs(committed - place.offset)


@dataclass(frozen=True, slots=True)
class Explanation:
    """All of it; ``elsewhere`` are other tenants that have a document of that id."""

    document: Document
    elsewhere: tuple[str, ...] = ()
    stream: InStream | None = None
    collection: str = ""


def tenants_of(points: Sequence[StoredPoint], tenant: str) -> tuple[str, ...]:
    """Of whom there are points, but for that one."""
    return tuple(sorted({point.held.key.tenant for point in points} - {tenant}))


def why_no_candidate(explained: Explanation, found: Sought, alone: Alone | None) -> str:
    """Why a search has not even looked at it: the first rule that leaves it out."""
    document = explained.document
    if document.state is State.UNKNOWN:
        others = f"; there is one of tenant {', '.join(explained.elsewhere)}" if explained.elsewhere else ""
        return f"nothing of it is stored{others}"
    if document.state is not State.SEARCHABLE:
        return f"it is {document.state}"
    given = found.query.filter
    if given is not None and not any(matches(given, point.fields) for point in document.current):
        return "filter: none of its chunks meets it"
    if alone is None or alone.hit is None:
        return "nothing in it has anything of the query, or its anchor disowns what has"
    place = f"at place {alone.rank} of {alone.depth}" if alone.rank else f"not among the first {alone.depth} either"
    return f"candidates: {found.candidates} chunks are nearer; its best is {place}"
