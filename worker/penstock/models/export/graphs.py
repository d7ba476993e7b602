"""A bundle's graphs, of whatever family: one file per graph, and one of weights for those that share their matrices."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from onnx import ModelProto, checker, shape_inference

from penstock.models.bundle import Graph
from penstock.models.export.checkpoint import Tensors
from penstock.models.export.gate import Progress
from penstock.models.export.weights import Weights

Source = TypeVar("Source", bound=Tensors)


@dataclass(frozen=True, slots=True)
class Prepared(Generic[Source]):
    """What a precision is made of, which of its matrices stay in fp32, and the worst cosine that is left."""

    checkpoint: Source
    exact: tuple[str, ...] = ()
    worst_probe: float | None = None


@dataclass(frozen=True, slots=True)
class Family(Generic[Source]):
    """How a model's graphs are made.

    ``prepare`` is called once for each precision, ``build`` for each dialect and precision. ``parameters`` are those of
    all tensors.
    """

    parameters: int
    prepare: Callable[[str], Prepared[Source]]
    build: Callable[[Source, Weights, str, str], ModelProto]


def write_graphs(
    family: Family[Source], made: Path, graphs: Sequence[tuple[str, str]], progress: Progress
) -> tuple[Graph, ...]:
    """Write the graphs, each a dialect and a precision, into the folder ``made``."""
    listed = []
    files: dict[str, Weights] = {}
    prepared: dict[str, Prepared[Source]] = {}
    with ExitStack() as opened:
        for dialect, precision in graphs:
            label = f"cpu-{precision}" if dialect == "cpu" else f"gpu-{precision}"
            if label not in prepared:
                prepared[label] = family.prepare(precision)
            ready = prepared[label]
            with progress(f"{dialect} {precision}", 0 if label in files else family.parameters) as advance:
                if label not in files:
                    weights = Weights(ready.checkpoint, made / f"{label}.weights", precision, advance, ready.exact)
                    files[label] = opened.enter_context(closing(weights))
                model = family.build(ready.checkpoint, files[label], dialect, precision)
            listed.append(
                Graph(
                    dialect=dialect,
                    precision=precision,
                    file=f"{dialect}-{precision}.onnx",
                    output=model.graph.output[0].name,
                    exact=ready.exact,
                    worst_probe=ready.worst_probe,
                )
            )
            (made / listed[-1].file).write_bytes(_checked(model, dialect).SerializeToString())
    for graph in listed:
        if graph.dialect != "cuda":  # ONNX does not know all of its operators; ONNX Runtime checks them when it loads
            checker.check_model(str(made / graph.file))
    return tuple(listed)


def _checked(model: ModelProto, dialect: str) -> ModelProto:
    """With every shape inferred where TensorRT reads it: a value without one would split the engine."""
    if dialect != "tensorrt":
        return model
    return shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
