"""Texts through a graph: what comes out is checked before anyone sees it."""

import numpy as np
import pytest

from penstock.core.errors import NotFinite
from penstock.core.vectors import Vector
from penstock.models.embedder import OnnxEmbedder
from penstock.models.forward import Forward
from penstock.models.reranker import OnnxReranker
from penstock.models.session import Feeds


class Overflowing:
    """A graph that makes a row of its first id's numbers: of 7 it makes what is none."""

    inputs = frozenset({"input_ids", "lengths"})
    width = 4
    provider = "cpu"

    def __init__(self, none: float) -> None:
        self.none = none

    def run(self, feeds: Feeds) -> Vector:
        rows = np.repeat(np.asarray(feeds["input_ids"])[:, :1], self.width, axis=1).astype(np.float32)
        rows[rows[:, 0] == 7, 2] = self.none
        return rows


@pytest.mark.parametrize("none", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_told_by_their_rows_and_the_others_can_be_used(none: float) -> None:
    forward = Forward(Overflowing(none), 4)
    texts = [[1], [7], [2, 2, 2], [7, 1], [3]]
    with pytest.raises(NotFinite, match="no finite numbers of 2 of 5 texts") as raised:
        OnnxEmbedder(forward, 2).embed(texts)
    assert raised.value.rows == (1, 3)
    assert raised.value.values.shape == (5, 2)
    assert np.allclose(raised.value.values[[0, 2, 4]], 0.5**0.5)
    with pytest.raises(NotFinite):
        OnnxReranker(forward).logits(texts)
    assert OnnxEmbedder(forward, 2).embed([[1], [2]]).shape == (2, 2)
