"""Reduced precision only where retrieval stays as good, on a labelled set that is the user's own."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np

from penstock.core.errors import InvalidEvent, Misconfigured
from penstock.core.vectors import Vector
from penstock.models.bundle import Bundle, Graph, Manifest, Quality, fingerprints
from penstock.models.embedder import OnnxEmbedder
from penstock.models.export.weights import Advance
from penstock.models.providers import BUDGET
from penstock.models.quality import LabelledSet, hard_negatives, kendall_tau, ndcg, read_labelled_set, retrieval_ndcg
from penstock.models.reranker import OnnxReranker, pair_encoder
from penstock.models.runtime import on_processor
from penstock.models.session import multiplies_bytes
from penstock.models.tokenizer import HubTokenizer

MAY_FALL = 0.005
"""nDCG@10 may be lower by this part of it."""

DOCUMENT_TOKENS, PAIR_TOKENS = 512, 1024
LEAST_TAU, MOST_LOGIT = 0.9, 0.5
"""Kendall's tau of a reranker's orders, as a mean over the queries, and how far any logit may be off: 0.5 is at most 12
percent points of probability, and a threshold on the score must not mean something else."""

PORTION = 256
"""Texts between two steps of the progress bar."""

PAIRS_PER_QUERY = 20
"""A reranker is judged on each query's relevant documents, at most half of this number, and others."""

Progress = Callable[[str, int], AbstractContextManager[Advance]]
"""Called with what is being done and how many steps it has."""


def holds(exact: float, reduced: float) -> bool:
    """Whether the loss is small enough; a set on which even the exact model finds nothing cannot tell."""
    return 0 < exact * (1 - MAY_FALL) <= reduced


def agreement(exact: Sequence[Vector], reduced: Sequence[Vector]) -> tuple[float, float]:
    """Kendall's tau of logits of the same pairs, as a mean over the queries, and the largest difference of any."""
    pairs = list(zip(exact, reduced, strict=True))
    tau = float(np.mean([kendall_tau(one, other) for one, other in pairs]))
    return tau, max(float(np.abs(one - other).max()) for one, other in pairs)


def agrees(tau: float, difference: float) -> bool:
    """Whether logits are in nearly the same order, and nearly the same."""
    return tau >= LEAST_TAU and difference <= MOST_LOGIT


class Gate:
    """Compares a bundle's graph of reduced precision with its fp32 graph."""

    def __init__(self, folder: Path, precision: str, progress: Progress) -> None:
        """``folder`` holds the labelled set; raises Misconfigured when it does not, or where int8 cannot be judged."""
        self._set: LabelledSet = read_labelled_set(folder)
        if precision == "int8" and not multiplies_bytes():
            raise Misconfigured(
                "--quality: this processor, without VNNI, computes int8 wrongly; add --precision int7, or export on "
                "another one"
            )
        self._precision = precision
        self._logits: list[list[Vector]] = []
        self._progress = progress

    def decide(self, bundle: Bundle) -> Manifest:
        """The manifest with what was measured, and without the reduced graph if that fell short."""
        graphs = {graph.precision: graph for graph in bundle.manifest.graphs if graph.dialect == "cpu"}
        try:
            exact, reduced = (self._measure(bundle, graphs[precision]) for precision in ("fp32", self._precision))
        except InvalidEvent as error:
            raise Misconfigured(f"labelled set {self._set.name}: {error}") from None
        agreed = agreement(*self._logits) if self._logits else None
        kept = holds(exact, reduced) and (agreed is None or agrees(*agreed))
        quality = Quality(
            labelled_set=self._set.name,
            queries=len(self._set.queries),
            ndcg_fp32=round(exact, 5),
            precision=self._precision,
            ndcg=round(reduced, 5),
            tau=None if agreed is None else round(agreed[0], 5),
            largest_logit_difference=None if agreed is None else round(agreed[1], 5),
            kept=kept,
        )
        left = bundle.manifest.graphs if kept else without_graph(bundle, graphs[self._precision])
        files = fingerprints(bundle.folder)
        return bundle.manifest.model_copy(update={"graphs": left, "quality": quality, "files": files})

    def _measure(self, bundle: Bundle, graph: Graph) -> float:
        forward = on_processor(bundle, graph, BUDGET["cpu"])
        name = f"nDCG@10 of {graph.precision}"
        if bundle.manifest.task == "embedding":
            return retrieval(self._set, bundle, OnnxEmbedder(forward, bundle.manifest.dimension), self._progress, name)
        return self._reranking(bundle, OnnxReranker(forward), name)

    def _reranking(self, bundle: Bundle, reranker: OnnxReranker, name: str) -> float:
        manifest, labelled = bundle.manifest, self._set
        limit = min(manifest.max_tokens, PAIR_TOKENS)
        tokenizer = pair_encoder(HubTokenizer(bundle.tokenizer), manifest.prompts, limit)
        results, every = [], []
        with self._progress(name, len(labelled.queries)) as advance:
            for query, text in labelled.queries.items():
                relevant = sorted(labelled.relevant[query])[: PAIRS_PER_QUERY // 2]
                others = hard_negatives(labelled, query, PAIRS_PER_QUERY - len(relevant))
                chosen = [*others, *relevant]  # ties must not help
                logits = reranker.logits(tokenizer.encode(text, [labelled.documents[document] for document in chosen]))
                if not np.isfinite(logits).all():
                    raise Misconfigured(f"{name}: query {query} has a logit that is no number")
                every.append(logits)
                ranked = [chosen[i] for i in np.argsort(-logits, kind="stable")]
                results.append(ndcg(ranked, labelled.relevant[query]))
                advance(1)
        self._logits.append(every)
        return float(np.mean(results))


def without_graph(bundle: Bundle, graph: Graph) -> tuple[Graph, ...]:
    """The bundle's other graphs; its files are removed."""
    for suffix in (".onnx", ".weights"):
        (bundle.folder / graph.file).with_suffix(suffix).unlink()
    return tuple(other for other in bundle.manifest.graphs if other is not graph)


def retrieval(labelled: LabelledSet, bundle: Bundle, embedder: OnnxEmbedder, progress: Progress, name: str) -> float:
    """nDCG@10 of a bundle's model with one chunk per document, cut at DOCUMENT_TOKENS."""
    documents, queries = list(labelled.documents.values()), list(labelled.queries.values())
    with progress(name, len(documents) + len(queries)) as advance:
        vectors = embedded(bundle, embedder, "document", documents, advance)
        return retrieval_ndcg(labelled, embedded(bundle, embedder, "query", queries, advance) @ vectors.T)


def embedded(bundle: Bundle, embedder: OnnxEmbedder, side: str, texts: Sequence[str], advance: Advance) -> Vector:
    """The vectors of texts of one side, document or query, cut at DOCUMENT_TOKENS."""
    tokenizer, before = HubTokenizer(bundle.tokenizer), bundle.prompt(side)
    limit = min(bundle.manifest.max_tokens, DOCUMENT_TOKENS)
    vectors = []
    for start in range(0, len(texts), PORTION):
        part = [before + text for text in texts[start : start + PORTION]]
        vectors.append(embedder.embed(tokenizer.encode(part, limit)))
        advance(len(part))
    return np.concatenate(vectors)
