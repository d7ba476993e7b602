"""The reranker of an encoder: BERT's classifier with one label, on the two texts of a pair."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from penstock.models.export.locate import locate
from penstock.models.reranker import CrossPairs
from penstock.models.tokenizer import HubTokenizer
from penstock.models.train.model import by_length
from penstock.models.train.pairs import Pair
from penstock.models.train.plan import Plan, Rerank
from penstock.models.train.reranker import Collator, fit

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def train_cross_encoder(
    plan: Plan, stage: Rerank, base: str, pairs: Sequence[Pair], folder: Path, advance: Callable[[int], None]
) -> None:
    """Run the stage, or what is left of it, and write the finished model to ``folder``."""
    source = locate(base, None).folder
    model = transformers.AutoModelForSequenceClassification.from_pretrained(source, num_labels=1, dtype=torch.float32)
    if stage.layers:
        body = model.base_model.encoder
        body.layer = body.layer[: stage.layers]
        model.config.num_hidden_layers = len(body.layer)
    tokens = HubTokenizer(source / TOKENIZER[0])
    collate = Collator(CrossPairs(tokens, stage.tokens), model.config.pad_token_id)
    fit(plan, stage, model, score(tokens.around_pair[1][0]), collate, pairs, advance)
    model.save_pretrained(folder)
    for name in TOKENIZER:
        shutil.copy(source / name, folder)


def score(separator: int) -> Callable[[Any, Tensor, Tensor], Tensor]:
    """What the classifier makes of pairs whose second text begins behind the first ``separator``."""

    def logits(model: Any, ids: Tensor, lengths: Tensor) -> Tensor:
        def judged(rows: Tensor, longest: int) -> Tensor:
            part = ids[rows, :longest]
            shown = torch.arange(longest, device=ids.device) < lengths[rows, None]
            made: Tensor = model(part, attention_mask=shown.long(), token_type_ids=types(part, separator)).logits
            return made[:, 0]

        return by_length(lengths, judged)

    return logits


def types(ids: Tensor, separator: int) -> Tensor:
    """Of ids [pairs, longest]: 0 up to the first ``separator``, 1 behind it."""
    separates = (ids == separator).long()
    return (separates.cumsum(dim=1) - separates).clamp(max=1)
