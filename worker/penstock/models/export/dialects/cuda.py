"""The ``cuda`` dialect: the fused kernels of ONNX Runtime's CUDA provider."""

import math

import numpy as np
from onnx import TensorProto

from penstock.models.export.checkpoint import Checkpoint
from penstock.models.export.dialects.standard import Standard
from penstock.models.export.graph import CONTRIB, IDS, LENGTHS
from penstock.models.export.weights import Weights


class Cuda(Standard):
    """Kernels of ONNX Runtime's CUDA provider: packed heads, with norms and rotation inside the attention."""

    name = "cuda"
    opset = 21
    precisions = ("bf16", "fp16")  # those of the attention kernel

    def __init__(self, checkpoint: Checkpoint, weights: Weights, precision: str) -> None:
        """As in Standard."""
        super().__init__(checkpoint, weights, precision)
        g = self.graph
        self._length = g.op("Cast", g.dimension(IDS, 1), to=TensorProto.INT32)
        self._before_last = g.op("Sub", LENGTHS, g.constant(1, np.int32))

    def norm(self, x: str, name: str, precision: str | None = None) -> str:
        """As in Standard."""
        gain = self.vector(name, precision)
        return self.graph.op("SimplifiedLayerNormalization", x, gain, axis=-1, epsilon=self.config.rms_norm_eps)

    def add_norm(self, x: str, delta: str, name: str) -> tuple[str, str]:
        """As in Standard, in one pass."""
        normed, _, _, total = self.graph.ops(
            "SkipSimplifiedLayerNormalization",
            [x, delta, self.vector(name)],
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
        gains = (self.vector(f"{layer}.self_attn.{part}_norm.weight") for part in "qk")
        none = ("",) * 6
        return self.graph.op(
            "GroupQueryAttention",
            self.linear(x, *names), *none[:4], self._before_last, self._length,
            *self.rotary_tables, *none[:5], *gains,
            domain=CONTRIB, num_heads=c.num_attention_heads, kv_num_heads=c.num_key_value_heads, do_rotary=1,
            scale=1 / math.sqrt(c.head_dim), qk_norm_epsilon=c.rms_norm_eps,
        )  # fmt: skip
