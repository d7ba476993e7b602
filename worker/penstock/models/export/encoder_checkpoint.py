"""A checkpoint of BERT's family: its tensors by one set of names, whichever class wrote them."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from penstock.core.errors import Misconfigured
from penstock.models.export.checkpoint import Array, Tensors
from penstock.models.export.config import CONFIG
from penstock.models.export.encoder_config import EncoderConfig, read_encoder_config

WORDS, POSITIONS, TYPES = (f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type"))
"""Tables of which a token's embedding is the sum."""

OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
"""Those of checkpoints that were first made with TensorFlow."""

UNUSED = ("pooler.", "cls.", "lm_head.", "embeddings.position_ids", "embeddings.token_type_ids")
"""Heads of the training before, and counters: what no vector and no logit is made of, unless the head says so."""

Shapes = Mapping[str, tuple[int, ...]]


class ScoreHead(NamedTuple):
    """Of a sequence classifier: out(tanh(dense(the first token's last state)))."""

    dense: str
    out: str

    def tensors(self, hidden: int) -> Shapes:
        """Name and shape of each, with one label."""
        return {
            f"{self.dense}.weight": (hidden, hidden),
            f"{self.dense}.bias": (hidden,),
            f"{self.out}.weight": (1, hidden),
            f"{self.out}.bias": (1,),
        }


HEADS = {
    "bert.": ScoreHead("pooler.dense", "classifier"),
    "roberta.": ScoreHead("classifier.dense", "classifier.out_proj"),
}
"""By the prefix of the body: BERT's pooler is a part of that."""


class EncoderCheckpoint(Tensors):
    """By names without the prefix ``bert.`` or ``roberta.``; both forms are in use."""

    def __init__(self, folder: Path) -> None:
        """As of Tensors, and for a config that is none of these encoders."""
        self.config: EncoderConfig = read_encoder_config(folder)
        super().__init__(folder, lambda raw: _plain(raw.removeprefix(self.config.prefix)))

    def behind(self, part: str) -> Array | None:  # noqa: ARG002  # those that are balanced look at it
        """What the result of a part's norm has to be multiplied with before it is added: nothing here."""
        return None

    @property
    def head(self) -> ScoreHead:
        """Where a classifier of this family has its matrices."""
        return HEADS[self.config.prefix]

    @property
    def labels(self) -> int:
        """The classes of a sequence classifier; 0 for other checkpoints."""
        name = f"{self.head.out}.weight"
        return self.shape(name)[0] if name in self else 0

    def require_sound(self) -> None:
        """Raises Misconfigured for tensors that are missing, of another shape, or a part that we do not know."""
        body = tensors(self.config)
        self.require(body)
        if self.labels > 1:
            raise Misconfigured(
                f"{self.folder / CONFIG}: a classifier of {self.labels} labels is no reranker; only one with a single "
                "label is: train the head with num_labels = 1"
            )
        known = dict(body)
        if self.labels:
            known |= self.head.tensors(self.config.hidden_size)
            self.require(known)
        unknown = {name for name in self.names - known.keys() if not name.startswith(UNUSED)}
        if unknown:
            raise Misconfigured(
                f"{self.folder}: unknown tensors, such as {min(unknown)}: this is no plain {self.config.model_type}"
            )


def tensors(config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the body."""
    hidden, inner = config.hidden_size, config.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        WORDS: (config.vocab_size, hidden),
        POSITIONS: (config.max_position_embeddings, hidden),
        TYPES: (config.type_vocab_size, hidden),
        **_norm("embeddings", hidden),
    }
    layer = {
        **_linear("attention.self.query", hidden, hidden),
        **_linear("attention.self.key", hidden, hidden),
        **_linear("attention.self.value", hidden, hidden),
        **_linear("attention.output.dense", hidden, hidden),
        **_norm("attention.output", hidden),
        **_linear("intermediate.dense", inner, hidden),
        **_linear("output.dense", hidden, inner),
        **_norm("output", hidden),
    }
    for index in range(config.num_hidden_layers):
        shapes |= {f"encoder.layer.{index}.{name}": shape for name, shape in layer.items()}
    return shapes


def _linear(name: str, rows: int, columns: int) -> Shapes:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.LayerNorm.{part}": (width,) for part in ("weight", "bias")}


def _plain(name: str) -> str:
    for old, new in OLD_NAMES.items():
        name = name.removesuffix(old) + new if name.endswith(old) else name
    return name
