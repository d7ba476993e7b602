"""A query's way: embed, retrieve, drop what its anchor disowns."""

from collections.abc import Sequence
from dataclasses import dataclass

from worker.ports import Embedder, Searcher, Tokenizer
from worker.types import ChunkKey, Hit, Stored

SPARE = 2
"""Candidates fetched per hit wanted: some may be stale, or of a document that is there already."""


@dataclass(frozen=True, slots=True)
class Search:
    """Vector search for one collection. ``prompt`` is the model's for queries, ``limit`` its window in tokens."""

    tokenizer: Tokenizer
    embedder: Embedder
    store: Searcher
    prompt: str
    limit: int

    def documents(self, query: str, top: int, tenant: str = "") -> list[Hit]:
        """The best chunk of each of the ``top`` nearest documents, nearest first."""
        vector = self.embedder.embed(self.tokenizer.encode([self.prompt + query], self.limit))[0]
        candidates = self.store.search(vector, tenant, top * SPARE)
        anchors = self.store.read([ChunkKey(hit.key.tenant, hit.key.document, 0) for hit in candidates])
        best: dict[str, Hit] = {}
        for hit in owned(candidates, anchors):
            best.setdefault(hit.key.document, hit)
        return list(best.values())[:top]


def owned(hits: Sequence[Hit], anchors: dict[ChunkKey, Stored]) -> list[Hit]:
    """The hits that belong to their document as it is now: its anchor lives, and they are not older than it."""
    kept = []
    for hit in hits:
        anchor = anchors.get(ChunkKey(hit.key.tenant, hit.key.document, 0))
        if anchor is not None and not anchor.deleted and not hit.stored.older(anchor.order, anchor.recipe):
            kept.append(hit)
    return kept
