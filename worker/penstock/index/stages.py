"""What each stage of the overlap does with a batch: prepare, embed, write. See ``pipeline.py`` for how they join."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from penstock.core.documents import ChunkKey, DocumentKey, Event, Op, Order, Stored
from penstock.core.errors import InvalidEvent, Misconfigured, NotFinite, Refused
from penstock.core.ports import DeadLetters, Embedder, Membership, VectorStore
from penstock.core.records import Outcome, Record
from penstock.core.vectors import Vector
from penstock.core.work import Work
from penstock.events.document import decode
from penstock.events.first_ids import FirstIds
from penstock.events.mapping import IdMissing
from penstock.events.rules import DocumentRules
from penstock.index.chunking import Chunker
from penstock.index.in_flight import InFlight
from penstock.index.passages import Text
from penstock.index.plan import Step, Write, collapse, decide, kept
from penstock.index.write import Complete, write
from penstock.stream.breaker import Breaker
from penstock.stream.retry import Retry


@dataclass(slots=True)
class IndexWork(Work):
    """A batch of document events.

    ``settled`` are anchors of documents that need no write; ``fault`` ends the worker before any of it is written.
    """

    writes: list[Write] = field(default_factory=list)
    settled: dict[DocumentKey, Stored] = field(default_factory=dict)
    fault: Misconfigured | None = None


@dataclass(frozen=True, slots=True)
class Prepare:
    """Decode, collapse, recall, plan, chunk and tokenize.

    ``unread`` hears of a topic's fields that nobody reads, ``unwrapped`` of what its documents lay in. ``elsewhere``
    has documents that are still to come, as in a migration: a delete without a version must be newer than these, too.
    """

    rules: DocumentRules
    store: VectorStore
    chunker: Chunker
    recipe: int
    in_flight: InFlight
    read: Callable[[Record, DocumentRules], Event] = decode
    breaker: Breaker = field(default_factory=lambda: Breaker(0, 0, 0))
    unread: Callable[[str, Sequence[str]], None] = lambda _, __: None
    unwrapped: Callable[[str, Sequence[str]], None] = lambda _, __: None
    first_ids: FirstIds = field(default_factory=FirstIds)
    elsewhere: Callable[[Sequence[ChunkKey]], Mapping[ChunkKey, Stored]] = lambda _: {}

    def __call__(self, work: IndexWork) -> IndexWork:
        """Fills in the writes, and the letters of records that cannot be read.

        Where these are too many nothing of the batch is done: what came before is, and then the worker ends.
        """
        events = self._decode(work)
        if work.fault is not None:
            return work
        keys = {event.key: None for event in events}
        in_pipe = self.in_flight.among(keys)
        stored_anchors = self.store.read([ChunkKey(*key, 0) for key in keys]) if keys else {}
        anchors = {DocumentKey(key.tenant, key.document): stored for key, stored in stored_anchors.items()}
        busy = self._to_come(events, anchors, in_pipe)
        while events:
            events = self._plan(work, events, anchors, busy)
        self.in_flight.enter(work.writes)
        work.kept = sum(len(write.keep) for write in work.writes)
        return work

    def _to_come(
        self, events: Sequence[Event], anchors: Mapping[DocumentKey, Stored], busy: Mapping[DocumentKey, Order]
    ) -> Mapping[DocumentKey, Order]:
        """With the orders of documents that are deleted without a version, and are not here yet."""
        unknown = {event.key: None for event in events if event.unversioned and event.key not in anchors}
        there = self.elsewhere([ChunkKey(*key, 0) for key in unknown]) if unknown else {}
        orders = {DocumentKey(key.tenant, key.document): stored.order for key, stored in there.items()}
        return {**orders, **{key: max(order, orders.get(key, order)) for key, order in busy.items()}}

    def _decode(self, work: IndexWork) -> list[Event]:
        events = []
        for record in work.batch.records:
            try:
                event = self.read(record, self.rules)
                events.append(event)
                self.unread(record.partition.topic, event.unknown)
                if event.through:
                    self.unwrapped(record.partition.topic, event.through)
            except InvalidEvent as error:
                wrong = self.first_ids.missing(record, error) if isinstance(error, IdMissing) else None
                work.fault = work.fault or wrong or self.breaker.invalid(str(error))
                work.give_up(record, error, "decode")
            else:
                self.breaker.decoded()
                self.first_ids.found(record)
        return events

    def _plan(
        self,
        work: IndexWork,
        events: Sequence[Event],
        anchors: Mapping[DocumentKey, Stored],
        busy: Mapping[DocumentKey, Order],
    ) -> list[Event]:
        """Plan each document's newest event; returns older ones of documents whose newest cannot be indexed."""
        recipe = self.recipe
        known = {key: anchor.order for key, anchor in anchors.items()}
        known |= {key: max(order, known.get(key, order)) for key, order in busy.items()}
        newest, superseded = collapse(events, known)
        before = known.keys() | {event.key for event in superseded if event.op is Op.UPSERT}
        to_chunk: list[Event] = []
        for event in newest:
            anchor = anchors.get(event.key)
            step = decide(event, anchor, recipe)
            if anchor is not None and step in (Step.STALE, Step.REPEATED):
                work.settled[event.key] = anchor
                work.became(event.record, Outcome.SUPERSEDED if step is Step.STALE else Outcome.UNCHANGED)
            elif step is Step.DELETE:
                work.writes.append(Write(event, recipe, known=event.key in before))
            elif (whole := self._unchanged(event, anchor if event.key not in busy else None)) is not None:
                work.writes.append(whole)
            else:
                to_chunk.append(event)
        failed = self._chunk(work, to_chunk, anchors, busy)
        for event in superseded:
            if event.key not in failed:
                work.became(event.record, Outcome.SUPERSEDED)
        return [event for event in superseded if event.key in failed]

    def _unchanged(self, event: Event, anchor: Stored | None) -> Write | None:
        """The write for a document of one chunk whose text is what is stored: no need to tokenize it."""
        if anchor is None or len(anchor.hashes) != 1 or event.headings:
            return None
        whole = (self.chunker.whole(event.title, event.text),)
        keep = kept(whole, anchor, self.recipe)
        return Write(event, self.recipe, whole, keep) if keep else None

    def _chunk(
        self,
        work: IndexWork,
        events: Sequence[Event],
        anchors: Mapping[DocumentKey, Stored],
        busy: Mapping[DocumentKey, Order],
    ) -> set[DocumentKey]:
        """Cut and tokenize; returns the documents whose event cannot be."""
        if not events:
            return set()
        failed = set()
        cut = self.chunker.chunk([Text(event.title, event.text, event.headings) for event in events])
        for event, chunks in zip(events, cut, strict=True):
            if isinstance(chunks, InvalidEvent):
                work.give_up(event.record, chunks, "chunk")
                failed.add(event.key)
                continue
            reusable = None if event.key in busy else anchors.get(event.key)
            work.writes.append(Write(event, self.recipe, chunks, kept(chunks, reusable, self.recipe)))
        return failed


