"""The graph of a Qwen3 decoder, from token ids to one vector or one logit per text, in any dialect."""

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from penstock.models.export.checkpoint import Array, Checkpoint
from penstock.models.export.config import Config
from penstock.models.export.dialects import DIALECTS
from penstock.models.export.dialects.cpu import Cpu
from penstock.models.export.dialects.standard import Standard
from penstock.models.export.graph import IDS, LENGTHS
from penstock.models.export.weights import Weights

EMBEDDING, LOGIT = "embedding", "logit"
BEFORE, AFTER = "input_layernorm.weight", "post_attention_layernorm.weight"


def tensors(config: Config) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the body."""
    hidden, inner = config.hidden_size, config.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (config.vocab_size, hidden), "norm.weight": (hidden,)}
    layer = {
        BEFORE: (hidden,),
        AFTER: (hidden,),
        "self_attn.q_norm.weight": (config.head_dim,),
        "self_attn.k_norm.weight": (config.head_dim,),
        "self_attn.q_proj.weight": (config.query_width, hidden),
        "self_attn.k_proj.weight": (config.key_width, hidden),
        "self_attn.v_proj.weight": (config.key_width, hidden),
        "self_attn.o_proj.weight": (hidden, config.query_width),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
    }
    for index in range(config.num_hidden_layers):
        shapes |= {f"layers.{index}.{name}": shape for name, shape in layer.items()}
    return shapes


def build(checkpoint: Checkpoint, weights: Weights, dialect: str, precision: str, head: Array | int) -> ModelProto:
    """The whole graph; its matrices are in the file of ``weights``.

    Inputs are ``input_ids`` ``[batch, length]``, padded on the right with anything, and ``lengths`` ``[batch]``, both
    int32. ``head`` is a dimension: then the output is ``embedding`` ``[batch, dimension]``, not normalized; or a
    vector ``[hidden]``: then it is ``logit`` ``[batch, 1]``. Outputs are fp32.
    """
    made = DIALECTS[dialect](checkpoint, weights, precision)
    g = made.graph
    states = _Layers(made).run()
    pooled = g.op("Cast", states, to=TensorProto.FLOAT) if made.precision != "fp32" else states
    with g.scope("head"):
        normed = made.norm(pooled, "norm.weight", "fp32")
        if isinstance(head, int):
            name, width = EMBEDDING, head
            result = normed
            if head < checkpoint.config.hidden_size:
                result = g.op("Slice", normed, *(g.constant([value], np.int64) for value in (0, head, -1)))
        else:
            name, width = LOGIT, 1
            weighted = g.op("Mul", normed, g.weight(numpy_helper.from_array(head, "head.weight")))
            result = g.op("ReduceSum", weighted, g.constant([-1], np.int64), keepdims=1)
    g.result(result, name)
    inputs = (
        helper.make_tensor_value_info(IDS, TensorProto.INT32, ["batch", "length"]),
        helper.make_tensor_value_info(LENGTHS, TensorProto.INT32, ["batch"]),
    )
    return g.model(inputs, [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])], made.opset)


class _Layers:
    """The stack of layers, up to the hidden state of each text's last token, ``[batch, hidden]``."""

    def __init__(self, dialect: Standard) -> None:
        self._d, self._g, self._config = dialect, dialect.graph, dialect.config
        g = self._g
        lengths = g.op("Cast", LENGTHS, to=TensorProto.INT64)
        self._before_last = g.op("Sub", lengths, self._int(1))
        batch, length = g.dimension(IDS, 0), g.dimension(IDS, 1)
        starts = g.op("Mul", g.op("Range", self._int(0), batch, self._int(1)), length)
        self._rows = g.op("Add", starts, self._before_last)
        self._places = g.op("Range", self._int(0), length, self._int(1))

    def run(self) -> str:
        """From the ids to the last tokens."""
        d, last = self._d, self._config.num_hidden_layers - 1
        positions = self._positions()
        x = d.rows("embed_tokens.weight", IDS)
        normed = d.norm(x, f"layers.0.{BEFORE}")
        for index in range(last):
            layer = f"layers.{index}"
            with self._g.scope(layer):
                x, delta = self._feed_forward(x, d.attention(normed, layer, positions), layer)
                x, normed = d.add_norm(x, delta, f"layers.{index + 1}.{BEFORE}")
        layer = f"layers.{last}"
        with self._g.scope(layer):
            if isinstance(d, Cpu):
                place, mask = self._op("Unsqueeze", self._before_last, 1), self._until_last()
                attended = d.attention_of_last(normed, self._last(normed), layer, positions, place, mask)
                x, delta = self._feed_forward(self._last(x), attended, layer)
            else:
                x, delta = self._feed_forward(x, d.attention(normed, layer, positions), layer)
                x, delta = self._last(x), self._last(delta)
            return self._op("Squeeze", self._g.op("Add", x, delta), 1)

    def _feed_forward(self, x: str, attended: str, layer: str) -> tuple[str, str]:
        """The hidden state after the attention, and what is still to be added to it."""
        d = self._d
        x, normed = d.add_norm(x, d.linear(attended, f"{layer}.self_attn.o_proj.weight"), f"{layer}.{AFTER}")
        gate, up = (d.linear(normed, f"{layer}.mlp.{part}_proj.weight") for part in ("gate", "up"))
        return x, d.linear(d.gated(gate, up), f"{layer}.mlp.down_proj.weight")

    def _last(self, x: str) -> str:
        """``[batch, length, n]`` to ``[batch, 1, n]``: the last real token of each text."""
        flat = self._g.op("Reshape", x, self._g.constant([-1, self._config.hidden_size], np.int64))
        return self._op("Unsqueeze", self._g.op("Gather", flat, self._rows, axis=0), 1)

    def _positions(self) -> str:
        """``[batch, length]``: 0, 1, 2 … in every row."""
        shape = self._g.op("Shape", IDS)
        return self._g.op("Expand", self._op("Unsqueeze", self._places, 0), shape)

    def _until_last(self) -> str:
        """``[batch, 1, 1, length]``: true up to the last real token."""
        return self._g.op(
            "LessOrEqual",
            self._op("Unsqueeze", self._places, 0, 1, 2),
            self._op("Unsqueeze", self._before_last, 1, 2, 3),
        )

    def _op(self, kind: str, x: str, *axes: int) -> str:
        return self._g.op(kind, x, self._g.constant(axes, np.int64))

    def _int(self, value: int) -> str:
        return self._g.constant(value, np.int64)
