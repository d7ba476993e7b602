"""The arithmetic of embeddings. Pure."""

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]


def truncate(vectors: Vector, dimension: int) -> Vector:
    """``[n, d]`` to ``[n, dimension]``: the first numbers of each row, then scaled to length 1.

    In this order, as Matryoshka representations ask (arXiv 2205.13147): a slice of a unit vector is shorter than
    1. A row of zeros stays as it is.
    """
    cut = vectors[:, :dimension].astype(np.float32, copy=True)
    norms = np.linalg.norm(cut, axis=1, keepdims=True)
    np.divide(cut, norms, out=cut, where=norms > 0)
    return cut


def worst_cosine(first: Vector, second: Vector) -> float:
    """The smallest cosine between rows of the same place."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(np.min(np.sum(first * second, axis=1) / norms))
