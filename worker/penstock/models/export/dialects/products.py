"""What the graphs of every family look up and multiply with: matrices as they are, or in bytes."""

import numpy as np
from onnx import TensorProto, numpy_helper
from typing_extensions import override

from penstock.models.export.activations import ANY, Steps
from penstock.models.export.checkpoint import Array, Tensors
from penstock.models.export.graph import CONTRIB, Graph
from penstock.models.export.weights import IN_BYTES, Weights, cast


class Products:
    """``precision`` is that of the matrices; beside bytes everything else is in fp32."""

    def __init__(self, checkpoint: Tensors, weights: Weights, precision: str) -> None:
        """A graph to be, with two inputs: ids ``[batch, length]`` and lengths ``[batch]``, int32."""
        self.graph = Graph()
        self._checkpoint = checkpoint
        self._weights = weights
        self.precision = "fp32" if precision in IN_BYTES else precision

    def rows(self, name: str, indices: str) -> str:
        """Rows of a table: indices of any shape to ``[…, width]``."""
        return self.graph.op("Gather", self.graph.weight(self._weights.table(name)), indices)

    def linear(self, x: str, *names: str, steps: Steps = ANY) -> str:  # noqa: ARG002  # without bytes, no steps
        """``x`` times one matrix, or several side by side; ``steps`` are those of x in bytes."""
        (matrix,) = self._weights.linear(names, "+".join(names))
        return self.graph.op("MatMul", x, self.graph.weight(matrix))

    def vector(self, name: str, precision: str | None = None) -> str:
        """A normalization's gain, or a bias: a small initializer."""
        precision = precision or self.precision
        label = name if precision == self.precision else f"{name}.{precision}"
        return self.small(label, cast(name, self._checkpoint.read(name), precision))

    def small(self, name: str, values: Array) -> str:
        """An initializer inside the graph's own file."""
        return self.graph.weight(numpy_helper.from_array(values, name))


class ByteProducts(Products):
    """On processors: bytes times bytes where the precision says so, with a scale per token and one per channel."""

    exact_in = "fp32"
    """Of the matrices that bytes would spoil."""

    def __init__(self, checkpoint: Tensors, weights: Weights, precision: str) -> None:
        """As in Products."""
        super().__init__(checkpoint, weights, precision)
        self._bytes = precision in IN_BYTES
        self._quantized: dict[str, tuple[str, str]] = {}

    @override
    def rows(self, name: str, indices: str) -> str:
        """As in Products; in fp32 after the rows are looked up."""
        found = super().rows(name, indices)
        return self.graph.op("Cast", found, to=TensorProto.FLOAT) if self._bytes else found

    @override
    def linear(self, x: str, *names: str, steps: Steps = ANY) -> str:
        """As in Products; int8 times int8 with a scale per token and one per output channel."""
        g = self.graph
        tensors = self._weights.linear(names, "+".join(names), self.exact_in)
        matrix, *scales = (g.weight(tensor) for tensor in tensors)
        if not scales:
            halved = tensors[0].data_type == TensorProto.FLOAT16
            return g.op("MatMul", x, g.op("Cast", matrix, to=TensorProto.FLOAT) if halved else matrix)
        whole, largest = self._quantize(x, steps)
        unit, zero = self._unit(steps)
        result = g.op("MatMulIntegerToFloat", whole, matrix, unit, *scales, zero, domain=CONTRIB)
        return g.op("Mul", result, largest)

    def _quantize(self, x: str, steps: Steps) -> tuple[str, str]:
        """Each token divided by its largest magnitude, then rounded to bytes: no token sees another's scale."""
        if x not in self._quantized:
            g = self.graph
            sizes = g.op("Abs", x) if steps.signed else x
            largest = g.op("ReduceMax", sizes, g.constant([-1], np.int64), keepdims=1)
            largest = g.op("Max", largest, g.constant(steps.least, np.float32))
            self._quantized[x] = g.op("QuantizeLinear", g.op("Div", x, largest), *self._unit(steps)), largest
        return self._quantized[x]

    def _unit(self, steps: Steps) -> tuple[str, str]:
        return self.graph.constant(1 / steps.above, np.float32), self.graph.constant(steps.zero, np.uint8)