@dataclass(frozen=True, slots=True)
class Embed:
    """Vectors for every chunk that needs one."""

    embedder: Embedder
    known: Sequence[int]
    """Ids of a text of which any model makes a vector."""

    in_flight: InFlight

    def __call__(self, work: IndexWork) -> IndexWork:
        """Fills in the vectors of the writes, and counts tokens.

        Raises Misconfigured where the model makes no finite vector of any text.
        """
        missing = [(w, i) for w, write in enumerate(work.writes) for i in write.missing]
        if not missing:
            return work
        texts = [work.writes[w].chunks[i].tokens for w, i in missing]
        work.chunks, work.tokens = len(texts), sum(map(len, texts))
        try:
            work.writes = _with_vectors(work.writes, missing, self.embedder.embed(texts))
        except NotFinite as error:
            require_others(self.embedder, self.known, error)
            filled = _with_vectors(work.writes, missing, error.values)
            broken: dict[int, list[int]] = {}
            for w, i in (missing[row] for row in error.rows):
                broken.setdefault(w, []).append(i)
            for w, chunks in broken.items():
                work.give_up(filled[w].event.record, InvalidEvent(no_vector(chunks)), "embed")
            self.in_flight.leave([work.writes[w] for w in broken])
            work.writes = [write for w, write in enumerate(filled) if w not in broken]
        return work


