"""The write protocol: how a batch of documents gets into the store while others may be writing the same ones.

Workers crash, and one that has lost its partition may go on writing for a while. So every write is guarded by
the order of what it meets, a document's anchor (chunk 0) is written after its other chunks, and it is read back,
since a guard that rejects says nothing. What loses is older than its anchor, therefore invisible, and swept later.

Invariants: an anchor's order never falls; when it holds an order, every chunk of that order was acknowledged;
nothing as new as its anchor is removed.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace

from penstock.core.documents import ChunkKey, DocumentKey, Op, Stored
from penstock.core.errors import Unavailable
from penstock.core.ports import VectorStore
from penstock.core.records import Outcome
from penstock.index.plan import Write, settle

MOST_ROUNDS = 10
"""A document is overtaken now and then; so often in a row, the store does not show what it acknowledged."""

Complete = Callable[[Sequence[Write]], list[Write]]
"""Gives every chunk of these documents its vector, so that nothing stored is reused."""


def write(
    store: VectorStore, writes: Sequence[Write], complete: Complete, settled: Mapping[DocumentKey, Stored]
) -> dict[DocumentKey, Outcome]:
    """Run the protocol to its end; see ``steps``."""
    protocol = steps(store, writes, complete, settled)
    while True:
        try:
            next(protocol)
        except StopIteration as end:
            outcomes: dict[DocumentKey, Outcome] = end.value
            return outcomes


def steps(
    store: VectorStore, writes: Sequence[Write], complete: Complete, settled: Mapping[DocumentKey, Stored]
) -> Generator[None, None, dict[DocumentKey, Outcome]]:
    """The protocol, pausing after every call of the store.

    ``settled`` are anchors that need no write (their event was stale or repeated) but may have left-overs to
    sweep. Returns what became of each written document; raises Unavailable when the store does not show them.
    """
    outcomes: dict[DocumentKey, Outcome] = {}
    anchors = dict(settled)
    waiting = list(writes)
    for _ in range(MOST_ROUNDS):
        if not waiting:
            break
        yield from _write_chunks(store, waiting)
        waiting = yield from _verify_kept(store, waiting, complete)
        yield from _write_anchors(store, waiting)
        read_back = store.read([_anchor(write) for write in waiting])
        yield
        again: list[Write] = []
        for write in waiting:
            anchor = read_back.get(_anchor(write))
            verdict = _verdict(write, anchor)
            if anchor is None or verdict is None:
                again.append(_resettled(write, anchor))
            else:
                outcomes[write.event.key] = verdict
                anchors[write.event.key] = anchor
        waiting = complete(again) if again else []
    if waiting:
        raise Unavailable(f"{len(waiting)} documents were written {MOST_ROUNDS} times and are not read back")
    if anchors:
        store.sweep(anchors)
        yield
    return outcomes


@dataclass(frozen=True, slots=True)
class _KeptChunk:
    """A kept chunk, and what its stored form must be by now."""

    write: Write
    hash: str

    def holds(self, stored: Stored | None) -> bool:
        """Mine with the same text, or overtaken by something newer."""
        if stored is None:
            return False
        order, recipe = self.write.event.order, self.write.recipe
        if stored.order == order and stored.recipe == recipe:
            return stored.hash == self.hash
        return stored.newer(order, recipe)


def _anchor(write: Write) -> ChunkKey:
    return ChunkKey(*write.event.key, 0)


def _write_chunks(store: VectorStore, writes: Sequence[Write]) -> Generator[None, None, None]:
    """All but the anchors: changed chunks with their vectors, kept ones by their payload alone."""
    points = [(write, i) for write in writes for i in range(1, len(write.chunks))]
    yield from _put(store, points)


def _write_anchors(store: VectorStore, writes: Sequence[Write]) -> Generator[None, None, None]:
    yield from _put(store, [(write, 0) for write in writes])


def _put(store: VectorStore, points: Sequence[tuple[Write, int]]) -> Generator[None, None, None]:
    if changed := [write.point(i) for write, i in points if i not in write.keep]:
        store.upsert(changed)
        yield
    if kept := [write.point(i) for write, i in points if i in write.keep]:
        store.patch(kept)
        yield


def _verify_kept(store: VectorStore, writes: Sequence[Write], complete: Complete) -> Generator[None, None, list[Write]]:
    """Verify the kept chunks; a document that has one missing or changed is written again without reuse."""
    kept = {
        ChunkKey(*write.event.key, i): _KeptChunk(write, write.chunks[i].hash)
        for write in writes
        for i in write.keep
        if i > 0
    }
    if not kept:
        return list(writes)
    read_back = store.read(list(kept))
    yield
    broken = {chunk.write.event.key for key, chunk in kept.items() if not chunk.holds(read_back.get(key))}
    if not broken:
        return list(writes)
    redone = complete([write for write in writes if write.event.key in broken])
    yield from _write_chunks(store, redone)
    return [write for write in writes if write.event.key not in broken] + redone


def _verdict(write: Write, anchor: Stored | None) -> Outcome | None:
    """What the anchor that was read back says; None when the document must be written again."""
    if anchor is None or anchor.older(write.event.order, write.recipe):
        return None
    if anchor.newer(write.event.order, write.recipe):
        return None if _overtaken_by_earlier(write, anchor) else Outcome.SUPERSEDED
    if write.event.op is Op.DELETE:
        return Outcome.DELETED if write.known else Outcome.DELETED_UNKNOWN
    return Outcome.UNCHANGED if len(write.keep) == len(write.chunks) else Outcome.INDEXED


def _overtaken_by_earlier(write: Write, anchor: Stored) -> bool:
    """Whether a delete without a version met an earlier event that someone wrote after the anchor was recalled."""
    return write.event.unversioned and anchor.order.sequence < write.event.order.sequence


def _resettled(write: Write, anchor: Stored | None) -> Write:
    if anchor is None or not _overtaken_by_earlier(write, anchor):
        return write
    return replace(write, event=settle(write.event, anchor.order))
