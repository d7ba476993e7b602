"""What a Qwen3 checkpoint's ``config.json`` asks for, and whether our graphs compute that."""

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from penstock.core.errors import Misconfigured
from penstock.models.export import foreign

CONFIG = "config.json"

Parsed = TypeVar("Parsed", bound=BaseModel)

FIXED: Mapping[str, object] = {
    "model_type": "qwen3",
    "hidden_act": "silu",
    "attention_bias": False,
    "use_sliding_window": False,
    "sliding_window": None,
    "rope_scaling": None,
    "layer_types": None,
    "is_causal": True,
    "use_bidirectional_attention": False,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "pruned_heads": {},
}
"""What our graphs take for granted; another value is another model."""

ARCHITECTURES = ("Qwen3ForCausalLM", "Qwen3Model", "Qwen3ForSequenceClassification")
"""Causal all of them, with the same body; others of this model_type attend in another way, or have other parts."""

WITHOUT_EFFECT = {
    "architectures", "auto_map", "quantization_config", "quantization", "compression_config",  # looked at elsewhere
    "attention_dropout", "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "initializer_range",
    "max_window_layers", "torch_dtype", "dtype", "transformers_version", "use_cache", "name_or_path", "_name_or_path",
    "_commit_hash", "id2label", "label2id", "num_labels", "problem_type", "classifier_from_token",
    "classifier_dropout", "classifier_method", "sentence_transformers", "unsloth_version", "unsloth_fixed",
    "output_attentions", "output_hidden_states", "return_dict", "use_return_dict", "tokenizer_class", "torchscript",
    "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal", "attn_implementation",
    "_experts_implementation", "_output_attentions", "chunk_size_feed_forward", "is_decoder", "tie_encoder_decoder",
    "cross_attention_hidden_size", "finetuning_task", "task_specific_params", "prefix", "decoder_start_token_id",
    "tf_legacy_loss", "use_bfloat16", "base_model_tp_plan", "base_model_pp_plan", "pretraining_tp",
    "gradient_checkpointing", "transformers.js_config",
    # how text would be generated
    "max_length", "min_length", "max_new_tokens", "do_sample", "early_stopping", "num_beams", "temperature", "top_k",
    "top_p", "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "output_scores",
    "return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values",
    "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens", "num_beam_groups",
    "diversity_penalty",
}  # fmt: skip
"""Keys that do not change what the model computes from token ids."""


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
    """Raises Misconfigured for a config that is not one of Qwen3, or that asks for what our graphs do not do.

    Without a ``head_dim`` the heads share the hidden state; what the tensors say counts more, see Checkpoint.
    """
    path = folder / CONFIG
    raw = _normal(read_json(path))
    foreign.refuse_config(path, raw)
    if other := sorted(set(raw.get("architectures") or ()) - set(ARCHITECTURES)):
        raise Misconfigured(
            f"{path}: the architecture {', '.join(other)} is no plain Qwen3, only {', '.join(ARCHITECTURES)}"
        )
    refuse_other(path, raw, FIXED, WITHOUT_EFFECT | set(Config.model_fields))
    config = parse(path, raw, Config)
    if config.num_attention_heads % config.num_key_value_heads or config.head_dim % 2:
        raise Misconfigured(f"{path}: the numbers of heads, or head_dim, do not divide")
    return config


def refuse_other(path: Path, raw: Mapping[str, object], fixed: Mapping[str, object], known: AbstractSet[str]) -> None:
    """Raises Misconfigured where a key has another value than the ``fixed``, or is neither of those nor ``known``."""
    for key, allowed in fixed.items():
        if raw.get(key, allowed) != allowed:
            raise Misconfigured(f"{path}: {key} = {raw[key]!r} is not supported, only {allowed!r}")
    if unknown := raw.keys() - fixed.keys() - known:
        names = ", ".join(sorted(unknown))
        raise Misconfigured(
            f"{path}: unknown keys {names}: they may change what the model computes. If they do not, remove them from "
            "a copy of the checkpoint, and export that"
        )


def parse(path: Path, raw: Mapping[str, object], kind: type[Parsed]) -> Parsed:
    """The numbers that shape a graph; raises Misconfigured with the first that is missing or wrong."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise Misconfigured(f"{path}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None


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
    hidden, heads = raw.get("hidden_size"), raw.get("num_attention_heads")
    if raw.get("head_dim") is None and isinstance(hidden, int) and isinstance(heads, int) and heads > 0:
        raw["head_dim"] = hidden // heads
    if raw.get("layer_types") == ["full_attention"] * int(raw.get("num_hidden_layers") or 0):
        del raw["layer_types"]
    return raw


def _plain(rope: object) -> bool:
    """Whether positions are turned as they are, not stretched."""
    return isinstance(rope, dict) and rope.get("rope_type", rope.get("type", "default")) == "default"


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
