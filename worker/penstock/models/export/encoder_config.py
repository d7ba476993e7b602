"""What the ``config.json`` of an encoder of BERT's family asks for, and whether our graphs compute that."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from penstock.core.errors import Misconfigured
from penstock.models.export import foreign
from penstock.models.export.config import CONFIG, WITHOUT_EFFECT, parse, read_json, refuse_other

PREFIXES = {"bert": "bert.", "roberta": "roberta.", "xlm-roberta": "roberta."}
"""What is before the names of a body's tensors where a head is beside it, by ``model_type``."""

FIXED: Mapping[str, object] = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "pruned_heads": {},
}
"""What our graphs take for granted; another value is another model."""

CLASSES = ("Model", "ForSequenceClassification", "ForMaskedLM", "ForPreTraining")
ARCHITECTURES = {family + kind for family in ("Bert", "Roberta", "XLMRoberta") for kind in CLASSES}
"""Those with the same body, whose heads we know or may leave out."""

OF_ENCODERS = {
    "attention_probs_dropout_prob", "hidden_dropout_prob", "directionality", "output_past", "pooler_fc_size",
    "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type",
}  # fmt: skip
"""Keys that do not change what an encoder computes from token ids."""


class EncoderConfig(BaseModel):
    """The numbers of ``config.json`` that shape the graph."""

    model_config = ConfigDict(frozen=True)

    model_type: str
    hidden_size: int = Field(ge=1)
    intermediate_size: int = Field(ge=1)
    num_hidden_layers: int = Field(ge=1)
    num_attention_heads: int = Field(ge=1)
    vocab_size: int = Field(ge=1)
    max_position_embeddings: int = Field(ge=8)
    type_vocab_size: int = Field(ge=1)
    layer_norm_eps: float = Field(gt=0)
    pad_token_id: int = Field(default=0, ge=0)

    @property
    def head_dim(self) -> int:
        """Numbers in a head of a token."""
        return self.hidden_size // self.num_attention_heads

    @property
    def prefix(self) -> str:
        """Of the names of the body's tensors."""
        return PREFIXES[self.model_type]

    @property
    def first_position(self) -> int:
        """The row of a text's first token in the table of positions; RoBERTa counts from behind the padding's id."""
        return 0 if self.model_type == "bert" else self.pad_token_id + 1

    @property
    def longest(self) -> int:
        """Tokens that have a position."""
        return self.max_position_embeddings - self.first_position


def read_encoder_config(folder: Path) -> EncoderConfig:
    """Raises Misconfigured for a config of another model, or that asks for what our graphs do not do."""
    path = folder / CONFIG
    raw = {key: value for key, value in read_json(path).items() if value is not None}
    foreign.refuse_config(path, raw)
    if raw.get("model_type") not in PREFIXES:
        raise Misconfigured(f"{path}: model_type = {raw.get('model_type')!r} is none of {', '.join(PREFIXES)}")
    if other := sorted(set(raw.get("architectures") or ()) - ARCHITECTURES):
        raise Misconfigured(
            f"{path}: the architecture {', '.join(other)} is none of {', '.join(sorted(ARCHITECTURES))}"
        )
    refuse_other(path, raw, FIXED, WITHOUT_EFFECT | OF_ENCODERS | set(EncoderConfig.model_fields))
    config = parse(path, raw, EncoderConfig)
    if config.hidden_size % config.num_attention_heads:
        raise Misconfigured(f"{path}: num_attention_heads = {config.num_attention_heads} does not divide hidden_size")
    return config
