"""Which matrices bytes would spoil: measured on sample texts, layer by layer, with one layer in memory."""

from collections.abc import Callable, Collection, Sequence

import numpy as np

from penstock.models.export.checkpoint import Array, Checkpoint
from penstock.models.export.dialects.standard import rotary
from penstock.models.export.weights import IN_BYTES, quantize_rows

MOST = 0.01
"""A layer's output may differ by this part of it, as the root mean square over a text's tokens."""

MATRICES = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip

LONGEST = 64
"""Tokens of a sample that are looked at."""

Product = Callable[[Array, str], Array]


def coarse(checkpoint: Checkpoint, precision: str, texts: Sequence[Sequence[int]]) -> list[str]:
    """The names of matrices that have to stay in fp32 beside others in bytes.

    In each layer that errs by more than MOST with all its matrices in bytes, the worst stay in fp32, one after the
    other, until it errs by less: the worst is whose absence leaves the smallest error. Each layer is given exact
    inputs, so that an error counts where it is made.
    """
    states = [_embedded(checkpoint, text[:LONGEST]) for text in texts]
    found = []
    for index in range(checkpoint.config.num_hidden_layers):
        layer = _Layer(checkpoint, index, IN_BYTES[precision])
        exact = [layer.run(x, MATRICES) for x in states]
        kept: list[str] = []
        if layer.error(states, exact, kept) > MOST:
            without = {name: layer.error(states, exact, [name]) for name in MATRICES}
            for name in sorted(MATRICES, key=without.__getitem__):
                kept.append(name)
                if layer.error(states, exact, kept) <= MOST:
                    break
        found += [layer.name(name) for name in kept]
        states = exact
    return found


class _Layer:
    """One decoder layer in numpy, its products exact or as the graphs of bytes compute them."""

    def __init__(self, checkpoint: Checkpoint, index: int, largest: int) -> None:
        self.config, self._index = checkpoint.config, index
        self._checkpoint = checkpoint
        self._matrices = {name: self._read(f"{name}.weight") for name in MATRICES}
        self._bytes = {name: _rounded(matrix, largest) for name, matrix in self._matrices.items()}
        self._cosines, self._sines = (table[:LONGEST, None] for table in rotary(self.config))

    def name(self, matrix: str) -> str:
        """The tensor's in the checkpoint."""
        return f"layers.{self._index}.{matrix}.weight"

    def error(self, states: Sequence[Array], exact: Sequence[Array], kept: Collection[str]) -> float:
        """The largest of any text, with those matrices ``kept`` as they are."""
        return max(_difference(self.run(x, kept), right) for x, right in zip(states, exact, strict=True))

    def run(self, x: Array, kept: Collection[str]) -> Array:
        """``[length, hidden]`` to the same."""

        def times(values: Array, name: str) -> Array:
            if name in kept:
                return np.asarray(values @ self._matrices[name].T)
            return np.asarray(_rounded(values) @ self._bytes[name].T)

        x = x + times(self._attended(_normed(x, self._read("input_layernorm.weight"), self._eps), times), MATRICES[3])
        normed = _normed(x, self._read("post_attention_layernorm.weight"), self._eps)
        gate = times(normed, "mlp.gate_proj")
        gated = gate / (1 + np.exp(-np.clip(gate, -80, 80))) * times(normed, "mlp.up_proj")
        return np.asarray(x + times(gated, "mlp.down_proj"))

    def _read(self, name: str) -> Array:
        return self._checkpoint.read(f"layers.{self._index}.{name}").astype(np.float32)

    @property
    def _eps(self) -> float:
        return self.config.rms_norm_eps

    def _attended(self, normed: Array, times: Product) -> Array:
        c, length = self.config, len(normed)
        groups = c.num_attention_heads // c.num_key_value_heads
        q, k, v = (times(normed, name).reshape(length, -1, c.head_dim) for name in MATRICES[:3])
        q, k = (
            self._turned(_normed(heads, self._read(f"self_attn.{part}_norm.weight"), self._eps))
            for heads, part in ((q, "q"), (k, "k"))
        )
        k, v = (heads.repeat(groups, axis=1) for heads in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(c.head_dim)
        scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return np.asarray(np.einsum("hqk,khd->qhd", weights, v).reshape(length, -1))

    def _turned(self, heads: Array) -> Array:
        cosines, sines = self._cosines[: len(heads)], self._sines[: len(heads)]
        first, second = np.split(heads, 2, axis=-1)
        return np.concatenate([first * cosines - second * sines, second * cosines + first * sines], axis=-1)


def _embedded(checkpoint: Checkpoint, text: Sequence[int]) -> Array:
    return np.stack([checkpoint.row("embed_tokens.weight", token) for token in text]).astype(np.float32)


def _rounded(rows: Array, largest: int = IN_BYTES["int8"]) -> Array:
    whole, scale = quantize_rows(rows, largest)
    return np.asarray(whole * scale[:, None])


def _normed(x: Array, gain: Array, eps: float) -> Array:
    return np.asarray(x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + eps) * gain)


def _difference(ours: Array, right: Array) -> float:
    """The root mean square over tokens of the error's share in each."""
    shares = np.square(ours - right).sum(axis=-1) / np.square(right).sum(axis=-1)
    return float(np.sqrt(shares.mean()))
