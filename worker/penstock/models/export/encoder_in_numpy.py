"""An encoder of BERT's family in numpy, one layer in memory: what bytes do to it, see ``coarse.py``."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from typing_extensions import override

from penstock.models.export import coarse
from penstock.models.export.activations import ANY, BEHIND_GELU, Steps
from penstock.models.export.checkpoint import Array
from penstock.models.export.coarse import Matrices, Probes, softmax
from penstock.models.export.encoder import FIRST, LAST, Ending
from penstock.models.export.encoder_checkpoint import POSITIONS, TYPES, WORDS, EncoderCheckpoint
from penstock.models.export.weights import IN_BYTES

PROBES, LENGTH = 128, 32
"""Probes of random tokens, beside the texts that are given, and the most tokens of each that are looked at: the fewer,
the less a mean hides."""

PARTS = (
    "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
    "intermediate.dense", "output.dense",
)  # fmt: skip

Around = Sequence[Sequence[int]]
"""The tokens before, between and after the parts of a text."""


def probes_of(
    checkpoint: EncoderCheckpoint, texts: Sequence[Sequence[int]], around: Around, separator: int | None
) -> Probes:
    """The texts, and as many random tokens of the vocabulary between those ``around`` them, always the same."""
    chance, longest = np.random.default_rng(0), min(LENGTH, checkpoint.config.longest)
    most = max(1, (longest - sum(map(len, around))) // (len(around) - 1))
    drawn = []
    for _ in range(PROBES):
        ids = list(around[0])
        for closing in around[1:]:
            ids += chance.integers(0, checkpoint.config.vocab_size, chance.integers(1, most + 1)).tolist()
            ids += closing
        drawn.append(ids)
    rows = [*(list(text)[:longest] for text in texts), *drawn]
    return Probes.of([_embedded(checkpoint, ids, separator) for ids in rows])


def _embedded(checkpoint: EncoderCheckpoint, ids: Sequence[int], separator: int | None) -> Array:
    """``[tokens, hidden]``, normalized."""
    first = checkpoint.config.first_position
    passed = np.cumsum([0, *(token == separator for token in ids[:-1])])
    kinds = np.minimum(passed, 1) if separator is not None else np.zeros(len(ids), int)
    rows = [
        checkpoint.row(WORDS, token) + checkpoint.row(POSITIONS, first + place) + checkpoint.row(TYPES, kind)
        for place, (token, kind) in enumerate(zip(ids, kinds.tolist(), strict=True))
    ]
    return _normed(checkpoint, np.stack(rows).astype(np.float32), "embeddings")


def _normed(checkpoint: EncoderCheckpoint, x: Array, part: str) -> Array:
    """As what stands behind the norm reads it, matrices apart: in the checkpoint's own proportions."""
    centred = x - x.mean(axis=-1, keepdims=True)
    unit = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + checkpoint.config.layer_norm_eps)
    gain, bias = (checkpoint.read(f"{part}.LayerNorm.{kind}").astype(np.float32) for kind in ("weight", "bias"))
    return np.asarray(unit * gain + bias)


def _restored(checkpoint: EncoderCheckpoint, x: Array, part: str) -> Array:
    behind = checkpoint.behind(part)
    return x if behind is None else np.asarray(x * behind)


@dataclass(frozen=True, slots=True)
class EncoderInNumpy(coarse.Model):
    """States between layers are what matrices read: in a balanced checkpoint in its proportions."""

    checkpoint: EncoderCheckpoint
    precision: str
    ending: Ending

    @override
    def layers(self) -> "Iterator[_Layer]":
        return (_Layer(self, index) for index in range(self.checkpoint.config.num_hidden_layers))

    @override
    def pooled(self, probes: Probes) -> Array:
        """One of each text."""
        states, seen = probes.states, probes.seen
        if self.ending.pooling == FIRST:
            return states[:, :1]
        if self.ending.pooling == LAST:
            return np.take_along_axis(states, (seen.sum(axis=1) - 1)[:, None, None], axis=1)
        return np.asarray((states * seen[..., None]).sum(axis=1, keepdims=True) / seen.sum(axis=1)[:, None, None])


class _Layer(coarse.Layer):
    def __init__(self, model: EncoderInNumpy, index: int) -> None:
        self._checkpoint, self._name = model.checkpoint, f"encoder.layer.{index}"
        self._before = f"encoder.layer.{index - 1}.output" if index else "embeddings"
        self.matrices = tuple(f"{self._name}.{part}.weight" for part in PARTS)
        self._products = Matrices({name: self._read(name) for name in self.matrices}, IN_BYTES[model.precision])
        self._biases = {name: self._read(name.removesuffix("weight") + "bias") for name in self.matrices}

    @override
    def run(self, probes: Probes, exact: Collection[str]) -> Probes:
        *heads, mixes, widens, narrows = self.matrices

        def affine(x: Array, name: str, steps: Steps = ANY) -> Array:
            return np.asarray(self._products.times(x, name, exact, steps) + self._biases[name])

        x, middle = probes.states[probes.seen], f"{self._name}.attention.output"
        mixed = self._attended(probes.seen, *(affine(x, name) for name in heads))
        x = _restored(self._checkpoint, x, self._before) + affine(mixed, mixes)
        x = _normed(self._checkpoint, x, middle)
        inner = affine(_gelu(affine(x, widens)), narrows, BEHIND_GELU)
        x = _restored(self._checkpoint, x, middle) + inner
        return replace(probes, states=_padded(_normed(self._checkpoint, x, f"{self._name}.output"), probes.seen))

    @override
    def normed(self, states: Array) -> Array:
        """As they are: a layer ends with its norm."""
        return _restored(self._checkpoint, states, f"{self._name}.output")

    def _read(self, name: str) -> Array:
        return self._checkpoint.read(name).astype(np.float32)

    def _attended(self, seen: Array, *heads: Array) -> Array:
        """Of the tokens that are text, ``[tokens, hidden]``."""
        c = self._checkpoint.config
        split = (_padded(part, seen).reshape(*seen.shape, -1, c.head_dim) for part in heads)
        q, k, v = (part.transpose(0, 2, 1, 3) for part in split)
        scores = q @ k.swapaxes(2, 3) * np.float32(c.head_dim**-0.5)
        weights = softmax(np.where(seen[:, None, None], scores, np.float32(-np.inf)))
        return np.asarray((weights @ v).transpose(0, 2, 1, 3).reshape(*seen.shape, -1)[seen])


def _padded(rows: Array, seen: Array) -> Array:
    """``[tokens, n]`` back to ``[texts, length, n]``."""
    states = np.zeros((*seen.shape, rows.shape[-1]), np.float32)
    states[seen] = rows
    return states


def _gelu(x: Array) -> Array:
    """Times the normal distribution, whose error function is off by 2e-7 at most (Abramowitz and Stegun, 7.1.26)."""
    z = np.abs(x) * np.float32(np.sqrt(0.5))
    t, series = 1 / (1 + np.float32(0.3275911) * z), np.zeros_like(x)
    for coefficient in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series += np.float32(coefficient)
        series *= t
    beyond = series * np.exp(-z * z)
    return np.asarray(x * np.where(x > 0, 1 - beyond / 2, beyond / 2))
