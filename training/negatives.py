"""Pairs with hard negatives, found by the search that a reranker will stand behind: vectors and words together.

    python training/negatives.py training/pairs.jsonl worker/penstock/data/models/embedding training/hard.jsonl

Of the pairs some are drawn; the documents of all of them are ranked for each query by the exported embedding model's
vectors and by BM25, fused as a query worker does it, and negatives are drawn from the first of another group.
"""

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "worker")]

from penstock.assembly.models import EmbeddingModel, load_model  # noqa: E402
from penstock.core.terms import Weighting, rarity, reach  # noqa: E402
from penstock.core.vectors import Vector  # noqa: E402
from penstock.settings import ModelSettings, QuerySettings  # noqa: E402

SEED = 7
BATCH = 512
LONGEST = 128
"""Tokens of a text that are looked at."""
CEILING = 0.98
"""A document whose similarity is above this share of the right one's is too likely right, too (NV-Retriever)."""
OPENING = 80
"""Characters with which variants of a text begin alike."""
BITS = 18
"""Terms share so many columns."""


def main() -> None:
    """Read, rank, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--count", type=int, default=14_000, help="pairs to draw")
    parser.add_argument("--negatives", type=int, default=4, help="of each query")
    parser.add_argument("--easy", type=int, default=0, help="how many of these are drawn from all documents")
    parser.add_argument("--pool", type=int, default=30, help="how far down the ranking a negative may stand")
    options = parser.parse_args()
    chance = random.Random(SEED)  # noqa: S311  # no secret
    pairs = [json.loads(line) for line in options.pairs.read_text().splitlines()]
    pairs = chance.sample(pairs, min(options.count, len(pairs)))
    texts = list(dict.fromkeys(pair["document"] for pair in pairs))
    groups = {pair["document"]: pair.get("group", "") for pair in pairs}
    place = {text: row for row, text in enumerate(texts)}
    model = load_model(ModelSettings(bundle=options.bundle))
    known = embedded(model, [model.bundle.prompt("document") + text for text in texts])
    asked = embedded(model, [model.query_prompt + pair["query"] for pair in pairs])
    matching, weight = Words(texts), QuerySettings().terms_weight
    kept = 0
    with options.output.open("w") as output:
        for pair, vector in zip(pairs, asked, strict=True):
            near = known @ vector
            fused = near + weight * float(near.std()) * matching.coverage(pair["query"])
            most = CEILING * float(near[place[pair["document"]]])
            wrong = (row for row in (-fused).argsort() if near[row] <= most and other(texts[row], pair, groups))
            pool = list(islice(wrong, options.pool))
            if len(pool) >= options.negatives:
                hard = [texts[row] for row in chance.sample(pool, options.negatives - options.easy)]
                negatives = hard + [text for text in chance.sample(texts, options.easy) if other(text, pair, groups)]
                output.write(json.dumps(pair | {"negatives": negatives}, ensure_ascii=False) + "\n")
                kept += 1
    print(f"{options.output}: {kept} pairs, {len(texts)} documents")


def other(text: str, pair: dict[str, str], groups: dict[str, str]) -> bool:
    """Whether it is no part of the same page, and no variant of the right document."""
    return groups[text] != pair["group"] and text[:OPENING] != pair["document"][:OPENING]


def embedded(model: EmbeddingModel, texts: Sequence[str]) -> Vector:
    """[texts, dimension], texts of like length together."""
    ids = model.tokenizer.encode(texts, LONGEST)
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    made = np.empty((len(ids), model.embedder.dimension), np.float32)
    for first in range(0, len(order), BATCH):
        rows = order[first : first + BATCH]
        made[rows] = model.embedder.embed([ids[row] for row in rows])
    return made


class Words:
    """BM25 over the texts, as the share of the most that a query's words can reach."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._weighting = Weighting()
        terms = [self._weighting.of_document(text) for text in texts]
        columns = np.concatenate([np.asarray(one.indices, np.int64) % (1 << BITS) for one in terms])
        weights = np.concatenate([np.asarray(one.weights, np.float32) for one in terms])
        starts = np.cumsum([0, *(len(one.indices) for one in terms)])
        having = Counter(columns.tolist())
        self._rarity = {term: rarity(len(texts), count) for term, count in having.items()}
        self._columns = csr_matrix((weights, columns, starts), (len(texts), 1 << BITS)).tocsc()

    def coverage(self, query: str) -> Vector:
        """Of each text, from 0 to 1."""
        terms = [term % (1 << BITS) for term in self._weighting.of_query(query)]
        found = [term for term in terms if term in self._rarity]
        scores = np.zeros(self._columns.shape[0], np.float32)
        if not found:
            return scores
        rarities = np.asarray([self._rarity[term] for term in found], np.float32)
        part = self._columns[:, found].multiply(rarities).tocsc()
        tops = part.max(axis=0).toarray().ravel().tolist()
        most = reach([*tops, *[None] * (len(terms) - len(found))])
        return np.asarray(part.sum(axis=1), np.float32).ravel() / most


if __name__ == "__main__":
    main()
