"""The operators of an encoder of BERT's family, as each runtime computes them fastest.

Padding is on the right, and every token sees all others, but nothing that follows its text's last one.
"""

import math
from typing import NamedTuple

import numpy as np
from onnx import TensorProto
from typing_extensions import override

from penstock.models.export.activations import ANY, Steps
from penstock.models.export.dialects.products import ByteProducts, Products
from penstock.models.export.encoder_checkpoint import WORDS, EncoderCheckpoint
from penstock.models.export.graph import CONTRIB, IDS
from penstock.models.export.weights import Weights


class State(NamedTuple):
    """What a norm leaves: as it is, to be added, and as matrices read it, in a balanced checkpoint's proportions."""

    whole: str
    read: str


class StandardEncoder(Products):
    """Operators of opset 23."""

    name = "tensorrt"
    opset = 23
    precisions: tuple[str, ...] = ("fp16", "fp32")

    def __init__(self, checkpoint: EncoderCheckpoint, weights: Weights, precision: str) -> None:
        """As in Products."""
        super().__init__(checkpoint, weights, precision)
        self.encoder, self.config = checkpoint, checkpoint.config
        self._visible = ""

    def affine(self, x: str, name: str, steps: Steps = ANY) -> str:
        """``x`` times a matrix, and its bias; for ``steps`` see ``linear``."""
        return self.graph.op("Add", self.linear(x, f"{name}.weight", steps=steps), self.vector(f"{name}.bias"))

    def norm(self, x: str, part: str) -> State:
        """Mean and variance normalization of the last axis, with a gain and a bias; statistics in fp32."""
        gain, bias = (self.vector(f"{part}.LayerNorm.{kind}") for kind in ("weight", "bias"))
        normed = self.graph.op("LayerNormalization", x, gain, bias, axis=-1, epsilon=self.config.layer_norm_eps)
        behind = self.encoder.behind(part)
        if behind is None:
            return State(normed, normed)
        restored = self.graph.op("Mul", normed, self.small(f"{part}.behind", behind))
        return State(restored, normed)

    def add_norm(self, x: State, inner: str, part: str, steps: Steps = ANY) -> State:
        """The state plus what a part's matrix makes of ``inner``, normalized."""
        return self.norm(self.graph.op("Add", x.whole, self.affine(inner, f"{part}.dense", steps)), part)

    def activated(self, x: str, name: str) -> str:
        """GELU with the exact error function (arXiv 1606.08415) of x times a matrix, and its bias."""
        return self.graph.op("Gelu", self.affine(x, name), approximate="none")

    def attend(self, q: str, k: str, v: str, lengths: str) -> str:
        """Softmax attention of all heads; ``lengths`` ``[batch]`` int64 are how many of the keys there are to see."""
        return self._attention(q, k, v, self._mask(lengths))

    def _mask(self, lengths: str) -> str:
        """``[batch, 1, length, length]``: true where a query may look; once per graph."""
        if not self._visible:
            g, int64 = self.graph, np.int64
            zero, one = g.constant(0, int64), g.constant(1, int64)
            places = g.op("Range", zero, g.dimension(IDS, 1), one)
            real = g.op("Less", places, g.op("Unsqueeze", lengths, g.constant([1, 2, 3], int64)))
            sizes = (g.op("Shape", IDS, start=axis, end=axis + 1) for axis in (0, 1, 1))
            batch, *square = sizes
            self._visible = g.op("Expand", real, g.op("Concat", batch, g.constant([1], int64), *square, axis=0))
        return self._visible

    def _attention(self, *inputs: str) -> str:
        c = self.config
        heads = c.num_attention_heads
        return self.graph.op(
            "Attention", *inputs, q_num_heads=heads, kv_num_heads=heads, scale=1 / math.sqrt(c.head_dim)
        )


class FusedEncoder(StandardEncoder):
    """Kernels of ONNX Runtime that both of its providers have."""

    def activated(self, x: str, name: str) -> str:
        """As in StandardEncoder, in one pass behind the product."""
        product = self.linear(x, f"{name}.weight")
        return self.graph.op("BiasGelu", product, self.vector(f"{name}.bias"), domain=CONTRIB)


class CudaEncoder(FusedEncoder):
    """Kernels of ONNX Runtime's CUDA provider."""

    name = "cuda"

    def add_norm(self, x: State, inner: str, part: str, steps: Steps = ANY) -> State:
        """As in StandardEncoder, in one pass behind the product."""
        product = self.linear(inner, f"{part}.dense.weight", steps=steps)
        vectors = (self.vector(f"{part}.{name}") for name in ("LayerNorm.weight", "LayerNorm.bias", "dense.bias"))
        epsilon = self.config.layer_norm_eps
        normed = self.graph.op("SkipLayerNormalization", x.whole, product, *vectors, domain=CONTRIB, epsilon=epsilon)
        return State(normed, normed)

    def attend(self, q: str, k: str, v: str, lengths: str) -> str:
        """As in StandardEncoder; the kernel knows of lengths."""
        c, counts = self.config, self.graph.op("Cast", lengths, to=TensorProto.INT32)
        return self.graph.op(
            "MultiHeadAttention", q, k, v, "", counts,
            domain=CONTRIB, num_heads=c.num_attention_heads, scale=1 / math.sqrt(c.head_dim),
        )  # fmt: skip


class CpuEncoder(ByteProducts, FusedEncoder):
    """Kernels of ONNX Runtime's CPU provider."""

    name = "cpu"
    opset = 24
    precisions = ("fp32", "int8", "int7")
    exact_in = "fp16"  # the runtime makes them fp32 when it loads the graph

    @override
    def rows(self, name: str, indices: str) -> str:
        """As in ByteProducts; the words in bytes as well: they are most of a multilingual encoder."""
        if not self._bytes or name != WORDS:
            return super().rows(name, indices)
        g = self.graph
        table, scales = (g.op("Gather", g.weight(part), indices) for part in self._weights.byte_table(name))
        return g.op("Mul", g.op("Cast", table, to=TensorProto.FLOAT), scales)

    def attend(self, q: str, k: str, v: str, lengths: str) -> str:
        """As in StandardEncoder; the kernel knows of lengths, and no square of what is seen is needed."""
        return self._attention(q, k, v, "", "", "", lengths)


ENCODER_DIALECTS: dict[str, type[StandardEncoder]] = {
    dialect.name: dialect for dialect in (CudaEncoder, CpuEncoder, StandardEncoder)
}
