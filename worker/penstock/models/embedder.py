"""Token ids to vectors."""

from collections.abc import Sequence

from typing_extensions import override

from penstock.core.errors import NotFinite
from penstock.core.ports import Embedder
from penstock.core.vectors import Vector, truncate
from penstock.models.forward import Forward


class OnnxEmbedder(Embedder):
    """``ports.Embedder`` over a graph.

    A text's vector is the same alone and in any batch: exactly in int8 graphs of ours, within a cosine of 0.99999 in
    others, where the order in which sums are rounded depends on the shape of the batch.
    """

    def __init__(self, forward: Forward, dimension: int) -> None:
        """``dimension`` is at most the width of the graph's output."""
        self._forward = forward
        self.dimension = dimension
        self.provider = forward.provider

    @override
    def embed(self, texts: Sequence[Sequence[int]]) -> Vector:
        try:
            return truncate(self._forward.run(texts), self.dimension)
        except NotFinite as error:
            raise NotFinite(error.rows, truncate(error.values, self.dimension)) from None
