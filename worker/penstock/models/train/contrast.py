"""Stages 1 and 2: a text's vector is nearer to its partner's than to all others in the batch."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
)
from transformers import PrinterCallback

from penstock.models.train import loop
from penstock.models.train.model import templates
from penstock.models.train.pairs import Pair, shown
from penstock.models.train.plan import Contrast, Plan

BOTH_WAYS = ("query_to_doc", "doc_to_query")


def train_embedding(
    plan: Plan,
    name: str,
    stage: Contrast,
    model: SentenceTransformer,
    pairs: Sequence[Pair],
    keep: int,
    advance: Callable[[int], None],
) -> None:
    """Run the stage, or what is left of it; the checkpoints are under ``output/name``."""
    folder = plan.output / name
    made = loop.arguments(plan, stage, folder, keep)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(**made, batch_sampler="no_duplicates"),
        train_dataset=table(pairs, stage.instructed, plan.seed, templates(model)),
        loss=_loss(stage, model),
        callbacks=[loop.Progress(plan.output / loop.CURVES, name, advance)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=loop.last_checkpoint(folder))


def table(pairs: Sequence[Pair], instructed: float, seed: int, before: Mapping[str, str]) -> Dataset:
    """Columns anchor, positive, negative_1 …; as many negatives as every pair has. ``before`` goes before texts."""
    rng = random.Random(seed)  # noqa: S311  # no secret
    columns: dict[str, list[str]] = {
        "anchor": [shown(pair, instructed, rng, before["query"]) for pair in pairs],
        "positive": [before["document"] + pair.document for pair in pairs],
    }
    for n in range(min(len(pair.negatives) for pair in pairs)):
        columns[f"negative_{n + 1}"] = [before["document"] + pair.negatives[n] for pair in pairs]
    return Dataset.from_dict(columns)


def _loss(stage: Contrast, model: SentenceTransformer) -> Any:
    scale: dict[str, Any] = {"scale": 1 / stage.temperature, "directions": BOTH_WAYS, "partition_mode": "per_direction"}
    if stage.memory_batch:
        loss: Any = CachedMultipleNegativesRankingLoss(model, mini_batch_size=stage.memory_batch, **scale)
    else:
        loss = MultipleNegativesRankingLoss(model, **scale)
    shorter = sorted(stage.dimensions, reverse=True)
    if not shorter:
        return loss
    whole = model.get_embedding_dimension()
    weights = [1.0] + [0.5] * len(shorter)
    return MatryoshkaLoss(model, loss, matryoshka_dims=[whole, *shorter], matryoshka_weights=weights)
