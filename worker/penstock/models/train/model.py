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
from penstock.models.export import card
from penstock.models.export.config import read_json
from penstock.models.export.locate import locate
from penstock.models.train.plan import NewModel

LONGEST = 256
"""Tokens of a text that is ranked when negatives are mined."""

ROTARY_BASE = 1e6
"""As in Qwen3."""

PORTION = 48
"""Texts of similar length that pass through the model together: a batch costs a third less than all padded alike."""


ENCODERS = ("bert", "xlm-roberta")
"""Models whose tokens see all others, and whose states are averaged; others are causal and pool the last one."""


class ByLength(SentenceTransformer):  # type: ignore[misc]  # Any, to mypy
    """Sends a batch through the model in portions of similar length, padded on the right no further than they need.

    A causal model needs no mask: no token of a text sees the padding.
    """

    def forward(self, features: dict[str, Tensor], **_: Any) -> dict[str, Tensor]:
        """The features with sentence_embedding [texts, dimension], in their order."""
        transformer, *others = self
        mask = features["attention_mask"]

        def embedded(rows: Tensor, longest: int) -> Tensor:
            shown = {"attention_mask": mask[rows, :longest]}
            part = transformer({"input_ids": features["input_ids"][rows, :longest]} | (shown if sees_all(self) else {}))
            part |= shown
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
    """A checkpoint as a trainable sentence-transformers model, with 32-bit weights.

    An encoder's states are averaged, and its texts get the prompts that it names; another model pools the last token.
    """
    folder = locate(source, None).folder
    transformer = Transformer(str(folder), max_seq_length=tokens, model_kwargs={"dtype": torch.float32})
    transformer.tokenizer.padding_side = "right"
    transformer.auto_model.config.use_cache = False
    averaged = transformer.auto_model.config.model_type in ENCODERS
    before = {"query": prompts.fill(prompts.QUERY, {"instruction": instruction}), "document": ""}
    if averaged:
        before |= {side: text for side, text in card.templates("embedding", folder, "").items() if side in before}
    else:  # padding is the token that is pooled: it learns
        transformer.auto_model.get_input_embeddings().padding_idx = None
    width = transformer.get_embedding_dimension()
    modules: list[Any] = [transformer, Pooling(width, "mean" if averaged else "lasttoken"), Normalize()]
    about = SentenceTransformerModelCardData(generate_widget_examples=False)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return kind(modules=modules, device=device, prompts=before, model_card_data=about)


def save(model: SentenceTransformer, folder: Path) -> None:
    """Write it, for texts as long as it has positions for: those that it was trained on were cut."""
    config = model[0].auto_model.config
    first = config.pad_token_id + 1 if config.model_type == "xlm-roberta" else 0  # where its positions begin
    model.max_seq_length = config.max_position_embeddings - first
    model.save(str(folder), create_model_card=False)


def is_encoder(source: str) -> bool:
    """Whether a checkpoint is one of ``ENCODERS``."""
    return read_json(card.configs(locate(source, None).folder)[0]).get("model_type") in ENCODERS


def sees_all(model: SentenceTransformer) -> bool:
    """Whether each token sees those after it, as in BERT."""
    return model[0].auto_model.config.model_type in ENCODERS


def templates(model: SentenceTransformer) -> dict[str, str]:
    """What goes before a query and before a document. Qwen3's queries have a place for each pair's own task."""
    return dict(model.prompts) if sees_all(model) else {"query": prompts.QUERY, "document": ""}
