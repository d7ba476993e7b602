"""Weights as external data of ONNX graphs: streamed, in the type and layout that a dialect multiplies with."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from onnx import TensorProto

from penstock.core.errors import Misconfigured
from penstock.models.export.checkpoint import Array, Tensors

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

TABLE = "fp16"
"""Of the embedding table beside bytes; bf16 values of its size are fp16 values, too."""

Advance = Callable[[int], None]


class Weights:
    """One file of weights, shared by the graphs of one precision.

    A tensor is written when a graph first asks for it, and only referred to after that. In memory is one matrix at a
    time, in a few copies. ``advance`` hears how many parameters were written.
    """

    def __init__(
        self, checkpoint: Tensors, path: Path, precision: str, advance: Advance, exact: Collection[str] = ()
    ) -> None:
        """``precision`` is that of the matrices: fp32, fp16, bf16, int8 or int7; those ``exact`` stay in fp32."""
        self._exact = frozenset(exact)
        self.checkpoint = checkpoint
        self._path = path
        self._precision = precision
        self._advance = advance
        self._written: dict[str, TensorProto] = {}
        self._file = path.open("wb")

    def close(self) -> None:
        """All is written."""
        self._file.close()

    def linear(self, names: Sequence[str], label: str, exact: str = "fp32") -> list[TensorProto]:
        """Matrices ``[out, in]`` side by side as one ``[in, sum of out]``; of bytes also its scales ``[sum of out]``.

        Those that stay ``exact``, in fp32 or fp16, have none. Per output channel: scale = largest / 127, or 63.
        """
        if label in self._written:
            return [self._written[key] for key in (label, f"{label}.scale") if key in self._written]
        matrix = np.concatenate([self.checkpoint.read(name) for name in names])
        self._advance(matrix.size)
        precision = exact if self._exact & set(names) else self._precision
        if precision not in IN_BYTES:
            return [self._write(label, precision, matrix.T.shape, [cast(label, matrix, precision).T])]
        quantized, scale = quantize_rows(matrix, IN_BYTES[self._precision])
        return [
            self._write(label, "int8", quantized.T.shape, [quantized.T]),
            self._write(f"{label}.scale", "fp32", scale.shape, [scale]),
        ]

    def table(self, name: str) -> TensorProto:
        """The embedding table ``[vocabulary, hidden]``; beside bytes in fp16.

        Nothing is multiplied with it, so bytes would save memory and no time, and what they round away is in every
        layer after it.
        """
        if name not in self._written:
            precision = TABLE if self._precision in IN_BYTES else self._precision
            shape = self.checkpoint.shape(name)
            self._write(name, precision, shape, (cast(name, block, precision) for block in self._blocks(name)))
        return self._written[name]

    def byte_table(self, name: str) -> tuple[TensorProto, TensorProto]:
        """The embedding table in bytes, and a scale per row, ``[vocabulary, 1]``: for models that are mostly table."""
        label = f"{name}.scale"
        if name not in self._written:
            scales: list[Array] = []

            def rows() -> Iterator[Array]:
                for block in self._blocks(name):
                    quantized, scale = quantize_rows(block)
                    scales.append(scale)
                    yield quantized

            shape = self.checkpoint.shape(name)
            self._write(name, "int8", shape, rows())
            self._write(label, "fp32", (shape[0], 1), scales)
        return self._written[name], self._written[label]

    def _blocks(self, name: str) -> Iterator[Array]:
        for block in self.checkpoint.blocks(name):
            self._advance(block.size)
            yield block

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
