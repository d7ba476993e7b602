"""How sure a difference between two ways to search is. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 10_000
CHUNK = 500
"""Resamples drawn at a time: memory stays small."""


class Gain(NamedTuple):
    """The mean difference over the queries, and the interval that holds it with 95 % confidence."""

    difference: float
    low: float
    high: float


def gain(before: Sequence[float], after: Sequence[float], seed: int) -> Gain:
    """The paired bootstrap (percentiles): queries are drawn again with replacement, each with both of its values."""
    differences = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    rng, count = np.random.default_rng(seed), len(differences)
    means = np.concatenate(
        [differences[rng.integers(0, count, (CHUNK, count))].mean(axis=1) for _ in range(RESAMPLES // CHUNK)]
    )
    low, high = np.quantile(means, (0.025, 0.975))
    return Gain(float(differences.mean()), float(low), float(high))
