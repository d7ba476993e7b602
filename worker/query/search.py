"""A query's way: embed, retrieve, drop what its anchor disowns."""

from dataclasses import dataclass

from worker.ports import Embedder, Searcher, Tokenizer
from worker.types import ChunkKey, Hit, owned

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
