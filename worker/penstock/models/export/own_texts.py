"""Reduced precision against fp32 on texts of the user's own, where there are no labels to judge a search by."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from penstock.core import texts
from penstock.core.errors import Misconfigured
from penstock.core.vectors import Vector
from penstock.models.bundle import Bundle, Compared, Graph, Manifest, fingerprints
from penstock.models.embedder import OnnxEmbedder
from penstock.models.export.gate import Progress, embedded, without_graph
from penstock.models.providers import BUDGET
from penstock.models.runtime import on_processor

LEAST_COSINE = 0.995
"""Of every text: between vectors of the two precisions."""


class OwnTexts:
    """Decides like the quality gate, by cosines instead of a labelled set."""

    def __init__(self, file: Path, precision: str, progress: Progress) -> None:
        """``file`` has a text per line, as {"text": "…"}; raises Misconfigured with the line that has none."""
        self._name, self._texts = file.name, _read(file)
        self._precision, self._progress = precision, progress

    def decide(self, bundle: Bundle) -> Manifest:
        """The manifest with what was measured, and without the reduced graph if a text's vector moved too far."""
        if bundle.manifest.task != "embedding":
            raise Misconfigured("--texts compares vectors, and a reranker has none: --quality judges one")
        graphs = {graph.precision: graph for graph in bundle.manifest.graphs if graph.dialect == "cpu"}
        exact, reduced = (self._vectors(bundle, graphs[precision]) for precision in ("fp32", self._precision))
        cosines = np.sum(exact * reduced, axis=1)
        compared = Compared(
            name=self._name,
            texts=len(self._texts),
            precision=self._precision,
            worst_cosine=round(float(cosines.min()), 5),
            mean_cosine=round(float(cosines.mean()), 5),
            kept=bool(cosines.min() >= LEAST_COSINE),
        )
        left = bundle.manifest.graphs if compared.kept else without_graph(bundle, graphs[self._precision])
        files = fingerprints(bundle.folder)
        return bundle.manifest.model_copy(update={"graphs": left, "compared": compared, "files": files})

    def _vectors(self, bundle: Bundle, graph: Graph) -> Vector:
        embedder = OnnxEmbedder(on_processor(bundle, graph, BUDGET["cpu"]), bundle.manifest.dimension)
        with self._progress(f"{graph.precision} of {self._name}", len(self._texts)) as advance:
            return embedded(bundle, embedder, "document", self._texts, advance)


def _read(file: Path) -> Sequence[str]:
    found = []
    for number, line in texts.lines(file):
        try:
            found.append(texts.text_of(line))
        except ValueError as error:
            raise Misconfigured(f"--texts {file}, line {number}: {error}") from None
    if not found:
        raise Misconfigured(f"--texts {file}: no text in it")
    return found
