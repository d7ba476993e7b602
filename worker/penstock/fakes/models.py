"""Models that have learnt nothing, but keep the contracts."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from typing_extensions import override

from penstock.core.errors import InvalidEvent
from penstock.core.ports import Embedder, PairEncoder, Reranker, Tokenizer
from penstock.core.vectors import Vector

LONGEST_PAIR = 512
"""Words of query and document that WordPairs takes."""


class WordTokenizer(Tokenizer):
    """A token per word, and one that closes the text."""

    special_tokens = 1

    @override
    def encode(self, texts: Sequence[str], limit: int | None = None) -> list[tuple[int, ...]]:
        room = None if limit is None else limit - 1
        return [(*[_digest(word) for word in text.split()[:room]], 0) for text in texts]

    @override
    def split(self, texts: Sequence[str], capacity: int, overlap: int) -> list[list[tuple[int, str]]]:
        return [_word_windows(text, capacity, overlap) for text in texts]


def _word_windows(text: str, capacity: int, overlap: int) -> list[tuple[int, str]]:
    words = text.split()
    places = []
    at = 0
    for word in words:
        at = text.index(word, at)
        places.append((at, at + len(word)))
        at += len(word)
    step = max(1, capacity - overlap)
    windows = []
    for first in range(0, len(places), step):
        last = min(first + capacity, len(places)) - 1
        start, end = places[first][0], places[last][1]
        windows.append((start, text[start:end]))
        if last + 1 == len(places):
            break
    return windows


class HashEmbedder(Embedder):
    """Vectors from hashes of the tokens: equal texts are near, others far, and nothing is learnt."""

    def __init__(self, dimension: int = 8) -> None:
        self.dimension = dimension

    @override
    def embed(self, texts: Sequence[Sequence[int]]) -> Vector:
        seeds = [int.from_bytes(blake2b(repr(tuple(text)).encode(), digest_size=8).digest()) for text in texts]
        rows = np.stack([np.random.default_rng(seed).standard_normal(self.dimension) for seed in seeds])
        unit: Vector = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return unit


class WordPairs(PairEncoder):
    """A pair is the query's words, a zero, and the document's."""

    takes_task = True

    @override
    def encode(self, query: str, documents: Sequence[str], instruction: str | None = None) -> list[tuple[int, ...]]:
        """The instruction counts as part of the query."""
        head = [_digest(word) for word in f"{instruction or ''} {query}".lower().split()]
        if len(head) >= LONGEST_PAIR:
            raise InvalidEvent(f"query and instruction have {len(head)} tokens; there is room for {LONGEST_PAIR - 1}")
        tails = ([_digest(word) for word in text.lower().split()] for text in documents)
        return [(*head, 0, *tail)[:LONGEST_PAIR] for tail in tails]


class OverlapReranker(Reranker):
    """The more of the query's words a document has, the better."""

    @override
    def logits(self, pairs: Sequence[Sequence[int]]) -> Vector:
        return np.array([_overlap(list(pair)) for pair in pairs], dtype=np.float32)


def _overlap(pair: list[int]) -> float:
    middle = pair.index(0)
    query, document = set(pair[:middle]), set(pair[middle + 1 :])
    return 4.0 * len(query & document) / max(1, len(query)) - 2.0


def _digest(word: str) -> int:
    return 1 + int.from_bytes(blake2b(word.encode(), digest_size=4).digest())
