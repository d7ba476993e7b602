"""Training an encoder, whole: thinned, contrasted, mixed with what it was, and a cross-encoder of its first layer."""

import json
from pathlib import Path

import pytest
import torch
import transformers

from penstock.models.export.config import read_json
from penstock.models.export.options import Options
from penstock.models.export.route import export_bundle
from tests.integration.test_train import WORDS, silent, train, write
from training import cut

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

PLAN = """
base = "{base}"
output = "run"
[data]
pairs = "pairs.jsonl"
[thin]
inner = 12
texts = 40
[pretrain]
steps = 4
batch = 8
rate = 1e-3
tokens = 24
dimensions = [16]
[merge]
base = 0.3
[rerank]
layers = 1
steps = 3
batch = 4
rate = 1e-3
tokens = 60
negatives = 2
ceiling = 1.5
"""


def encoder(folder: Path) -> None:
    special = [(token, 0.0) for token in (cut.START, cut.PADDING, cut.END, cut.UNKNOWN)]
    letters = [(letter, -3.0) for letter in "▁abcdefghijklmnopqrstuvwxyz0123456789:"]
    pieces = [*special, *letters, *((f"▁{word}", -2.0) for word in WORDS)]
    torch.manual_seed(1)
    shape = {"hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.BertConfig(vocab_size=len(pieces), **shape, pad_token_id=1)
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    cut.tokenizer(pieces).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(cut.TOKENIZER))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": cut.PROMPTS}))


def test_an_encoder_is_thinned_trained_and_exported(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    encoder(tmp_path / "base")
    embedding, reranker = train(write(tmp_path, PLAN.format(base=tmp_path / "base")))
    assert read_json(embedding / "config.json")["intermediate_size"] == 12
    assert read_json(reranker / "config.json")["num_hidden_layers"] == 1
    options = Options(precisions=("fp32",))
    made = export_bundle(str(embedding), tmp_path / "embedding", None, [16], None, options, silent)
    assert (made.task, made.pooling, made.max_tokens) == ("embedding", "mean", 512)
    assert made.prompts == cut.PROMPTS
    judge = export_bundle(str(reranker), tmp_path / "reranker", None, [], None, options, silent)
    assert judge.task == "reranker"
