"""The graph of an encoder of BERT's family, from token ids to one vector or one logit per text, in any dialect."""

from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from penstock.models.export.activations import BEHIND_GELU
from penstock.models.export.checkpoint import Array
from penstock.models.export.decoder import EMBEDDING, LOGIT
from penstock.models.export.dialects.encoder import ENCODER_DIALECTS, CpuEncoder, StandardEncoder, State
from penstock.models.export.encoder_checkpoint import POSITIONS, TYPES, WORDS, EncoderCheckpoint
from penstock.models.export.graph import IDS, LENGTHS
from penstock.models.export.weights import Weights

MEAN, FIRST, LAST = "mean", "cls", "lasttoken"
"""How the states of all tokens become one vector, by the names of sentence-transformers."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What the graph ends with: a pooled vector, or the logit that the classifier's head makes of the first token.

    ``separator``: the token after which the second text of a pair begins, with token types of its own; None where all
    are of one type.
    """

    pooling: str
    scored: bool = False
    separator: int | None = None


def build(checkpoint: EncoderCheckpoint, weights: Weights, dialect: str, precision: str, ending: Ending) -> ModelProto:
    """The whole graph; its matrices are in the file of ``weights``.

    Inputs are ``input_ids`` ``[batch, length]``, padded on the right with any token, and ``lengths`` ``[batch]``, both
    int32. The output is ``embedding`` ``[batch, hidden]``, not normalized, or ``logit`` ``[batch, 1]``; in fp32.
    """
    made = ENCODER_DIALECTS[dialect](checkpoint, weights, precision)
    g, hidden = made.graph, checkpoint.config.hidden_size
    pooled = _Layers(made, ending).run()
    if ending.scored:
        with g.scope("head"):
            pooled = _scored(made, checkpoint, pooled)
    name, width = (LOGIT, 1) if ending.scored else (EMBEDDING, hidden)
    g.result(pooled, name)
    inputs = (
        helper.make_tensor_value_info(IDS, TensorProto.INT32, ["batch", "length"]),
        helper.make_tensor_value_info(LENGTHS, TensorProto.INT32, ["batch"]),
    )
    return g.model(inputs, [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])], made.opset)


def _scored(made: StandardEncoder, checkpoint: EncoderCheckpoint, pooled: str) -> str:
    """``[batch, hidden]`` to ``[batch, 1]``, in fp32."""
    g, head = made.graph, checkpoint.head

    def matrix(name: str) -> str:
        values: Array = checkpoint.read(name).astype(np.float32).T
        return g.weight(numpy_helper.from_array(np.ascontiguousarray(values), f"{name}.fp32"))

    x = g.op("Add", g.op("MatMul", pooled, matrix(f"{head.dense}.weight")), made.vector(f"{head.dense}.bias", "fp32"))
    x = g.op("MatMul", g.op("Tanh", x), matrix(f"{head.out}.weight"))
    return g.op("Add", x, made.vector(f"{head.out}.bias", "fp32"))


class _Layers:
    """From the ids to the pooled state of each text, ``[batch, hidden]`` in fp32."""

    def __init__(self, dialect: StandardEncoder, ending: Ending) -> None:
        self._d, self._g, self._config, self._ending = dialect, dialect.graph, dialect.config, ending
        g = self._g
        self._lengths = g.op("Cast", LENGTHS, to=TensorProto.INT64)
        self._places = g.op("Range", self._int(0), g.dimension(IDS, 1), self._int(1))
        self._by_text = self._op("Unsqueeze", self._lengths, 1)

    def run(self) -> str:
        """All layers, and the pooling."""
        last = self._config.num_hidden_layers - 1
        x = self._embedded()
        for index in range(last):
            x = self._layer(x, x, index)
        one_token = self._ending.pooling != MEAN
        if one_token and isinstance(self._d, CpuEncoder):  # nothing else of the last layer is looked at
            asking = State(*(self._chosen(part) for part in x))
            return self._wide(self._op("Squeeze", self._layer(x, asking, last).whole, 1))
        states = self._wide(self._layer(x, x, last).whole)
        return self._op("Squeeze", self._chosen(states) if one_token else self._mean(states), 1)

    def _embedded(self) -> State:
        """The sum of what a token is, where it stands, and which text of a pair it is of; normalized."""
        g, c, d = self._g, self._config, self._d
        first, end = self._int(c.first_position), self._int(c.max_position_embeddings - 1)
        positions = g.op("Min", g.op("Add", self._places, first), end)  # padding may go beyond the last one
        x = d.rows(POSITIONS, positions)
        types = self._types()
        if types is None:
            x = g.op("Add", d.rows(WORDS, IDS), g.op("Add", x, d.rows(TYPES, self._int(0))))
        else:
            x = g.op("Add", g.op("Add", d.rows(WORDS, IDS), x), d.rows(TYPES, types))
        return d.norm(x, "embeddings")

    def _types(self) -> str | None:
        """``[batch, length]``: 0 up to the first separator, 1 behind it."""
        g, separator = self._g, self._ending.separator
        if separator is None:
            return None
        separates = g.op("Cast", g.op("Equal", IDS, g.constant(separator, np.int32)), to=TensorProto.INT32)
        passed = g.op("CumSum", separates, g.constant(1, np.int32), exclusive=1)
        return g.op("Min", passed, g.constant(1, np.int32))

    def _layer(self, x: State, asking: State, index: int) -> State:
        """What a layer makes of the tokens ``asking``, which look at all of ``x``."""
        d, layer = self._d, f"encoder.layer.{index}"
        with self._g.scope(layer):
            q = d.affine(asking.read, f"{layer}.attention.self.query")
            k, v = (d.affine(x.read, f"{layer}.attention.self.{part}") for part in ("key", "value"))
            x = d.add_norm(asking, d.attend(q, k, v, self._lengths), f"{layer}.attention.output")
            inner = d.activated(x.read, f"{layer}.intermediate.dense")
            return d.add_norm(x, inner, f"{layer}.output", BEHIND_GELU)

    def _chosen(self, x: str) -> str:
        """``[batch, length, n]`` to ``[batch, 1, n]``: the first token of each text, or the last."""
        if self._ending.pooling == FIRST:
            return self._g.op("Slice", x, *(self._g.constant([value], np.int64) for value in (0, 1, 1)))
        last = self._op("Unsqueeze", self._g.op("Sub", self._by_text, self._int(1)), 2)
        wide = self._g.constant([1, 1, self._config.hidden_size], np.int64)
        return self._g.op("GatherElements", x, self._g.op("Expand", last, wide), axis=1)

    def _mean(self, x: str) -> str:
        """Over the real tokens: a product, whose sums the zeros of the padding do not change."""
        g = self._g
        real = g.op("Less", self._places, self._by_text)
        shares = g.op("Div", *(g.op("Cast", value, to=TensorProto.FLOAT) for value in (real, self._by_text)))
        return g.op("MatMul", self._op("Unsqueeze", shares, 1), x)

    def _wide(self, x: str) -> str:
        return x if self._d.precision == "fp32" else self._g.op("Cast", x, to=TensorProto.FLOAT)

    def _op(self, kind: str, x: str, *axes: int) -> str:
        return self._g.op(kind, x, self._g.constant(axes, np.int64))

    def _int(self, value: int) -> str:
        return self._g.constant(value, np.int64)