def require_others(embedder: Embedder, known: Sequence[int], error: NotFinite) -> None:
    """It is about a text only where the model makes a vector of another; raises Misconfigured where it does not."""
    try:
        embedder.embed([known])
    except NotFinite:
        raise Misconfigured(f"{error}; it makes none of any other text, either") from error


def no_vector(chunks: Sequence[int]) -> str:
    """Why a document is given up."""
    named = ", ".join(map(str, chunks))
    return f"the model made no finite vector of chunk {named}: cut it otherwise, or export the model in bf16 or fp32"


def _with_vectors(writes: Sequence[Write], places: Sequence[tuple[int, int]], rows: Vector) -> list[Write]:
    """The writes with a row of vectors at each place (write, chunk)."""
    vectors: dict[int, dict[int, Vector]] = {}
    for (w, i), row in zip(places, rows, strict=True):
        vectors.setdefault(w, dict(writes[w].vectors or {}))[i] = row
    return [replace(write, vectors=vectors[w]) if w in vectors else write for w, write in enumerate(writes)]


def completer(chunker: Chunker, embedder: Embedder) -> Complete:
    """Makes the function that ends the reuse of stored chunks: every chunk gets its own vector."""

    def complete(writes: Sequence[Write]) -> list[Write]:
        bare = [
            (w, i) for w, write in enumerate(writes) for i in range(len(write.chunks)) if i not in (write.vectors or {})
        ]
        chunks = [(writes[w].event.title, writes[w].chunks[i]) for w, i in bare]
        texts = [chunk.tokens or chunker.tokens(title, chunk) for title, chunk in chunks]
        filled = _with_vectors(writes, bare, embedder.embed(texts)) if texts else writes
        return [replace(write, keep=frozenset()) for write in filled]

    return complete


@dataclass(frozen=True, slots=True)
class WriteOut:
    """The write protocol for the batch, then its dead letters; first and last, whether this is still the same stream.

    The store and the dead letters wait out their own outages; ``retry`` repeats the protocol as a whole.
    """

    joined: Membership
    store: VectorStore
    dead_letters: DeadLetters
    complete: Complete
    retry: Retry
    in_flight: InFlight

    def __call__(self, work: IndexWork) -> IndexWork:
        """Returns once everything of the batch is durable, so that its positions may be committed."""
        if work.fault is not None:
            raise work.fault
        self.joined.verify(work.batch)
        self._write(work, work.writes, work.settled)
        if work.letters:
            self.dead_letters.put(work.letters)
        self.joined.advance(work.batch)
        self.in_flight.leave(work.writes)
        return work

    def _write(self, work: IndexWork, writes: Sequence[Write], settled: Mapping[DocumentKey, Stored]) -> None:
        """Write, and when the store calls the request wrong, halve it until the culprit is alone."""
        try:
            outcomes = self.retry.call(lambda: write(self.store, writes, self.complete, settled))
            for one in writes:
                work.became(one.event.record, outcomes[one.event.key])
        except (Refused, NotFinite) as error:
            if len(writes) == 1:
                self._give_up(work, writes[0], error)
                self._write(work, [], settled)
                return
            middle = len(writes) // 2
            self._write(work, writes[:middle], settled)
            self._write(work, writes[middle:], {})

    def _give_up(self, work: IndexWork, write: Write, error: Refused | NotFinite) -> None:
        """The document goes to the dead letters, and nothing of this write stays in the store."""
        if isinstance(error, Refused):
            self._require_others(error)
        self.store.retract(write.points)
        work.give_up(write.event.record, error if isinstance(error, Refused) else InvalidEvent(str(error)), "write")

    def _require_others(self, refusal: Refused) -> None:
        """A refusal is about a document only where the store takes something that it must take."""
        try:
            self.store.probe()
        except Refused as error:
            raise Misconfigured(
                f"the store takes no document at all: {error}; first it refused one: {refusal}"
            ) from error
