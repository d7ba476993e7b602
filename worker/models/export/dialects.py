"""The operators of a Qwen3 decoder, as each runtime computes them fastest.

``Standard`` is the ``tensorrt`` dialect: operators of the ONNX standard only, since TensorRT's parser knows no others.
``Cpu`` and ``Cuda`` say what their kernels do better. Padding is on the right, and attention is causal, so what
follows a text's last token cannot change it, and no mask is needed.
"""

import math
from typing import Any

import numpy as np
from onnx import TensorProto, numpy_helper

from worker.models.export.checkpoint import Array, Checkpoint, Config
from worker.models.export.graph import CONTRIB, IDS, LENGTHS, Graph
from worker.models.export.weights import TYPES, Weights, cast

LARGEST = 127
MIDDLE = 128
"""Activations are unsigned bytes around this zero point: the kernels for processors multiply unsigned by signed."""

TINIEST = 1e-30
"""A row of zeros is divided by this instead of by zero."""


class Standard:
    """Operators of opset 23. ``precision`` is that of the matrices; int8 computes everything else in fp32."""

    name = "tensorrt"
    opset = 23
    precisions: tuple[str, ...] = ("bf16", "fp16", "fp32")
    last_token_only = False
    """Whether the last layer computes queries, and what follows from them, for the last token alone."""

    def __init__(self, checkpoint: Checkpoint, weights: Weights, precision: str) -> None:
        """A graph to be, with two inputs: ids ``[batch, length]`` and lengths ``[batch]``, int32."""
        self.graph = Graph()
        self.config: Config = checkpoint.config
        self._checkpoint = checkpoint
        self._weights = weights
        self.precision = "fp32" if precision == "int8" else precision

    def embed(self, ids: str) -> str:
        """``[batch, length]`` to ``[batch, length, hidden]``."""
        (table,) = self._weights.table("embed_tokens.weight")
        return self.graph.op("Gather", self.graph.weight(table), ids)

    def linear(self, x: str, *names: str) -> str:
        """``x`` times one matrix, or several side by side."""
        (matrix,) = self._weights.linear(names, "+".join(names))
        return self.graph.op("MatMul", x, self.graph.weight(matrix))

    def norm(self, x: str, name: str, precision: str | None = None) -> str:
        """Root mean square normalization of the last axis, with a gain; statistics in fp32."""
        g, wide = self.graph, (precision or self.precision) == "fp32"
        values = x if wide else g.op("Cast", x, to=TYPES["fp32"][0])
        mean = g.op("ReduceMean", g.op("Mul", values, values), g.constant([-1], np.int64), keepdims=1)
        root = g.op("Sqrt", g.op("Add", mean, g.constant(self.config.rms_norm_eps, np.float32)))
        normed = g.op("Div", values, root)
        normed = normed if wide else g.op("Cast", normed, to=TYPES[self.precision][0])
        return g.op("Mul", normed, self.gain(name, precision))

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
        cosines, sines = self.rotary_tables()
        return g.op("RotaryEmbedding", joined, cosines, sines, positions, num_heads=heads)

    def rotary_tables(self) -> tuple[str, str]:
        """Cosines and sines, each ``[positions, head_dim / 2]``."""
        tables = rotary(self.config)
        named = zip(("rotary.cos", "rotary.sin"), tables, strict=True)
        cosines, sines = (self._small(name, cast(name, table, self.precision)) for name, table in named)
        return cosines, sines

    def gain(self, name: str, precision: str | None = None) -> str:
        """A normalization's gain, a small initializer."""
        precision = precision or self.precision
        label = name if precision == self.precision else f"{name}.{precision}"
        return self._small(label, cast(name, self._checkpoint.read(name), precision))

    def _small(self, name: str, values: Array) -> str:
        return self.graph.weight(numpy_helper.from_array(values, name))


