"""The reranker: yes or no on the pair in its template, as Qwen3-Reranker is trained."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from penstock.core.errors import InvalidEvent, Misconfigured
from penstock.models.export import card
from penstock.models.export.config import CONFIG
from penstock.models.export.locate import locate
from penstock.models.prompts import SEPARATORS
from penstock.models.reranker import CrossPairs, PairTokenizer
from penstock.models.tokenizer import HubTokenizer
from penstock.models.train import loop, tokenizer
from penstock.models.train.model import by_length
from penstock.models.train.pairs import Pair
from penstock.models.train.plan import Plan, Rerank

Batch = dict[str, Tensor]
Score = Callable[[Any, Tensor, Tensor], Tensor]
"""From a model, ids [pairs, longest] and lengths [pairs] to logits [pairs]."""

SCORE = "1_LogitScore"


def train_reranker(
    plan: Plan, stage: Rerank, base: str, pairs: Sequence[Pair], folder: Path, advance: Callable[[int], None]
) -> None:
    """Run the stage, or what is left of it, and write the finished model to ``folder``."""
    source = locate(base, None).folder
    tokens = transformers.AutoTokenizer.from_pretrained(source)
    tokenizer.save(tokens.backend_tokenizer, folder, ends=False)
    model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    model.config.use_cache = False
    templates = card.templates("reranker", folder, SEPARATORS["blank-line"])
    collate = Collator(
        PairTokenizer(HubTokenizer(folder / "tokenizer.json"), templates, stage.tokens), tokens.eos_token_id
    )
    yes, no = (card.word(folder, answer) for answer in tokenizer.ANSWERS)
    fit(plan, stage, model, partial(log_odds, answers=(yes, no)), collate, pairs, advance)
    model.save_pretrained(folder)
    _tell_task(folder, yes, no)


def fit(
    plan: Plan,
    stage: Rerank,
    model: Any,
    score: Score,
    collate: "Collator",
    pairs: Sequence[Pair],
    advance: Callable[[int], None],
) -> None:
    """Train the model, by what ``score`` makes of it, for what is left of the stage."""
    checkpoints = plan.output / "rerank"
    made = loop.arguments(plan, stage, checkpoints, keep=2)
    trainer = _RerankerTrainer(
        model=model,
        args=transformers.TrainingArguments(**made, remove_unused_columns=False),
        train_dataset=_fitting(pairs, collate, stage.tokens),
        data_collator=collate,
        callbacks=[loop.Progress(plan.output / loop.CURVES, "rerank", advance)],
    )
    trainer.score, trainer.listwise = score, stage.listwise
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train(resume_from_checkpoint=loop.last_checkpoint(checkpoints))


def _tell_task(folder: Path, yes: int, no: int) -> None:
    """Beside the weights, as sentence-transformers does: they are those of any language model."""
    (folder / SCORE).mkdir()
    (folder / SCORE / CONFIG).write_text(json.dumps({"true_token_id": yes, "false_token_id": no}))
    kinds = (("base.modules.transformer.Transformer", ""), ("cross_encoder.modules.logit_score.LogitScore", SCORE))
    listed = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.{kind}"}
        for place, (kind, path) in enumerate(kinds)
    ]
    (folder / card.MODULES).write_text(json.dumps(listed, indent=2) + "\n")


def _fitting(pairs: Sequence[Pair], collate: "Collator", most: int) -> list[Pair]:
    """The pairs whose queries leave room for a document; raises Misconfigured where too few are left."""

    def fits(pair: Pair) -> bool:
        try:
            collate.encode(pair, [])
        except InvalidEvent:
            return False
        return True

    kept = [pair for pair in pairs if fits(pair)]
    if len(kept) < len(pairs) / 2:
        raise Misconfigured(
            f"rerank.tokens = {most}: only {len(kept)} of {len(pairs)} queries leave room for a document; set more"
        )
    return kept


@dataclass(frozen=True, slots=True)
class Collator:
    """Pairs to token ids, exactly as a worker makes them: for each query its document, then its negatives."""

    templates: PairTokenizer | CrossPairs
    padding: int

    def encode(self, pair: Pair, documents: Sequence[str]) -> list[tuple[int, ...]]:
        """Ids of its query with each of the documents; raises InvalidEvent where the query leaves no room for one."""
        task = pair.instruction if self.templates.takes_task else None
        return self.templates.encode(pair.query, documents, task)

    def __call__(self, pairs: Sequence[Pair]) -> Batch:
        """``input_ids`` [queries * documents, longest] padded on the right, ``lengths``, ``queries``."""
        ids: list[tuple[int, ...]] = []
        for pair in pairs:
            ids += self.encode(pair, [pair.document, *pair.negatives])
        lengths = torch.tensor([len(tokens) for tokens in ids])
        padded = torch.full((len(ids), int(lengths.max())), self.padding)
        for row, tokens in enumerate(ids):
            padded[row, : len(tokens)] = torch.tensor(tokens)
        return {"input_ids": padded, "lengths": lengths, "queries": torch.tensor(len(pairs))}


def loss(logits: Tensor, listwise: float) -> Tensor:
    """Of ``logits`` [queries, documents], log-odds of yes, the right document first.

    Yes for the first and no for the others, each by itself (as Qwen3-Reranker); and the first before the others.
    """
    truth = torch.zeros_like(logits)
    truth[:, 0] = 1
    alone = nn.functional.binary_cross_entropy_with_logits(logits, truth)
    return alone + listwise * nn.functional.cross_entropy(
        logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    )


def log_odds(model: Any, ids: Tensor, lengths: Tensor, answers: tuple[int, int]) -> Tensor:
    """[pairs]: the logit of yes minus that of no after the last token."""

    def last(rows: Tensor, longest: int) -> Tensor:
        states = model.model(input_ids=ids[rows, :longest]).last_hidden_state  # causal: padding on the right is unseen
        return states[torch.arange(len(rows)), lengths[rows] - 1]

    yes, no = answers
    weight = model.get_output_embeddings().weight
    return by_length(lengths, last).float() @ (weight[yes] - weight[no])


class _RerankerTrainer(transformers.Trainer):  # type: ignore[misc]  # Any, to mypy
    score: Score
    listwise: float

    def compute_loss(self, model: Any, inputs: Mapping[str, Tensor], **_: Any) -> Tensor:
        logits = self.score(model, inputs["input_ids"], inputs["lengths"])
        return loss(logits.view(int(inputs["queries"]), -1), self.listwise)
