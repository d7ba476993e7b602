"""Outlier channels of an encoder, made small before they become bytes; see ``balance.py`` for a decoder's.

Behind a norm stands the sum that comes next, too, not only matrices: what matrices read is the norm's result in other
proportions, and one multiplication per norm restores it for that sum (arXiv 2209.13325). Values cost nothing.
"""

from pathlib import Path

import numpy as np
from typing_extensions import override

from penstock.models.export.balance import factor
from penstock.models.export.checkpoint import Array
from penstock.models.export.encoder_checkpoint import EncoderCheckpoint

EMBEDDINGS = "embeddings"
VALUE, MIXED = "attention.self.value", "attention.output"
READERS = {MIXED: ("intermediate.dense",), "output": ("attention.self.query", "attention.self.key", VALUE)}
"""What reads the result of a norm: in the same layer, or in the next one."""


class BalancedEncoder(EncoderCheckpoint):
    """The same model with other tensors: sqrt(|activation| * |weight|) on both sides of every quantized product."""

    def __init__(self, folder: Path) -> None:
        """As a checkpoint."""
        super().__init__(folder)
        self._factors: dict[str, Array] = {}

    @override
    def behind(self, part: str) -> Array | None:
        readers = self._readers(part)
        if not readers:
            return None
        if part not in self._factors:
            largest = np.max([self._largest(f"{name}.weight") for name in readers], axis=0)
            self._factors[part] = factor(self._size(part), largest)
        return self._factors[part]

    @override
    def read(self, name: str) -> Array:
        """As in EncoderCheckpoint, in fp32."""
        values = super().read(name)
        part, _, kind = name.rpartition(".")
        if not part.startswith(("encoder.", EMBEDDINGS)) or part.endswith("_embeddings"):
            return values
        values = values.astype(np.float32)
        if part.endswith(".LayerNorm"):
            behind = self.behind(part.removesuffix(".LayerNorm"))
            return values if behind is None else np.asarray(values / behind)
        layer = ".".join(part.split(".")[:3])
        if part == f"{layer}.{MIXED}.dense" and kind == "weight":
            return np.asarray(values * self._of_values(layer))
        behind = self.behind(norm) if (norm := self._norm_before(part)) else None
        if kind == "weight" and behind is not None:
            values = values * behind
        if part == f"{layer}.{VALUE}":
            factors = self._of_values(layer)
            values = values / (factors[:, None] if kind == "weight" else factors)
        return np.asarray(values)

    def _readers(self, part: str) -> list[str]:
        """The matrices that read what this part's norm writes."""
        if part == EMBEDDINGS:
            return [f"encoder.layer.0.{name}" for name in READERS["output"]]
        layer, index = part.split(".")[:3], int(part.split(".")[2])
        inner = part.removeprefix(".".join(layer) + ".")
        following = index if inner == MIXED else index + 1
        if following == self.config.num_hidden_layers:
            return []
        return [f"encoder.layer.{following}.{name}" for name in READERS[inner]]

    def _norm_before(self, part: str) -> str:
        """The part whose norm a matrix reads; "" where it reads something else."""
        index, inner = int(part.split(".")[2]), part.split(".", 3)[3]
        if inner in READERS[MIXED]:
            return f"encoder.layer.{index}.{MIXED}"
        if inner in READERS["output"]:
            return f"encoder.layer.{index - 1}.output" if index else EMBEDDINGS
        return ""

    def _of_values(self, layer: str) -> Array:
        """``[hidden]``: how large a value is, over the largest weight that meets it."""
        label = f"{layer}.{MIXED}.dense.weight"
        if label not in self._factors:
            gained = super().read(f"{layer}.{VALUE}.weight").astype(np.float32) * self._size(
                self._norm_before(f"{layer}.{VALUE}")
            )
            size = np.sqrt(np.square(gained).sum(axis=1) + np.square(self._exact(f"{layer}.{VALUE}.bias")))
            self._factors[label] = factor(size, self._largest(label))
        return self._factors[label]

    def _size(self, part: str) -> Array:
        """``[hidden]``: the root mean square of what a norm writes."""
        gain, bias = (self._exact(f"{part}.LayerNorm.{kind}") for kind in ("weight", "bias"))
        return np.asarray(np.sqrt(np.square(gain) + np.square(bias)))

    def _largest(self, name: str) -> Array:
        return np.asarray(np.abs(self._exact(name)).max(axis=0))

    def _exact(self, name: str) -> Array:
        return super().read(name).astype(np.float32)
