"""The ``tensorrt`` dialect: operators of the ONNX standard only, since TensorRT's parser knows no others."""

import math
from functools import cached_property
from typing import Any

import numpy as np

from penstock.models.batches import round_up
from penstock.models.export.checkpoint import Array, Checkpoint
from penstock.models.export.config import Config
from penstock.models.export.dialects.products import Products
from penstock.models.export.weights import TYPES, Weights, cast
from penstock.models.providers import MULTIPLE


class Standard(Products):
    """Operators of opset 23."""

    name = "tensorrt"
    opset = 23
    precisions: tuple[str, ...] = ("bf16", "fp16", "fp32")

    def __init__(self, checkpoint: Checkpoint, weights: Weights, precision: str) -> None:
        """As in Products."""
        super().__init__(checkpoint, weights, precision)
        self.config: Config = checkpoint.config

    def norm(self, x: str, name: str, precision: str | None = None) -> str:
        """Root mean square normalization of the last axis, with a gain; statistics in fp32."""
        g, wide = self.graph, (precision or self.precision) == "fp32"
        values = x if wide else g.op("Cast", x, to=TYPES["fp32"][0])
        mean = g.op("ReduceMean", g.op("Mul", values, values), g.constant([-1], np.int64), keepdims=1)
        root = g.op("Sqrt", g.op("Add", mean, g.constant(self.config.rms_norm_eps, np.float32)))
        normed = g.op("Div", values, root)
        normed = normed if wide else g.op("Cast", normed, to=TYPES[self.precision][0])
        return g.op("Mul", normed, self.vector(name, precision))

    def add_norm(self, x: str, delta: str, name: str) -> tuple[str, str]:
        """The sum, and the sum normalized."""
        total = self.graph.op("Add", x, delta)
        return total, self.norm(total, name)

    def gated(self, gate: str, up: str) -> str:
        """SiLU(gate) times up."""
        g = self.graph
        return g.op("Mul", g.op("Mul", gate, g.op("Sigmoid", gate)), up)

    def attention(self, x: str, layer: str, positions: str) -> str:
        """``[batch, length, hidden]`` to ``[batch, length, heads * head_dim]``."""
        c, names = self.config, [f"{layer}.self_attn.{part}_proj.weight" for part in "qkv"]
        widths = self.graph.constant([c.query_width, c.key_width, c.key_width], np.int64)
        q, k, v = self.graph.ops("Split", [self.linear(x, *names), widths], "xxx", axis=-1)
        q = self.rotate(q, f"{layer}.self_attn.q_norm.weight", c.num_attention_heads, positions)
        k = self.rotate(k, f"{layer}.self_attn.k_norm.weight", c.num_key_value_heads, positions)
        return self.attend(q, k, v, is_causal=1)

    def attend(self, q: str, k: str, v: str, mask: str = "", is_causal: int = 0) -> str:
        """Softmax attention of grouped heads; ``mask`` is true where a query may look."""
        c = self.config
        inputs = [q, k, v, mask] if mask else [q, k, v]
        heads: dict[str, Any] = {"q_num_heads": c.num_attention_heads, "kv_num_heads": c.num_key_value_heads}
        return self.graph.op("Attention", *inputs, is_causal=is_causal, scale=1 / math.sqrt(c.head_dim), **heads)

    def rotate(self, x: str, gain: str, heads: int, positions: str) -> str:
        """Each head normalized, then turned by its position."""
        g, c = self.graph, self.config
        split = g.op("Reshape", x, g.constant([0, 0, heads, c.head_dim], np.int64))
        joined = g.op("Reshape", self.norm(split, gain), g.constant([0, 0, heads * c.head_dim], np.int64))
        cosines, sines = self.rotary_tables
        return g.op("RotaryEmbedding", joined, cosines, sines, positions, num_heads=heads)

    @cached_property
    def rotary_tables(self) -> tuple[str, str]:
        """Cosines and sines, each ``[positions, head_dim / 2]``."""
        tables = rotary(self.config)
        named = zip(("rotary.cos", "rotary.sin"), tables, strict=True)
        cosines, sines = (self.small(name, cast(name, table, self.precision)) for name, table in named)
        return cosines, sines


def rotary(config: Config) -> tuple[Array, Array]:
    """Cosines and sines ``[positions, head_dim / 2]`` in fp32, rounded as transformers rounds (arXiv 2104.09864)."""
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = np.float32(1) / np.float32(config.rope_theta) ** exponents
    positions = round_up(config.max_position_embeddings, max(MULTIPLE.values()))  # padding has positions, too
    angles = np.outer(np.arange(positions, dtype=np.float32), frequencies)
    return np.cos(angles), np.sin(angles)
