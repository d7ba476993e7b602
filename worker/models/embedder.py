"""Token ids to vectors on ONNX Runtime."""

from collections.abc import Sequence

import numpy as np

from worker.models.batching import plan_batches
from worker.models.bundle import Bundle
from worker.models.session import Session
from worker.models.vectors import truncate
from worker.types import Vector


class OnnxEmbedder:
    """``ports.Embedder`` for a bundle.

    A text's vector is the same alone and in any batch, within a cosine of 0.99999 in fp32: padding is masked, and
    what remains is the order in which sums are rounded.
    """

    def __init__(self, bundle: Bundle, provider: str, dimension: int, token_budget: int, threads: int = 0) -> None:
        """``token_budget`` is in padded tokens per forward pass."""
        graph, output = bundle.graph(provider)
        self._session = Session(graph, output, provider, threads)
        self._token_budget = token_budget
        self.dimension = dimension
        self.provider = self._session.provider

    def embed(self, texts: Sequence[Sequence[int]]) -> Vector:
        """As the port says."""
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for batch in plan_batches([len(text) for text in texts], self._token_budget):
            vectors[batch] = truncate(self._session.run(self._feeds([texts[i] for i in batch])), self.dimension)
        return vectors

    def _feeds(self, texts: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
        """Ids padded on the right, with a mask of what is real."""
        longest = max(len(text) for text in texts)
        ids = np.zeros((len(texts), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return {name: value for name, value in feeds.items() if name in self._session.inputs}
