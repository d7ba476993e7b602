"""Which matrices bytes would spoil: measured on probes, with one layer in memory.

The whole model runs on many short probes, exact and in bytes. Where a vector differs too much, matrices are left in
fp32, judged layer by layer on the probes that suffer most, and the whole model is measured again, until all is well.
Under causal attention each token ends a text of its own: 64 probes of 32 tokens are 2,048 texts.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from penstock.models.export.checkpoint import Array, Checkpoint
from penstock.models.export.dialects.standard import rotary
from penstock.models.export.weights import IN_BYTES, quantize_rows

LEAST = 0.997
"""Of the cosine between a vector and the exact one, on every probe."""

PROBES, LENGTH = 64, 32
"""Probes of random tokens, beside the texts that are given, and how many tokens of each are looked at."""

HARDEST = 8
"""Probes by which matrices are chosen."""

BOUNDS = tuple(0.1 * 0.88**step for step in range(20))
"""What a layer may be off, tried one after the other: the largest share of any token, behind the norm that follows."""

MATRICES = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip

Product = Callable[[Array, str], Array]


@dataclass(frozen=True, slots=True)
class _Probes:
    """``states`` ``[texts, length, hidden]``, padded on the right, where nothing sees it; ``seen``: what is text."""

    states: Array
    seen: Array

    def hardest(self, cosines: Array) -> "_Probes":
        """Those with the worst tokens; ``cosines`` ``[texts, length]``."""
        order = np.argsort(np.where(self.seen, cosines, 1).min(axis=1), kind="stable")[:HARDEST]
        return _Probes(self.states[order], self.seen[order])


def coarse(checkpoint: Checkpoint, precision: str, texts: Sequence[Sequence[int]]) -> tuple[list[str], float]:
    """The names of matrices that have to stay in fp32 beside others in bytes, none where bytes do no harm.

    And the worst cosine that is left on any probe: below LEAST where even the last of the BOUNDS does not do.
    """
    model, probes = _Model.of(checkpoint, IN_BYTES[precision]), _probes(checkpoint, texts)
    exact = model.last_states(probes.states, None)
    kept: set[str] = set()
    cosines = _cosines(model.last_states(probes.states, kept), exact)
    for bound in BOUNDS:
        if cosines[probes.seen].min() >= LEAST:
            break
        before = len(kept)
        kept |= _spoiled(model, probes.hardest(cosines), kept, bound)
        if len(kept) > before:
            cosines = _cosines(model.last_states(probes.states, kept), exact)
    return sorted(kept), float(cosines[probes.seen].min())


def _probes(checkpoint: Checkpoint, texts: Sequence[Sequence[int]]) -> _Probes:
    """The texts, and random tokens of the vocabulary, always the same."""
    drawn = np.random.default_rng(0).integers(0, checkpoint.config.vocab_size, (PROBES, LENGTH)).tolist()
    length = min(LENGTH, checkpoint.config.max_position_embeddings)
    rows = [row[:length] for row in [*texts, *drawn]]
    states = np.zeros((len(rows), length, checkpoint.config.hidden_size), np.float32)
    seen = np.zeros(states.shape[:2], dtype=bool)
    for number, row in enumerate(rows):
        states[number, : len(row)] = [checkpoint.row("embed_tokens.weight", token) for token in row]
        seen[number, : len(row)] = True
    return _Probes(states, seen)


@dataclass(frozen=True, slots=True)
class _Model:
    """``largest`` is that of the bytes of weights, ``turns`` are cosines and sines ``[length, 1, head_dim / 2]``."""

    checkpoint: Checkpoint
    largest: int
    turns: tuple[Array, Array]

    @classmethod
    def of(cls, checkpoint: Checkpoint, largest: int) -> "_Model":
        """For texts of LENGTH."""
        length = min(LENGTH, checkpoint.config.max_position_embeddings)
        cosines, sines = (table[:length, None] for table in rotary(checkpoint.config))
        return cls(checkpoint, largest, (cosines, sines))

    def layers(self) -> "Iterator[_Layer]":
        """One at a time in memory."""
        return (_Layer(self, index) for index in range(self.checkpoint.config.num_hidden_layers))

    def last_states(self, states: Array, kept: Collection[str] | None) -> Array:
        """What the last norm makes of states ``[texts, length, hidden]``; nothing is in bytes where kept is None."""
        for layer in self.layers():
            states = layer.run(states, MATRICES if kept is None else layer.of(kept))
        return layer.next_normed(states)


def _cosines(ours: Array, right: Array) -> Array:
    """1 where there is nothing to be off from, as behind a token whose embedding is all zeros."""
    lengths = np.linalg.norm(ours, axis=-1) * np.linalg.norm(right, axis=-1)
    return np.where(lengths > 0, (ours * right).sum(axis=-1) / np.where(lengths > 0, lengths, 1), 1)


def _spoiled(model: _Model, probes: _Probes, kept: Collection[str], bound: float) -> set[str]:
    """In each layer that is off by more than the bound: the worst matrices, one after the other, until it is not.

    The worst is whose absence leaves the smallest error. Each layer is given exact states, so that an error counts
    where it is made; it is seen behind the norm that follows, whose gains make more of some channels than of others.
    """
    found: set[str] = set()
    states = probes.states
    for layer in model.layers():
        exact = layer.run(states, MATRICES)
        right = layer.next_normed(exact)

        def off(names: Collection[str], layer: "_Layer" = layer, states: Array = states, right: Array = right) -> float:
            wrong = np.square(layer.next_normed(layer.run(states, names)) - right).sum(axis=-1)
            size = np.square(right).sum(axis=-1)
            return float(np.sqrt(wrong / np.where(size > 0, size, np.inf))[probes.seen].max())

        there = layer.of(kept)
        if off(there) > bound:
            without = {name: off([*there, name]) for name in MATRICES if name not in there}
            for name in sorted(without, key=without.__getitem__):
                there.append(name)
                if off(there) <= bound:
                    break
        found |= {layer.name(name) for name in there}
        states = exact
    return found


class _Layer:
    """One decoder layer in numpy, its products exact or as the graphs of bytes compute them."""

    def __init__(self, model: _Model, index: int) -> None:
        self.config, self._index = model.checkpoint.config, index
        self._checkpoint, self._largest, (self._cosines, self._sines) = model.checkpoint, model.largest, model.turns
        self._matrices = {name: self._read(f"{name}.weight") for name in MATRICES}
        self._bytes: dict[str, Array] = {}

    def name(self, matrix: str) -> str:
        """The tensor's in the checkpoint."""
        return f"layers.{self._index}.{matrix}.weight"

    def of(self, names: Collection[str]) -> list[str]:
        """The matrices of this layer among those tensors."""
        return [matrix for matrix in MATRICES if self.name(matrix) in names]

    def run(self, x: Array, exact: Collection[str]) -> Array:
        """``[texts, length, hidden]`` to the same, with the matrices that are not ``exact`` in bytes."""

        def times(values: Array, name: str) -> Array:
            if name in exact:
                return np.asarray(values @ self._matrices[name].T)
            if name not in self._bytes:
                self._bytes[name] = _rounded(self._matrices[name], self._largest)
            return np.asarray(_rounded(values) @ self._bytes[name].T)

        x = x + times(self._attended(self._normed(x, "input_layernorm.weight"), times), MATRICES[3])
        normed = self._normed(x, "post_attention_layernorm.weight")
        gate = times(normed, "mlp.gate_proj")
        gated = gate / (1 + np.exp(-np.clip(gate, -80, 80))) * times(normed, "mlp.up_proj")
        return np.asarray(x + times(gated, "mlp.down_proj"))

    def next_normed(self, x: Array) -> Array:
        """What the norm after this layer makes of what leaves it."""
        last = self._index == self.config.num_hidden_layers - 1
        name = "norm.weight" if last else f"layers.{self._index + 1}.input_layernorm.weight"
        return _normed(x, self._checkpoint.read(name).astype(np.float32), self.config.rms_norm_eps)

    def _read(self, name: str) -> Array:
        return self._checkpoint.read(f"layers.{self._index}.{name}").astype(np.float32)

    def _normed(self, x: Array, name: str) -> Array:
        return _normed(x, self._read(name), self.config.rms_norm_eps)

    def _attended(self, normed: Array, times: Product) -> Array:
        c, shape = self.config, normed.shape[:2]
        groups = c.num_attention_heads // c.num_key_value_heads
        q, k, v = (times(normed, name).reshape(*shape, -1, c.head_dim) for name in MATRICES[:3])
        q, k = (
            self._turned(self._normed(heads, f"self_attn.{part}_norm.weight")) for heads, part in ((q, "q"), (k, "k"))
        )
        k, v = (heads.repeat(groups, axis=2) for heads in (k, v))
        scores = np.einsum("tqhd,tkhd->thqk", q, k) / np.sqrt(c.head_dim)
        scores = np.where(np.tri(shape[1], dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return np.asarray(np.einsum("thqk,tkhd->tqhd", weights, v).reshape(*shape, -1))

    def _turned(self, heads: Array) -> Array:
        first, second = np.split(heads, 2, axis=-1)
        return np.concatenate(
            [first * self._cosines - second * self._sines, second * self._cosines + first * self._sines], axis=-1
        )


def _rounded(rows: Array, largest: int = IN_BYTES["int8"]) -> Array:
    """Each row as it comes back from bytes; ``[…, n]``."""
    whole, scale = quantize_rows(rows.reshape(-1, rows.shape[-1]), largest)
    return np.asarray((whole * scale[:, None]).reshape(rows.shape))


def _normed(x: Array, gain: Array, eps: float) -> Array:
    return np.asarray(x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + eps) * gain)