class Cpu(Standard):
    """Kernels of ONNX Runtime's CPU provider.

    The sum before a norm stays apart: the fused SkipSimplifiedLayerNormalization takes twice the time of both.
    """

    name = "cpu"
    precisions = ("fp32", "int8")
    last_token_only = True

    def __init__(self, checkpoint: Checkpoint, weights: Weights, precision: str) -> None:
        """As in Standard."""
        super().__init__(checkpoint, weights, precision)
        self._int8 = precision == "int8"
        self._quantized: dict[str, tuple[str, str]] = {}

    def embed(self, ids: str) -> str:
        """As in Standard; int8 rows are scaled after they are looked up."""
        if not self._int8:
            return super().embed(ids)
        g = self.graph
        table, scale = (g.weight(tensor) for tensor in self._weights.table("embed_tokens.weight"))
        rows = g.op("Cast", g.op("Gather", table, ids), to=TYPES["fp32"][0])
        return g.op("Mul", rows, g.op("Gather", scale, ids))

    def linear(self, x: str, *names: str) -> str:
        """As in Standard; int8 times int8 with a scale per token and one per output channel."""
        if not self._int8:
            return super().linear(x, *names)
        g = self.graph
        matrix, scale = (g.weight(tensor) for tensor in self._weights.linear(names, "+".join(names)))
        whole, largest = self._quantize(x)
        unit, middle = self._unit()
        result = g.op("MatMulIntegerToFloat", whole, matrix, unit, scale, middle, domain=CONTRIB)
        return g.op("Mul", result, largest)

    def norm(self, x: str, name: str, precision: str | None = None) -> str:
        """As in Standard."""
        gain = self.gain(name, precision)
        return self.graph.op("RMSNormalization", x, gain, axis=-1, epsilon=self.config.rms_norm_eps)

    def gated(self, gate: str, up: str) -> str:
        """As in Standard; QuickGelu with alpha 1 is SiLU in one pass."""
        return self.graph.op("Mul", self.graph.op("QuickGelu", gate, domain=CONTRIB, alpha=1.0), up)

    def attention(self, x: str, layer: str, positions: str) -> str:
        """As in Standard; three matrices instead of one, which spares splitting their product."""
        return self.attend(*self._heads(x, x, layer, positions, positions), is_causal=1)

    def attention_of_last(self, x: str, last: str, layer: str, positions: str, place: str, mask: str) -> str:
        """The same for ``last`` ``[batch, 1, hidden]`` at ``place`` only, looking at all that ``mask`` shows."""
        return self.attend(*self._heads(x, last, layer, positions, place), mask=mask)

    def _heads(self, x: str, asking: str, layer: str, positions: str, place: str) -> tuple[str, str, str]:
        c = self.config
        q = self.linear(asking, f"{layer}.self_attn.q_proj.weight")
        q = self.rotate(q, f"{layer}.self_attn.q_norm.weight", c.num_attention_heads, place)
        k = self.linear(x, f"{layer}.self_attn.k_proj.weight")
        k = self.rotate(k, f"{layer}.self_attn.k_norm.weight", c.num_key_value_heads, positions)
        return q, k, self.linear(x, f"{layer}.self_attn.v_proj.weight")

    def _quantize(self, x: str) -> tuple[str, str]:
        """Each token divided by its largest magnitude, then rounded to bytes: no token sees another's scale."""
        if x not in self._quantized:
            g = self.graph
            magnitude = g.op("ReduceMax", g.op("Abs", x), g.constant([-1], np.int64), keepdims=1)
            largest = g.op("Max", magnitude, g.constant(TINIEST, np.float32))
            self._quantized[x] = g.op("QuantizeLinear", g.op("Div", x, largest), *self._unit()), largest
        return self._quantized[x]

    def _unit(self) -> tuple[str, str]:
        return self.graph.constant(1 / LARGEST, np.float32), self.graph.constant(MIDDLE, np.uint8)


class Cuda(Standard):
    """Kernels of ONNX Runtime's CUDA provider: packed heads, with norms and rotation inside the attention."""

    name = "cuda"
    opset = 21

    def __init__(self, checkpoint: Checkpoint, weights: Weights, precision: str) -> None:
        """As in Standard."""
        super().__init__(checkpoint, weights, precision)
        g = self.graph
        self._length = g.op("Cast", g.dimension(IDS, 1), to=TensorProto.INT32)
        self._before_last = g.op("Sub", LENGTHS, g.constant(1, np.int32))

    def norm(self, x: str, name: str, precision: str | None = None) -> str:
        """As in Standard."""
        gain = self.gain(name, precision)
        return self.graph.op("SimplifiedLayerNormalization", x, gain, axis=-1, epsilon=self.config.rms_norm_eps)

    def add_norm(self, x: str, delta: str, name: str) -> tuple[str, str]:
        """As in Standard, in one pass."""
        normed, _, _, total = self.graph.ops(
            "SkipSimplifiedLayerNormalization",
            [x, delta, self.gain(name)],
            "x--x",
            CONTRIB,
            epsilon=self.config.rms_norm_eps,
        )
        return total, normed

    def gated(self, gate: str, up: str) -> str:
        """As in Standard; QuickGelu with alpha 1 is SiLU in one pass."""
        return self.graph.op("Mul", self.graph.op("QuickGelu", gate, domain=CONTRIB, alpha=1.0), up)

    def attention(self, x: str, layer: str, positions: str) -> str:  # noqa: ARG002  # counted from 0 inside
        """As in Standard."""
        c, names = self.config, [f"{layer}.self_attn.{part}_proj.weight" for part in "qkv"]
        gains = (self.gain(f"{layer}.self_attn.{part}_norm.weight") for part in "qk")
        none = ("",) * 6
        return self.graph.op(
            "GroupQueryAttention",
            self.linear(x, *names), *none[:4], self._before_last, self._length,
            *self.rotary_tables(), *none[:5], *gains,
            domain=CONTRIB, num_heads=c.num_attention_heads, kv_num_heads=c.num_key_value_heads, do_rotary=1,
            scale=1 / math.sqrt(c.head_dim), qk_norm_epsilon=c.rms_norm_eps,
        )  # fmt: skip


def rotary(config: Config) -> tuple[Array, Array]:
    """Cosines and sines ``[positions, head_dim / 2]`` in fp32, rounded as transformers rounds (arXiv 2104.09864)."""
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    frequencies = np.float32(1) / np.float32(config.rope_theta) ** exponents
    angles = np.outer(np.arange(config.max_position_embeddings, dtype=np.float32), frequencies)
    return np.cos(angles), np.sin(angles)


DIALECTS: dict[str, type[Standard]] = {dialect.name: dialect for dialect in (Cuda, Cpu, Standard)}
