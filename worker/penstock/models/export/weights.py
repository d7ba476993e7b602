"""Weights as external data of ONNX graphs: streamed, in the type and layout that a dialect multiplies with."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from onnx import TensorProto

from penstock.core.errors import Misconfigured
from penstock.models.export.checkpoint import Array, Checkpoint

ALIGNMENT = 4096
"""Offsets that can be mapped into memory."""

TYPES = {
    "fp32": (TensorProto.FLOAT, np.dtype(np.float32)),
    "fp16": (TensorProto.FLOAT16, np.dtype(np.float16)),
    "bf16": (TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16)),
    "int8": (TensorProto.INT8, np.dtype(np.int8)),
    "int7": (TensorProto.INT8, np.dtype(np.int8)),
}

IN_BYTES = {"int8": 127, "int7": 63}
"""Precisions whose matrices are bytes, and their largest magnitude. Processors without VNNI add two products of an
unsigned and a signed byte in 16 bits, which 2 * 255 * 127 would leave and 2 * 255 * 63 does not."""

Advance = Callable[[int], None]


class Weights:
    """One file of weights, shared by the graphs of one precision.

    A tensor is written when a graph first asks for it, and only referred to after that. In memory is one matrix at a
    time, in a few copies. ``advance`` hears how many parameters were written.
    """

    def __init__(self, checkpoint: Checkpoint, path: Path, precision: str, advance: Advance) -> None:
        """``precision`` is that of the matrices: fp32, fp16, bf16, int8 or int7."""
        self._checkpoint = checkpoint
        self._path = path
        self._precision = precision
        self._advance = advance
        self._written: dict[str, TensorProto] = {}
        self._file = path.open("wb")

    def close(self) -> None:
        """All is written."""
        self._file.close()

    def linear(self, names: Sequence[str], label: str) -> list[TensorProto]:
        """Matrices ``[out, in]`` side by side as one ``[in, sum of out]``; of bytes also its scales ``[sum of out]``.

        Per output channel: scale = largest magnitude / 127, or / 63.
        """
        if label in self._written:
            return [self._written[key] for key in (label, f"{label}.scale") if key in self._written]
        matrix = np.concatenate([self._checkpoint.read(name) for name in names])
        self._advance(matrix.size)
        if self._precision not in IN_BYTES:
            return [self._write(label, self._precision, matrix.T.shape, [self._cast(label, matrix).T])]
        quantized, scale = quantize_rows(matrix, IN_BYTES[self._precision])
        return [
            self._write(label, "int8", quantized.T.shape, [quantized.T]),
            self._write(f"{label}.scale", "fp32", scale.shape, [scale]),
        ]

    def table(self, name: str) -> list[TensorProto]:
        """The embedding table ``[vocabulary, hidden]``; of bytes also a scale per row, ``[vocabulary, 1]``.

        Nothing is multiplied with it, so its bytes have all their 8 bits.
        """
        shape = self._checkpoint.shape(name)
        if name in self._written:
            return [self._written[key] for key in (name, f"{name}.scale") if key in self._written]
        if self._precision not in IN_BYTES:
            cast = (self._cast(name, block) for block in self._blocks(name))
            return [self._write(name, self._precision, shape, cast)]
        scales: list[Array] = []

        def quantized() -> Iterator[Array]:
            for block in self._blocks(name):
                values, scale = quantize_rows(block)
                scales.append(scale)
                yield values

        table = self._write(name, "int8", shape, quantized())
        return [table, self._write(f"{name}.scale", "fp32", (shape[0], 1), scales)]

    def _blocks(self, name: str) -> Iterator[Array]:
        for block in self._checkpoint.blocks(name):
            self._advance(block.size)
            yield block

    def _cast(self, name: str, values: Array) -> Array:
        return cast(name, values, self._precision)

    def _write(self, name: str, precision: str, shape: tuple[int, ...], blocks: Iterable[Array]) -> TensorProto:
        kind, dtype = TYPES[precision]
        self._file.write(b"\0" * (-self._file.tell() % ALIGNMENT))
        offset = self._file.tell()
        for block in blocks:
            np.ascontiguousarray(block, dtype=dtype).tofile(self._file)
        length = math.prod(shape) * dtype.itemsize
        tensor = TensorProto(name=name, data_type=kind, dims=shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", self._path.name), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))
        self._written[name] = tensor
        return tensor


def quantize_rows(matrix: Array, largest: int = IN_BYTES["int8"]) -> tuple[Array, Array]:
    """``[rows, n]`` to int8 and a scale per row, symmetric: value = int8 * scale, and the ``largest`` is reached."""
    values = matrix.astype(np.float32)
    scale = np.abs(values).max(axis=1) / largest
    scale[scale == 0] = 1
    return np.rint(values / scale[:, None]).astype(np.int8), scale.astype(np.float32)


def cast(name: str, values: Array, precision: str) -> Array:
    """Raises Misconfigured where a number is too large for the type."""
    dtype: np.dtype[Any] = TYPES[precision][1]
    if precision == "fp16" and np.abs(values.astype(np.float32)).max() > np.finfo(np.float16).max:
        raise Misconfigured(f"{name} holds numbers that fp16 cannot; use bf16")
    return values.astype(dtype)
