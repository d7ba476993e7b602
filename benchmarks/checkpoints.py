"""Checkpoints of the full Qwen3 architectures with random weights: as large, and as fast, as the real ones."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from penstock.models.export.config import Config
from penstock.models.export.decoder import tensors
from tests.checkpoints import tokenizer

VOCABULARY = 151_669
VOCABULARIES = {"tiny": 512, "mini": 16_000}
LONGEST = 32_768


@dataclass(frozen=True, slots=True)
class Size:
    """Of a published model: layers, hidden and inner width, query and key heads of 128."""

    layers: int
    hidden: int
    inner: int
    heads: int
    key_heads: int = 8


SIZES = {
    "0.6B": Size(28, 1024, 3072, 16),
    "4B": Size(36, 2560, 9728, 32),
    "8B": Size(36, 4096, 12288, 32),
    "tiny": Size(2, 256, 512, 2, 1),
    "mini": Size(4, 256, 768, 2, 1),
}
"""``tiny`` and ``mini`` are no published ones: for trying the scripts, and as large as a demonstration model."""


def write(folder: Path, name: str, *, ends: bool = True) -> Path:
    """A tied bf16 checkpoint, one file per layer; weights are normal with deviation 0.02, as before training."""
    size = SIZES[name]
    values = {
        "hidden_size": size.hidden,
        "intermediate_size": size.inner,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.key_heads,
        "head_dim": 128,
        "vocab_size": VOCABULARIES.get(name, VOCABULARY),
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "max_position_embeddings": LONGEST,
        "tie_word_embeddings": True,
    }
    folder.mkdir(parents=True)
    fixed = {
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "hidden_act": "silu",
        "dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(values | fixed))
    places: dict[str, str] = {}
    for number, part in enumerate(_parts(Config.model_validate(values))):
        file = f"model-{number:05}.safetensors"
        save_file({f"model.{key}": tensor for key, tensor in part.items()}, folder / file, metadata={"format": "pt"})
        places |= {f"model.{key}": file for key in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    tokenizer(folder / "tokenizer.json", ends=ends)
    return folder


def _parts(config: Config) -> Iterator[dict[str, np.ndarray]]:
    """A layer at a time."""
    random = np.random.default_rng(0)
    groups: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in tensors(config).items():
        groups.setdefault(name.rsplit(".", 3)[0] if name.startswith("layers.") else name, {})[name] = shape
    for group in groups.values():
        part = {}
        for name, shape in group.items():
            values = random.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
            values = np.ones(shape, np.float32) if "norm" in name else values
            part[name] = values.astype(ml_dtypes.bfloat16)
        yield part
