"""A Qwen3 decoder in numpy, one layer in memory: what bytes do to it, see ``coarse.py``.

Under causal attention each token ends a text of its own: 64 probes of 32 tokens are 2,048 texts.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from typing_extensions import override

from penstock.models.export import coarse
from penstock.models.export.checkpoint import Array, Checkpoint
from penstock.models.export.coarse import Matrices, Probes, softmax
from penstock.models.export.dialects.standard import rotary
from penstock.models.export.weights import IN_BYTES

PROBES, LENGTH = 64, 32
"""Probes of random tokens, beside the texts that are given, and how many tokens of each are looked at."""

PARTS = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip


def probes_of(checkpoint: Checkpoint, texts: Sequence[Sequence[int]]) -> Probes:
    """The texts, and random tokens of the vocabulary, always the same."""
    drawn = np.random.default_rng(0).integers(0, checkpoint.config.vocab_size, (PROBES, LENGTH)).tolist()
    length = min(LENGTH, checkpoint.config.max_position_embeddings)
    rows = [row[:length] for row in [*texts, *drawn]]
    return Probes.of([np.stack([checkpoint.row("embed_tokens.weight", token) for token in row]) for row in rows])


@dataclass(frozen=True, slots=True)
class DecoderInNumpy(coarse.Model):
    """``largest`` is that of the bytes of weights, ``turns`` are cosines and sines ``[length, 1, head_dim / 2]``."""

    checkpoint: Checkpoint
    largest: int
    turns: tuple[Array, Array]

    @classmethod
    def of(cls, checkpoint: Checkpoint, precision: str) -> "DecoderInNumpy":
        """For texts of LENGTH."""
        length = min(LENGTH, checkpoint.config.max_position_embeddings)
        cosines, sines = (table[:length, None] for table in rotary(checkpoint.config))
        return cls(checkpoint, IN_BYTES[precision], (cosines, sines))

    @override
    def layers(self) -> "Iterator[_Layer]":
        return (_Layer(self, index) for index in range(self.checkpoint.config.num_hidden_layers))

    @override
    def pooled(self, probes: Probes) -> Array:
        """Each token's: it ends a text of its own."""
        return np.asarray(probes.states * probes.seen[..., None])


class _Layer(coarse.Layer):
    def __init__(self, model: DecoderInNumpy, index: int) -> None:
        self.config, self._index = model.checkpoint.config, index
        self._checkpoint, (self._cosines, self._sines) = model.checkpoint, model.turns
        self.matrices = tuple(f"layers.{index}.{part}.weight" for part in PARTS)
        self._products = Matrices({name: self._read(name) for name in self.matrices}, model.largest)

    @override
    def run(self, probes: Probes, exact: Collection[str]) -> Probes:
        x, (*heads, output, gate_proj, up_proj, down_proj) = probes.states, self.matrices
        times = self._products.times
        normed = self._normed(x, "input_layernorm")
        x = x + times(self._attended(*(times(normed, name, exact) for name in heads)), output, exact)
        normed = self._normed(x, "post_attention_layernorm")
        gate = times(normed, gate_proj, exact)
        gated = gate / (1 + np.exp(-np.clip(gate, -80, 80))) * times(normed, up_proj, exact)
        return replace(probes, states=x + times(gated, down_proj, exact))

    @override
    def normed(self, states: Array) -> Array:
        last = self._index == self.config.num_hidden_layers - 1
        name = "norm.weight" if last else f"layers.{self._index + 1}.input_layernorm.weight"
        return _normed(states, self._read(name), self.config.rms_norm_eps)

    def _read(self, name: str) -> Array:
        return self._checkpoint.read(name).astype(np.float32)

    def _normed(self, x: Array, part: str) -> Array:
        return _normed(x, self._read(f"layers.{self._index}.{part}.weight"), self.config.rms_norm_eps)

    def _attended(self, *heads: Array) -> Array:
        c, shape = self.config, heads[0].shape[:2]
        groups = c.num_attention_heads // c.num_key_value_heads
        q, k, v = (part.reshape(*shape, -1, c.head_dim) for part in heads)
        q, k = (self._turned(self._normed(part, f"self_attn.{name}_norm")) for part, name in ((q, "q"), (k, "k")))
        k, v = (part.repeat(groups, axis=2) for part in (k, v))
        scores = np.einsum("tqhd,tkhd->thqk", q, k) / np.sqrt(c.head_dim)
        weights = softmax(np.where(np.tri(shape[1], dtype=bool), scores, -np.inf))
        return np.asarray(np.einsum("thqk,tkhd->tqhd", weights, v).reshape(*shape, -1))

    def _turned(self, heads: Array) -> Array:
        first, second = np.split(heads, 2, axis=-1)
        return np.concatenate(
            [first * self._cosines - second * self._sines, second * self._cosines + first * self._sines], axis=-1
        )


def _normed(x: Array, gain: Array, eps: float) -> Array:
    return np.asarray(x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + eps) * gain)
