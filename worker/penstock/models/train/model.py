"""A model before its first step: a checkpoint to go on from, or a small Qwen3 with random weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from sentence_transformers import SentenceTransformer, SentenceTransformerModelCardData
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from torch import Tensor

from penstock.models import prompts
from penstock.models.export.locate import locate
from penstock.models.train.plan import NewModel

LONGEST = 256
"""Tokens of a text that is ranked when negatives are mined."""

ROTARY_BASE = 1e6
"""As in Qwen3."""

PORTION = 48
"""Texts of similar length that pass through the model together: a batch costs a third less than all padded alike."""


class ByLength(SentenceTransformer):  # type: ignore[misc]  # Any, to mypy
    """Sends a batch through the model in portions of similar length, padded on the right no further than they need.

    Without a mask: the model is causal, so no token of a text sees the padding.
    """

    def forward(self, features: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
        """The features with sentence_embedding [texts, dimension], in their order."""
        transformer, *others = self
        mask = features["attention_mask"]

        def embedded(rows: Tensor, longest: int) -> Tensor:
            part = transformer({"input_ids": features["input_ids"][rows, :longest]})
            part["attention_mask"] = mask[rows, :longest]
            for module in others:
                part = module(part)
            vectors: Tensor = part["sentence_embedding"]
            return vectors

        return features | {"sentence_embedding": by_length(mask.sum(dim=1), embedded)}


def by_length(lengths: Tensor, compute: Callable[[Tensor, int], Tensor], portion: int = PORTION) -> Tensor:
    """What ``compute`` makes of all rows, in their order; it gets some rows of similar length, and the longest."""
    order = torch.argsort(lengths)
    made = [compute(rows, int(lengths[rows[-1]])) for rows in order.split(portion)]
    return torch.cat(made)[torch.argsort(order)]


def create(shape: NewModel, folder: Path, seed: int) -> None:
    """Write a small Qwen3 beside the tokenizer that ``folder`` holds."""
    torch.manual_seed(seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = transformers.Qwen3Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.longest,
        rope_theta=ROTARY_BASE,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=None,  # it is the token that is pooled: named here, its embedding would stay zero
        bos_token_id=None,
    )
    transformers.Qwen3Model(config).save_pretrained(folder)


def embedding(source: str, tokens: int, instruction: str, kind: type[ByLength] = ByLength) -> SentenceTransformer:
    """A checkpoint as a trainable sentence-transformers model that pools the last token, with 32-bit weights."""
    folder = str(locate(source, None).folder)
    transformer = Transformer(folder, max_seq_length=tokens, model_kwargs={"dtype": torch.float32})
    transformer.tokenizer.padding_side = "right"
    transformer.auto_model.config.use_cache = False
    transformer.auto_model.get_input_embeddings().padding_idx = None  # padding is the token that is pooled: it learns
    width = transformer.get_embedding_dimension()
    modules: list[Any] = [transformer, Pooling(width, "lasttoken"), Normalize()]
    query = prompts.fill(prompts.QUERY, {"instruction": instruction})
    card = SentenceTransformerModelCardData(generate_widget_examples=False)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return kind(modules=modules, device=device, prompts={"query": query, "document": ""}, model_card_data=card)
