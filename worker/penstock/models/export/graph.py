"""Writing an ONNX graph down, operator by operator."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from penstock import __version__
from penstock.models.export.checkpoint import Array

IDS, LENGTHS = "input_ids", "lengths"
CONTRIB = "com.microsoft"
IR_VERSION = 11
"""That of opset 23."""


class Graph:
    """Nodes and initializers in the order of their making. Values are known by their names."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._initializers: dict[str, TensorProto] = {}
        self._numbers = count()
        self._scope = ""

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Nodes made within are named after it."""
        outer, self._scope = self._scope, f"{self._scope}{name}/"
        yield
        self._scope = outer

    def ops(self, kind: str, inputs: Sequence[str], wanted: str, domain: str = "", **attributes: Any) -> list[str]:
        """A node of several outputs, those marked x in ``wanted``; an input named "" is left out."""
        name = f"{self._scope}{kind}_{next(self._numbers)}"
        results = [f"{name}:{i}" if mark == "x" else "" for i, mark in enumerate(wanted)]
        self._nodes.append(helper.make_node(kind, list(inputs), results, name=name, domain=domain, **attributes))
        return results

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """A node of one output."""
        return self.ops(kind, inputs, "x", domain, **attributes)[0]

    def choose(self, condition: str, yes: Callable[[], str], no: Callable[[], str]) -> str:
        """The value of one of two branches, of which only that one is computed."""
        branches = []
        for make in (yes, no):
            outer, self._nodes = self._nodes, []
            result = ValueInfoProto(name=make())
            branches.append(helper.make_graph(self._nodes, "branch", [], [result]))
            self._nodes = outer
        return self.op("If", condition, then_branch=branches[0], else_branch=branches[1])

    def each(self, times: str, make: Callable[[str], str]) -> str:
        """What is made of 0, 1, 2 … , computed one after the other, stacked on a new first axis; all of one shape."""
        name = f"{self._scope}each_{next(self._numbers)}"
        count, go, on = (f"{name}/{part}" for part in ("count", "go", "on"))
        outer, self._nodes = self._nodes, []
        result = make(count)
        self._nodes.append(helper.make_node("Identity", [go], [on], name=on))
        inputs = [
            helper.make_tensor_value_info(count, TensorProto.INT64, []),
            helper.make_tensor_value_info(go, TensorProto.BOOL, []),
        ]
        outputs = [helper.make_tensor_value_info(on, TensorProto.BOOL, []), ValueInfoProto(name=result)]
        body, self._nodes = helper.make_graph(self._nodes, "body", inputs, outputs), outer
        return self.op("Loop", times, "", body=body)

    def constant(self, value: Any, dtype: Any) -> str:
        """A small constant; equal ones are one."""
        array: Array = np.asarray(value, dtype=dtype)
        return self.weight(numpy_helper.from_array(array, f"constant/{array.dtype}/{array.tolist()}"))

    def weight(self, tensor: TensorProto) -> str:
        """An initializer."""
        self._initializers[tensor.name] = tensor
        return tensor.name

    def dimension(self, value: str, axis: int) -> str:
        """How long an axis is, as a scalar int64."""
        shape = self.op("Shape", value, start=axis, end=axis + 1)
        return self.op("Squeeze", shape)

    def result(self, value: str, name: str) -> None:
        """A value that leaves the graph under this name."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=name))

    def model(self, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto], opset: int) -> ModelProto:
        """The whole, checked by nothing yet."""
        graph = helper.make_graph(self._nodes, "penstock", inputs, outputs, list(self._initializers.values()))
        contrib = any(node.domain == CONTRIB for node in self._nodes)
        opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(CONTRIB, 1)] if contrib else [])]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="penstock", producer_version=__version__
        )
