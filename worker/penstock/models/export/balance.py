"""Outlier channels, made small before weights and activations become bytes: what one side loses, the other takes.

A channel that is far larger than the others takes the range of a token's only scale, and the others are rounded away
(arXiv 2211.10438). In a decoder each quantized activation follows something linear in the checkpoint itself: a norm's
gain, the values' rows, the rows of ``up_proj``. So the factor between the two sides is free, and costs nothing later.
"""

from pathlib import Path

import numpy as np
from typing_extensions import override

from penstock.models.export.checkpoint import Array, Checkpoint

ATTENTION, FEED_FORWARD = "input_layernorm.weight", "post_attention_layernorm.weight"
FOLLOWING = {
    ATTENTION: tuple(f"self_attn.{part}_proj.weight" for part in "qkv"),
    FEED_FORWARD: ("mlp.gate_proj.weight", "mlp.up_proj.weight"),
}
"""The matrices that read what a norm writes."""

OUTPUTS = {"self_attn.v_proj.weight": "self_attn.o_proj.weight", "mlp.up_proj.weight": "mlp.down_proj.weight"}
"""Matrices whose rows are linear in what another one reads."""


class Balanced(Checkpoint):
    """The same model with other tensors: sqrt(|activation| * |weight|) on both sides of every quantized product."""

    def __init__(self, folder: Path) -> None:
        """As a checkpoint."""
        super().__init__(folder)
        self._factors: dict[str, Array] = {}

    @override
    def read(self, name: str) -> Array:
        """As in Checkpoint, in fp32."""
        prefix, part = _parts(name)
        values = super().read(name)
        if not prefix:
            return values
        values = values.astype(np.float32)
        for norm, matrices in FOLLOWING.items():
            if part == norm:
                values = values / self._of_norm(prefix, norm)
            elif part in matrices:
                values = values * self._of_norm(prefix, norm)
        if part in OUTPUTS:
            return np.asarray(values / self._between(prefix, OUTPUTS[part])[:, None])
        if part == OUTPUTS["self_attn.v_proj.weight"]:
            return np.asarray(values * self._by_query_head(self._between(prefix, part)))
        return np.asarray(values * self._between(prefix, part)) if part in OUTPUTS.values() else values

    def _between(self, prefix: str, reader: str) -> Array:
        return self._of_values(prefix) if reader.startswith("self_attn") else self._of_gated(prefix)

    def _of_norm(self, prefix: str, norm: str) -> Array:
        """``[hidden]``: |gain| over the largest weight that meets it."""
        if prefix + norm not in self._factors:
            largest = np.max([self._largest(prefix + name, axis=0) for name in FOLLOWING[norm]], axis=0)
            gain = np.abs(super().read(prefix + norm).astype(np.float32))
            self._factors[prefix + norm] = factor(gain, largest)
        return self._factors[prefix + norm]

    def _of_values(self, prefix: str) -> Array:
        """``[key heads * head_dim]``: how large a value is, over the largest weight that meets it in any group."""
        label = prefix + "self_attn.o_proj.weight"
        if label not in self._factors:
            c = self.config
            columns = self._largest(label, axis=0).reshape(c.num_key_value_heads, -1, c.head_dim)
            rows = self._size(prefix + "self_attn.v_proj.weight", prefix + ATTENTION)
            self._factors[label] = factor(rows, columns.max(axis=1).ravel())
        return self._factors[label]

    def _of_gated(self, prefix: str) -> Array:
        """``[inner]``: how large SiLU(gate) times up is, over the largest weight that meets it."""
        label = prefix + "mlp.down_proj.weight"
        if label not in self._factors:
            gate, up = (self._size(f"{prefix}mlp.{part}_proj.weight", prefix + FEED_FORWARD) for part in ("gate", "up"))
            self._factors[label] = factor(gate * up, self._largest(label, axis=0))
        return self._factors[label]

    def _by_query_head(self, values: Array) -> Array:
        c = self.config
        groups = c.num_attention_heads // c.num_key_value_heads
        return values.reshape(c.num_key_value_heads, 1, c.head_dim).repeat(groups, axis=1).ravel()

    def _size(self, name: str, norm: str) -> Array:
        """``[out]``: the root mean square of a product with normalized states of unit variance."""
        gained = super().read(name).astype(np.float32) * super().read(norm).astype(np.float32)
        return np.asarray(np.sqrt(np.square(gained).sum(axis=1)))

    def _largest(self, name: str, axis: int) -> Array:
        return np.asarray(np.abs(super().read(name).astype(np.float32)).max(axis=axis))


def _parts(name: str) -> tuple[str, str]:
    """``layers.3.`` and the rest; nothing before what is in no layer."""
    if not name.startswith("layers."):
        return "", name
    _, index, part = name.split(".", 2)
    return f"layers.{index}.", part


def factor(activation: Array, weight: Array) -> Array:
    """sqrt(activation / weight) by channel, at a mean of 1 in logarithms; 1 where a side is zero."""
    product = activation * weight
    ratio = np.sqrt(np.divide(activation, weight, out=np.ones_like(activation), where=product > 0))
    ratio[product <= 0] = 1
    return np.asarray(ratio / np.exp(np.log(ratio).mean()), dtype=np.float32)
