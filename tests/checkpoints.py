"""Small Qwen3 checkpoints with random weights, and tokenizers of the same kind as the real ones."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from penstock.models.bundle import Bundle, load
from penstock.models.export import qwen3
from penstock.models.export.locate import locate
from penstock.models.export.options import Options

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
NOT_SPECIAL = ("<think>", "</think>", "<tool_call>")
"""Added tokens that the real tokenizers do not mark as special, though the template is made of them, too."""

VOCABULARY = 320
LONGEST = 160
"""Beyond 128 processors attend in blocks."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a checkpoint looks like. Heads times head_dim need not be hidden."""

    tied: bool = True
    hidden: int = 64
    heads: int = 4
    key_heads: int = 2
    head_dim: int = 32
    layers: int = 3
    inner: int = 96
    shard: str | None = None
    theta: float = 1e6
    outliers: float = 8.0
    """How much larger a few of the norms' gains are than the others, as in trained models."""
    seed: int = 0


SHAPES = {
    "tied": Shape(),
    "untied": Shape(tied=False, hidden=96, heads=2, key_heads=1, head_dim=64, layers=2, theta=1e4),
    "sharded": Shape(shard="60KB"),
    "every head its own keys": Shape(heads=4, key_heads=4, head_dim=16),
    "wide": Shape(hidden=256, heads=4, key_heads=2, head_dim=64, layers=2, inner=768, outliers=30),
}


def checkpoint(
    folder: Path,
    shape: Shape,
    *,
    prefixed: bool = True,
    reranker: bool = False,
    vocabulary: int = VOCABULARY,
    longest: int = LONGEST,
) -> Any:
    """Write one; returns the transformers model. Norm gains are random: at 1 a forgotten norm would pass."""
    import torch
    import transformers

    torch.manual_seed(shape.seed)
    untyped: Any = transformers
    config = untyped.Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=longest,
        rope_theta=shape.theta,
        tie_word_embeddings=shape.tied,
    )
    model = untyped.Qwen3ForCausalLM(config).eval()
    for name, values in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(values, 0.5, 1.5)
            if "layernorm" in name:
                with torch.no_grad():
                    values[torch.randperm(len(values))[: max(1, len(values) // 64)]] *= shape.outliers
        else:
            torch.nn.init.normal_(values, 0, 0.15)
    saved = model if prefixed else model.model
    saved.save_pretrained(folder, **({"max_shard_size": shape.shard} if shape.shard else {}))
    made = tokenizer(folder / "tokenizer.json", ends=not reranker)
    if reranker:
        modules(folder, "Transformer", "LogitScore")
        answers = {"true_token_id": made.token_to_id("yes"), "false_token_id": made.token_to_id("no")}
        (folder / "1_LogitScore" / "config.json").write_text(json.dumps(answers))
    return model


def modules(folder: Path, *kinds: str) -> None:
    """Describe it as sentence-transformers does, with a folder for each module but the first."""
    listed = [
        {"type": f"sentence_transformers.models.{kind}", "path": f"{place}_{kind}" if place else ""}
        for place, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    for module in listed[1:]:
        (folder / module["path"]).mkdir(exist_ok=True)


def tokenizer(path: Path, *, ends: bool) -> Tokenizer:
    """Byte-level BPE like Qwen's; ``ends`` puts the end-of-text token after every text, as for embedding."""
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=[], show_progress=False
    )
    made.train_from_iterator(["yes no Judge the Document Query Instruct water yes no"] * 3, trainer)
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    made.add_tokens([AddedToken(text, special=False, normalized=False) for text in NOT_SPECIAL])
    if ends:
        last = [(SPECIAL[0], made.token_to_id(SPECIAL[0]))]
        template = processors.TemplateProcessing(single=f"$A {SPECIAL[0]}", special_tokens=last)
        made.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    made.save(str(path))
    return made


@contextmanager
def silent(_name: str, _total: int) -> Iterator[Callable[[int], None]]:
    """No progress bar."""
    yield lambda _: None


def bundle(source: Path, folder: Path, *graphs: str, **options: Any) -> Bundle:
    """Export and load; ``graphs`` are written like cpu-fp32."""
    dialects = tuple(dict.fromkeys(graph.split("-")[0] for graph in graphs))
    precisions = tuple(dict.fromkeys(graph.split("-")[1] for graph in graphs))
    made = Options(dialects=dialects, precisions=precisions, **options)
    qwen3.export_bundle(locate(str(source), None), folder, made, silent)
    return load(folder)


def last_states(model: Any, texts: Sequence[Sequence[int]]) -> np.ndarray:
    """What transformers computes for each text alone: the last token's hidden state after the final norm."""
    import torch

    with torch.no_grad():
        return np.stack([model.model(torch.tensor([list(text)])).last_hidden_state[0, -1].numpy() for text in texts])


def answers(model: Any, texts: Sequence[Sequence[int]], yes: int, no: int) -> np.ndarray:
    """What transformers computes for each pair alone: the logit of yes minus that of no."""
    import torch

    with torch.no_grad():
        logits = [model(torch.tensor([list(text)])).logits[0, -1] for text in texts]
    return np.array([float(one[yes] - one[no]) for one in logits], dtype=np.float32)
