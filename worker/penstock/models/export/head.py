"""A reranker's head: the vector that the last token is multiplied with, wherever the checkpoint keeps it."""

from pathlib import Path

import numpy as np

from penstock.core.errors import Misconfigured
from penstock.models.export import card
from penstock.models.export.checkpoint import Array, Checkpoint
from penstock.models.export.config import CONFIG, read_json

WHOLE, READY = "lm_head.weight", "score.weight"

DROPPED = (
    "it has a head for classes ({}), which an embedding would drop: a reranker then; export it with "
    "--task reranker, or remove the head from a copy if it is not used"
)
NO, YES = {"no", "false", "irrelevant", "not_relevant", "label_0"}, {"yes", "true", "relevant", "label_1"}
"""How a classifier of two labels calls them; LABEL_0 and LABEL_1 are what transformers writes without names."""


def labels(checkpoint: Checkpoint) -> int:
    """The classes of a sequence classifier; 0 for other checkpoints."""
    return checkpoint.shape(READY)[0] if READY in checkpoint else 0


def answer(checkpoint: Checkpoint, made: Path) -> Array:
    """``[hidden]`` fp32: the logit is the product with one vector, instead of with the whole vocabulary.

    A classifier of one label has it ready; of two labels, as of the words yes and no, it is the difference: the
    softmax over two is the sigmoid of that. ``made`` holds the tokenizer. Raises Misconfigured.
    """
    config, count = checkpoint.config, labels(checkpoint)
    if count:
        checkpoint.require({READY: (count, config.hidden_size)})
        return _row(checkpoint, READY, 0) if count == 1 else _difference(checkpoint, READY, *_of_two(checkpoint, count))
    table = "embed_tokens.weight" if config.tie_word_embeddings else WHOLE
    checkpoint.require({table: (config.vocab_size, config.hidden_size)})
    yes, no = _tokens(checkpoint, made)
    return _row(checkpoint, table, yes) if no is None else _difference(checkpoint, table, yes, no)


def _tokens(checkpoint: Checkpoint, made: Path) -> tuple[int, int | None]:
    """Of the two answers: what the module LogitScore says, else the words yes and no."""
    for module in card.modules(checkpoint.folder):
        path = checkpoint.folder / module["path"] / CONFIG
        if module["type"] != "LogitScore" or not path.is_file():
            continue
        written = read_json(path)
        yes, no = written.get("true_token_id"), written.get("false_token_id")
        rows = range(checkpoint.config.vocab_size)
        if not isinstance(yes, int) or yes not in rows or (no is not None and no not in rows):
            raise Misconfigured(f"{path}: true_token_id = {yes!r}, false_token_id = {no!r}: no tokens of this model")
        return yes, no
    return card.word(made, "yes"), card.word(made, "no")


def _of_two(checkpoint: Checkpoint, count: int) -> tuple[int, int]:
    """The rows of yes and no."""
    path = checkpoint.folder / CONFIG
    named = read_json(path).get("id2label") or {str(row): f"LABEL_{row}" for row in range(count)}
    names = [str(named.get(str(row))).lower() for row in range(count)]
    if count == 2:  # noqa: PLR2004  # yes and no
        for yes, no in ((1, 0), (0, 1)):
            if names[yes] in YES and names[no] in NO:
                return yes, no
    raise Misconfigured(
        f"{path}: a classifier of {count} labels ({', '.join(names)}) is a reranker only with one label, or with two "
        "that id2label calls no and yes"
    )


def _row(checkpoint: Checkpoint, name: str, index: int) -> Array:
    return checkpoint.row(name, index).astype(np.float32)


def _difference(checkpoint: Checkpoint, name: str, yes: int, no: int) -> Array:
    return np.asarray(_row(checkpoint, name, yes) - _row(checkpoint, name, no))
