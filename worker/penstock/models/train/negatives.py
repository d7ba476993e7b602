"""Hard negatives: documents that the model ranks high for a query that they do not answer."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from penstock.models.train.model import templates
from penstock.models.train.pairs import Pair

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ROWS = 512
"""Queries scored at a time."""


def choose(
    ranking: Sequence[int],
    scores: Sequence[float],
    positive: float,
    groups: Sequence[str],
    group: str,
    ceiling: float,
    count: int,
    rng: random.Random,
) -> list[int]:
    """``count`` of the ranked documents: of another group, and not so near that they are right, too.

    Too near is above ``ceiling`` times the positive's score (NV-Retriever, arXiv 2407.15831, "positive-aware").
    """
    fit = [
        document
        for document, score in zip(ranking, scores, strict=True)
        if score <= ceiling * positive and groups[document] != group
    ]
    return rng.sample(fit, count) if len(fit) >= count else fit


def mine(
    model: "SentenceTransformer", pairs: Sequence[Pair], pool: int, ceiling: float, count: int, seed: int
) -> list[Pair]:
    """The pairs with ``count`` negatives each, their own first; those for which there are too few are left out."""
    documents: dict[str, int] = {}
    for pair in pairs:
        documents.setdefault(pair.document, len(documents))
    groups = {documents[pair.document]: pair.group for pair in pairs}
    texts, group_of = list(documents), [groups[i] for i in range(len(documents))]
    before = templates(model)
    known = encode(model, [before["document"] + text for text in texts])
    asked = encode(model, [pair.asked(before["query"]) for pair in pairs])
    rng, result = random.Random(seed), []  # noqa: S311  # no secret
    deep = min(pool, len(texts))
    for start in range(0, len(pairs), ROWS):
        part = pairs[start : start + ROWS]
        scores = asked[start : start + ROWS] @ known.T
        top = np.argpartition(-scores, deep - 1, axis=1)[:, :deep]
        for row, pair in enumerate(part):
            near = top[row][np.argsort(-scores[row, top[row]])]
            positive = float(scores[row, documents[pair.document]])
            chosen = choose(near.tolist(), scores[row, near].tolist(), positive, group_of, pair.group, ceiling,
                            max(0, count - len(pair.negatives)), rng)  # fmt: skip
            negatives = (*pair.negatives, *(texts[document] for document in chosen))[:count]
            if len(negatives) == count:
                result.append(replace(pair, negatives=negatives))
    return result


def encode(model: "SentenceTransformer", texts: Sequence[str]) -> np.ndarray:
    """[texts, dimension], 32-bit, of length one."""
    vectors: np.ndarray = model.encode(
        list(texts), batch_size=128, show_progress_bar=False, normalize_embeddings=True, convert_to_numpy=True
    )
    return vectors.astype(np.float32)
