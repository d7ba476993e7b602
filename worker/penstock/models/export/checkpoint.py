"""A checkpoint on disk: its tensors, one at a time."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from penstock.core.errors import Misconfigured
from penstock.models.export.config import CONFIG, read_config, read_json

Array = npt.NDArray[Any]

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
HEAD_GAIN = "layers.0.self_attn.q_norm.weight"
"""As long as a head; a config may leave that out, and versions of transformers differ in what they assume then."""

BLOCK_ROWS = 8192
"""Rows of the embedding table that are in memory at a time."""

DTYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}


class Tensors:
    """The tensors of a folder, by names that do not depend on what wrote them."""

    def __init__(self, folder: Path, plain: Callable[[str], str]) -> None:
        """``plain`` makes such a name of one in a file; raises Misconfigured when a shard is missing or damaged."""
        self.folder = folder
        self._handles = {name: _open(folder / name) for name in _shards(folder)}
        self._places = {
            plain(raw): (handle, raw)
            for handle in self._handles.values()
            for raw in handle.keys()  # noqa: SIM118  # no mapping
        }

    def __contains__(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return name in self._places

    @property
    def names(self) -> set[str]:
        """Of all tensors."""
        return set(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape; raises Misconfigured when it is missing, or of a type that we cannot read."""
        part = self._slice(name)
        if part.get_dtype() not in DTYPES:
            raise Misconfigured(f"{self.folder}: {name} is {part.get_dtype()}; only {', '.join(DTYPES)} are supported")
        return tuple(part.get_shape())

    def require(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raises Misconfigured that names the tensors that are missing or have another shape."""
        if missing := [name for name in shapes if name not in self]:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""  # noqa: PLR2004  # enough to see
            raise Misconfigured(f"{self.folder}: no tensors {', '.join(missing[:3])}{more}")
        for name, shape in shapes.items():
            if self.shape(name) != shape:
                raise Misconfigured(f"{self.folder}: {name} has shape {self.shape(name)}, the config says {shape}")

    def read(self, name: str) -> Array:
        """A whole tensor in its own type; raises Misconfigured for numbers that are not finite."""
        return self._finite(name, self._slice(name)[:])

    def blocks(self, name: str) -> Iterator[Array]:
        """The tensor in blocks of rows."""
        part = self._slice(name)
        rows = self.shape(name)[0]
        for start in range(0, rows, BLOCK_ROWS):
            yield self._finite(name, part[start : min(rows, start + BLOCK_ROWS)])

    def row(self, name: str, index: int) -> Array:
        """One row of a matrix."""
        rows = self._finite(name, self._slice(name)[index : index + 1])
        return np.asarray(rows[0])

    def _slice(self, name: str) -> Any:
        if name not in self:
            raise Misconfigured(f"{self.folder}: there is no tensor {name}")
        handle, raw = self._places[name]
        return handle.get_slice(raw)

    def _finite(self, name: str, values: Array) -> Array:
        if not np.isfinite(values.astype(np.float32)).all():
            raise Misconfigured(f"{self.folder}: {name} holds numbers that are not finite; the checkpoint is damaged")
        return values


class Checkpoint(Tensors):
    """Of Qwen3, by names without the prefix ``model.``; both forms are in use."""

    def __init__(self, folder: Path) -> None:
        """As of Tensors, and for a config that is none of Qwen3."""
        self.config = read_config(folder)
        super().__init__(folder, lambda raw: raw.removeprefix("model."))
        if read_json(folder / CONFIG).get("head_dim") is None and HEAD_GAIN in self:
            self.config = self.config.model_copy(update={"head_dim": self.shape(HEAD_GAIN)[0]})


def _shards(folder: Path) -> list[str]:
    if (folder / INDEX).is_file():
        names = sorted(set(read_json(folder / INDEX).get("weight_map", {}).values()))
    else:
        names = [SINGLE]
    for name in names:
        if not (folder / name).is_file():
            raise Misconfigured(f"{folder / name} is missing")
    return names


def _open(path: Path) -> Any:
    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise Misconfigured(f"{path} is damaged: {error}; download it again") from None
