"""A Qwen3 checkpoint on disk: its config, and its tensors one at a time."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from penstock.core.errors import Misconfigured

Array = npt.NDArray[Any]

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
BLOCK_ROWS = 8192
"""Rows of the embedding table that are in memory at a time."""

FIXED: Mapping[str, object] = {
    "model_type": "qwen3",
    "hidden_act": "silu",
    "attention_bias": False,
    "use_sliding_window": False,
    "sliding_window": None,
    "rope_scaling": None,
    "quantization_config": None,
    "layer_types": None,
}
"""What our graphs take for granted; another value is another model."""

WITHOUT_EFFECT = {
    "architectures", "attention_dropout", "bos_token_id", "eos_token_id", "pad_token_id", "initializer_range",
    "max_window_layers", "torch_dtype", "dtype", "transformers_version", "use_cache", "_name_or_path", "id2label",
    "label2id", "num_labels", "problem_type", "classifier_from_token", "classifier_dropout",
    "classifier_method", "sentence_transformers", "unsloth_version", "unsloth_fixed", "auto_map", "output_attentions",
    "output_hidden_states", "return_dict", "tokenizer_class",
}  # fmt: skip
"""Keys that do not change what the model computes from token ids."""

DTYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}


class Config(BaseModel):
    """The numbers of ``config.json`` that shape the graph."""

    model_config = ConfigDict(frozen=True)

    hidden_size: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    num_key_value_heads: int = Field(ge=1)
    head_dim: int = Field(ge=2)
    vocab_size: int = Field(ge=1)
    rms_norm_eps: float = Field(gt=0)
    rope_theta: float = Field(gt=0)
    max_position_embeddings: int = Field(ge=8)
    tie_word_embeddings: bool

    @property
    def query_width(self) -> int:
        """Numbers in all query heads of a token."""
        return self.num_attention_heads * self.head_dim

    @property
    def key_width(self) -> int:
        """Numbers in all key heads of a token; the value heads have as many."""
        return self.num_key_value_heads * self.head_dim


def read_config(folder: Path) -> Config:
    """Raises Misconfigured for a config that is not one of Qwen3, or that asks for what our graphs do not do."""
    raw = _normal(read_json(folder / CONFIG))
    for key, allowed in FIXED.items():
        if raw.get(key, allowed) != allowed:
            raise Misconfigured(f"{folder / CONFIG}: {key} = {raw[key]!r} is not supported, only {allowed!r}")
    unknown = set(raw) - set(FIXED) - WITHOUT_EFFECT - set(Config.model_fields)
    if unknown:
        names = ", ".join(sorted(unknown))
        raise Misconfigured(
            f"{folder / CONFIG}: unknown keys {names}: they may change what the model computes. If they do not, "
            "remove them from a copy of the checkpoint, and export that"
        )
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise Misconfigured(f"{folder / CONFIG}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None
    if config.num_attention_heads % config.num_key_value_heads or config.head_dim % 2:
        raise Misconfigured(f"{folder / CONFIG}: the numbers of heads, or head_dim, do not divide")
    return config


def _normal(raw: dict[str, Any]) -> dict[str, Any]:
    """What the versions of transformers write in several ways, in one: None or nothing for what is not used."""
    rope = raw.pop("rope_parameters", None)
    if _plain(rope) and set(rope) <= {"rope_theta", "rope_type"}:
        raw["rope_theta"] = rope.get("rope_theta", raw.get("rope_theta"))
    elif rope is not None:
        raw["rope_scaling"] = rope
    if _plain(raw.get("rope_scaling")):
        del raw["rope_scaling"]
    if not raw.get("use_sliding_window"):
        raw.pop("sliding_window", None)
    if raw.get("layer_types") == ["full_attention"] * int(raw.get("num_hidden_layers") or 0):
        del raw["layer_types"]
    return raw


def _plain(rope: object) -> bool:
    """Whether positions are turned as they are, not stretched."""
    return isinstance(rope, dict) and rope.get("rope_type", rope.get("type", "default")) == "default"


class Checkpoint:
    """The tensors of a folder, by their name without the prefix ``model.``; both forms are in use."""

    def __init__(self, folder: Path) -> None:
        """Raises Misconfigured when a shard is missing or damaged."""
        self.folder = folder
        self.config = read_config(folder)
        self._handles = {name: _open(folder / name) for name in _shards(folder)}
        self._places = {
            raw.removeprefix("model."): (handle, raw)
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


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raises Misconfigured."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise Misconfigured(f"{path} is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise Misconfigured(f"{path} is no JSON object")
    return content


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
