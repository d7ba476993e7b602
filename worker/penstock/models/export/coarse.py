"""Which matrices bytes would spoil: measured on probes, with one layer in memory.

The whole model runs on many short probes, exact and in bytes. Where a vector differs too much, matrices are left in
fp32, judged layer by layer on the probes that suffer most, and the whole model is measured again, until all is well.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from penstock.models.export.activations import ANY, Steps
from penstock.models.export.checkpoint import Array
from penstock.models.export.weights import quantize_rows

LEAST = 0.997
"""Of the cosine between a vector and the exact one, on every probe."""

HARDEST = 8
"""Probes by which matrices are chosen."""

BOUNDS = tuple(0.1 * 0.88**step for step in range(20))
"""What a layer may be off, tried one after the other: the largest share of any token, behind the norm that follows."""


@dataclass(frozen=True, slots=True)
class Probes:
    """``states`` ``[texts, length, hidden]``, padded on the right; ``seen``: what is text."""

    states: Array
    seen: Array

    @classmethod
    def of(cls, texts: Sequence[Array]) -> "Probes":
        """Texts as their tokens' embeddings, each ``[tokens, hidden]``."""
        longest, hidden = max(map(len, texts)), texts[0].shape[1]
        states = np.zeros((len(texts), longest, hidden), np.float32)
        for number, text in enumerate(texts):
            states[number, : len(text)] = text
        return cls(states, np.arange(longest) < np.array([[len(text)] for text in texts]))

    def hardest(self, cosines: Array) -> "Probes":
        """Those with the worst vectors; ``cosines`` ``[texts, vectors of a text]``."""
        order = np.argsort(cosines.min(axis=1), kind="stable")[:HARDEST]
        return Probes(self.states[order], self.seen[order])


class Layer(Protocol):
    """One layer in numpy, its products exact or as the graphs of bytes compute them."""

    matrices: Sequence[str]
    """The names of its tensors that are multiplied with."""

    def run(self, probes: Probes, exact: Collection[str]) -> Probes:
        """What leaves the layer, with the matrices that are not ``exact`` in bytes."""

    def normed(self, states: Array) -> Array:
        """States ``[texts, length, hidden]`` that left it, behind the norm that follows."""


class Model(Protocol):
    """A model whose layers are in memory one at a time."""

    def layers(self) -> Iterator[Layer]:
        """In their order."""

    def pooled(self, probes: Probes) -> Array:
        """Of the last layer's states, ``[texts, vectors of a text, hidden]``; zeros where there is none."""

    def vectors(self, probes: Probes, kept: Collection[str] | None) -> Array:
        """As ``pooled``, of what leaves the last layer behind its norm; nothing is in bytes where ``kept`` is None."""
        for layer in self.layers():
            probes = layer.run(probes, layer.matrices if kept is None else kept)
        return self.pooled(replace(probes, states=layer.normed(probes.states)))


def coarse(model: Model, probes: Probes) -> tuple[list[str], float]:
    """The names of matrices that have to stay in fp32 beside others in bytes, none where bytes do no harm.

    And the worst cosine that is left on any probe: below LEAST where even the last of the BOUNDS does not do.
    """
    exact = model.vectors(probes, None)
    kept: set[str] = set()
    cosines = _cosines(model.vectors(probes, kept), exact)
    for bound in BOUNDS:
        if cosines.min() >= LEAST:
            break
        before = len(kept)
        kept |= _spoiled(model, probes.hardest(cosines), kept, bound)
        if len(kept) > before:
            cosines = _cosines(model.vectors(probes, kept), exact)
    return sorted(kept), float(cosines.min())


class Matrices:
    """A layer's matrices, as they are and as they come back from bytes of at most ``largest``."""

    def __init__(self, exact: dict[str, Array], largest: int) -> None:
        """``exact`` by name, each ``[out, in]`` in fp32."""
        self._exact, self._largest = exact, largest
        self._bytes: dict[str, Array] = {}

    def times(self, values: Array, name: str, exact: Collection[str], steps: Steps = ANY) -> Array:
        """``[…, in]`` to ``[…, out]``, in bytes unless the name is among the ``exact``; ``steps`` are the values'."""
        rows = values.reshape(-1, values.shape[-1])  # one product of all texts is many times as fast as one of each
        if name in exact:
            product = rows @ self._exact[name].T
        else:
            if name not in self._bytes:
                whole, scale = quantize_rows(self._exact[name], self._largest)
                self._bytes[name] = whole * scale[:, None]
            product = steps.rounded(rows) @ self._bytes[name].T
        return np.asarray(product.reshape(*values.shape[:-1], -1))


def softmax(scores: Array) -> Array:
    """Over the last axis."""
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def _cosines(ours: Array, right: Array) -> Array:
    """1 where there is nothing to be off from, as behind a token whose embedding is all zeros."""
    lengths = np.linalg.norm(ours, axis=-1) * np.linalg.norm(right, axis=-1)
    return np.where(lengths > 0, (ours * right).sum(axis=-1) / np.where(lengths > 0, lengths, 1), 1)


def _spoiled(model: Model, probes: Probes, kept: Collection[str], bound: float) -> set[str]:
    """In each layer that is off by more than the bound: the worst matrices, one after the other, until it is not.

    The worst is whose absence leaves the smallest error. Each layer is given exact states, so that an error counts
    where it is made; it is seen behind the norm that follows, whose gains make more of some channels than of others.
    """
    found: set[str] = set()
    for layer in model.layers():
        exact = layer.run(probes, layer.matrices)
        right = layer.normed(exact.states)

        def off(names: Collection[str], layer: Layer = layer, given: Probes = probes, right: Array = right) -> float:
            wrong = np.square(layer.normed(layer.run(given, names).states) - right).sum(axis=-1)
            size = np.square(right).sum(axis=-1)
            return float(np.sqrt(wrong / np.where(size > 0, size, np.inf))[given.seen].max())

        there = [name for name in layer.matrices if name in kept]
        if off(there) > bound:
            without = {name: off([*there, name]) for name in layer.matrices if name not in there}
            for name in sorted(without, key=without.__getitem__):
                there.append(name)
                if off(there) <= bound:
                    break
        found |= set(there)
        probes = exact
    return found
