"""Small encoders of BERT's family with random weights, and tokenizers of the same kinds as the real ones."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from tests.checkpoints import modules

CORPUS = [
    "water drives the turbine in the valley; the pressure rises with the height of the fall",
    "query passage document: Kafka keeps records in partitions, yes or no",
    "水は水圧管を通ってタービンへ流れる",
    "Das Wasser fließt durch das Fallrohr zur Turbine",
] * 4

CLASS = "ForSequenceClassification"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Encoder:
    """What a checkpoint looks like. ``kind`` is Bert, Roberta or XLMRoberta; ``labels`` 0 is one without a classifier.

    A few gains are ``outliers`` times the others; ``tamed``: the weights that meet them are so much smaller, as in
    trained models.
    """

    kind: str = "Bert"
    labels: int = 0
    hidden: int = 64
    heads: int = 4
    layers: int = 3
    inner: int = 128
    longest: int = 64
    outliers: float = 8.0
    tamed: bool = False
    seed: int = 0


def encoder(folder: Path, shape: Encoder, pooling: str = "") -> Any:
    """Write one, with sentence-transformers' files where there is a ``pooling``; returns the transformers model."""
    import torch
    import transformers

    folder.mkdir(parents=True)
    bert, untyped = shape.kind == "Bert", transformers
    made = (wordpieces if bert else unigrams)(folder / "tokenizer.json")
    torch.manual_seed(shape.seed)
    config = getattr(untyped, f"{shape.kind}Config")(
        vocab_size=made.get_vocab_size(),
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=shape.longest + (0 if bert else 2),
        type_vocab_size=2 if bert else 1,
        pad_token_id=0 if bert else 1,
        num_labels=shape.labels or 2,
    )
    model: Any = getattr(untyped, shape.kind + (CLASS if shape.labels else "Model"))(config).eval()
    for name, values in model.named_parameters():
        if "LayerNorm.weight" in name:
            torch.nn.init.uniform_(values, 0.5, 1.5)
            with torch.no_grad():
                values[torch.randperm(len(values))[: max(1, len(values) // 64)]] *= shape.outliers
        else:
            torch.nn.init.normal_(values, 0, 0.15)
    if shape.tamed:
        _tame(model, shape.outliers)
    model.save_pretrained(folder)
    if pooling:
        modules(folder, "Transformer", "Pooling", "Normalize")
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": pooling}))
    return model


def _tame(model: Any, outliers: float) -> None:
    import torch

    norm = model.embeddings.LayerNorm
    with torch.no_grad():
        for layer in model.encoder.layer:
            for reader in (layer.attention.self.query, layer.attention.self.key, layer.attention.self.value):
                reader.weight[:, norm.weight > 2] /= outliers
            layer.intermediate.dense.weight[:, layer.attention.output.LayerNorm.weight > 2] /= outliers
            norm = layer.output.LayerNorm


def wordpieces(path: Path) -> Tokenizer:
    """As BERT's."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made = Tokenizer(models.WordPiece(unk_token=special[1]))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    )
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.save(str(path))
    return made


def unigrams(path: Path) -> Tokenizer:
    """As XLM-RoBERTa's, whose control tokens are pieces of text, too."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.UnigramTrainer(vocab_size=300, special_tokens=special, unk_token=special[3], show_progress=False)
    made.train_from_iterator(CORPUS, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    made.save(str(path))
    return made


def pooled(model: Any, texts: Sequence[Sequence[int]], pooling: str) -> np.ndarray:
    """What transformers computes for each text alone."""
    import torch

    vectors = []
    with torch.no_grad():
        for text in texts:
            states = model(torch.tensor([list(text)])).last_hidden_state[0]
            vectors.append({"mean": states.mean(0), "cls": states[0], "lasttoken": states[-1]}[pooling].numpy())
    return np.stack(vectors)


def judged(model: Any, folder: Path, query: str, documents: Sequence[str], longest: int) -> np.ndarray:
    """The logits of transformers, each pair alone, by its own tokenization."""
    import torch
    import transformers

    untyped: Any = transformers
    tokenizer = untyped.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    typed = model.config.type_vocab_size > 1
    logits = []
    with torch.no_grad():
        for document in documents:
            pair = tokenizer(
                query, document, truncation="only_second", max_length=longest, return_tensors="pt",
                return_token_type_ids=typed,
            )  # fmt: skip
            logits.append(float(model(**pair).logits[0, 0]))
    return np.array(logits, dtype=np.float32)


def tensors(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """A change of the weights on disk."""

    def apply(folder: Path) -> None:
        held = load_file(folder / WEIGHTS)
        change(held)
        save_file(held, folder / WEIGHTS, metadata={"format": "pt"})

    return apply


def config(**changes: Any) -> Callable[[Path], None]:
    """A change of ``config.json``."""

    def apply(folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text()) | changes
        (folder / "config.json").write_text(json.dumps(values))

    return apply
