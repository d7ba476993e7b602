"""The recipe's decisions: plans, pairs, negatives, merging, the reranker's loss."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from penstock.core.errors import Misconfigured
from penstock.models import prompts
from penstock.models.train import pairs as reading
from penstock.models.train.cross_encoder import types
from penstock.models.train.merge import merged, slerp
from penstock.models.train.model import PORTION, by_length, create, embedding
from penstock.models.train.negatives import choose
from penstock.models.train.pairs import Pair, shown
from penstock.models.train.plan import NewModel, load
from penstock.models.train.reranker import loss
from penstock.models.train.thin import batches, fitted, thin
from penstock.models.train.tokenizer import learn, save

PRETRAIN = "[pretrain]\nsteps = 1\nbatch = 1\nrate = 1e-3\n"
RERANK = PRETRAIN.replace("pretrain", "rerank")
DATA = 'output = "run"\n[data]\npairs = "pairs.jsonl"\n'

pytestmark = pytest.mark.torch


def plan(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    return path


def test_paths_of_a_plan_are_relative_to_it(tmp_path: Path) -> None:
    read = load(plan(tmp_path, DATA + PRETRAIN))
    assert read.output == tmp_path / "run"
    assert read.data.pairs == tmp_path / "pairs.jsonl"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("output = ", "is no TOML"),
        ('output = "run"\n' + PRETRAIN, "data: Field required"),
        (DATA, "nothing to do"),
        (DATA + PRETRAIN + "stepz = 3\n", "pretrain.stepz: Extra inputs"),
        (DATA + PRETRAIN.replace("1e-3", "0"), "pretrain.rate: Input should be greater than 0"),
        ('base = "x"\n' + DATA + "[model]\nhidden = 128\n" + PRETRAIN, "name one of the two"),
        (DATA + PRETRAIN.replace("pretrain", "finetune"), "add a table"),
        (DATA + PRETRAIN.replace("pretrain", "rerank"), "name its base and its miner"),
        (DATA + PRETRAIN + "[thin]\ninner = 8\n", "thin: is for a checkpoint"),
    ],
)
def test_a_wrong_plan_is_said_before_anything_is_trained(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Misconfigured, match=f"plan.toml.*{said}"):
        load(plan(tmp_path, text))


def test_a_missing_plan_is_said(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="No such file"):
        load(tmp_path / "plan.toml")


def test_pairs_are_read_with_what_they_leave_out(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(
        '{"query": "q", "document": "d"}\n\n'
        '{"query": "r", "document": "e", "group": "g", "instruction": "i", "negatives": ["n"]}\n'
    )
    assert reading.read(path, "task") == [Pair("q", "d", "d", "task"), Pair("r", "e", "g", "i", ("n",))]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2 is no JSON"),
        ("\xff", "line 2: not UTF-8"),
        ("[]", "line 2: line: "),
        ('{"query": "q"}', "line 2: document: Field required"),
        ('{"query": "", "document": "d"}', "line 2: query: String should have at least 1"),
        ('{"query": 1, "document": "d"}', "line 2: query: Input should be a valid string"),
        ('{"query": "q", "document": "d", "negative": "x"}', "line 2: negative: Extra inputs"),
    ],
)
def test_a_wrong_pair_is_said_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b'{"query": "q", "document": "d"}\n' + line.encode("latin-1") + b"\n")
    with pytest.raises(Misconfigured, match=said):
        reading.read(path, "task")


def test_a_share_of_the_queries_has_its_instruction() -> None:
    pair = Pair("wind", "d", "g", "Find it")
    assert pair.asked() == "Instruct: Find it\nQuery:wind"
    assert pair.asked("query: ") == "query: wind"
    rng = random.Random(0)
    seen = [shown(pair, 0.25, rng) for _ in range(4000)]
    assert set(seen) == {"wind", pair.asked()}
    assert seen.count(pair.asked()) == pytest.approx(1000, abs=120)


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 1)), max_size=30),
    st.floats(0.1, 1),
    st.integers(0, 5),
    st.integers(0, 9),
)
def test_a_negative_is_of_another_group_and_not_too_near(
    ranked: list[tuple[str, float]], positive: float, count: int, seed: int
) -> None:
    groups, scores = [group for group, _ in ranked], [score for _, score in ranked]
    found = choose(range(len(ranked)), scores, positive, groups, "a", 0.9, count, random.Random(seed))
    fit = {i for i in range(len(ranked)) if groups[i] != "a" and scores[i] <= 0.9 * positive}
    assert set(found) <= fit
    assert len(found) == len(set(found)) == min(count, len(fit))


vectors = st.lists(st.floats(-2, 2), min_size=3, max_size=3).filter(lambda values: math.hypot(*values) > 0.1)


@example([0.0, 0.0, 1.0], [0.0, 0.0, -1.0], 0.2887798223058065)
@given(vectors, vectors, st.floats(0, 1))
def test_slerp_goes_along_the_arc(a: list[float], b: list[float], t: float) -> None:

    x, y = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    point = slerp(x, y, t)
    assert torch.allclose(slerp(y, x, 1 - t), point, atol=1e-6)
    cosine = float(torch.dot(x, y) / (x.norm() * y.norm()))
    if abs(cosine) < 0.99:
        angle = math.acos(cosine)
        assert float(point.norm()) == pytest.approx(float((1 - t) * x.norm() + t * y.norm()), abs=1e-6)
        from_x = float(torch.dot(point, x) / (point.norm() * x.norm()))
        assert math.acos(min(1, max(-1, from_x))) == pytest.approx(t * angle, abs=1e-3)


def test_slerp_ends_at_its_ends_and_bears_zeros_and_opposites() -> None:

    x, y, zero = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 1.0]), torch.zeros(2)
    assert torch.allclose(slerp(x, y, 0.0), x)
    assert torch.allclose(slerp(x, y, 1.0), y)
    assert torch.allclose(slerp(x, zero, 0.5), x / 2)
    assert torch.isfinite(slerp(x, -x, 0.5)).all()


def test_merged_states_weigh_the_same() -> None:

    states = [{"w": torch.tensor([value, 0.0]), "n": torch.tensor(7)} for value in (1.0, 2.0, 6.0)]
    result = merged(states)
    assert torch.allclose(result["w"], torch.tensor([3.0, 0.0]))
    assert int(result["n"]) == 7


def test_the_rerankers_loss_is_yes_and_no_and_the_first_before_the_others() -> None:

    logits = torch.tensor([[2.0, -1.0], [0.0, 0.0]])
    softplus = [math.log1p(math.exp(-2)), math.log1p(math.exp(-1)), math.log(2), math.log(2)]
    alone = sum(softplus) / 4
    among = (math.log1p(math.exp(-3)) + math.log(2)) / 2
    assert float(loss(logits, 0.0)) == pytest.approx(alone)
    assert float(loss(logits, 2.0)) == pytest.approx(alone + 2 * among)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=200))
def test_rows_by_length_come_back_in_their_order(lengths: list[int]) -> None:

    portions: list[tuple[int, int]] = []

    def compute(rows: torch.Tensor, longest: int) -> torch.Tensor:
        portions.append((len(rows), longest))
        assert max(lengths[int(row)] for row in rows) == longest
        return rows.float()[:, None]

    made = by_length(torch.tensor(lengths), compute)
    assert made[:, 0].tolist() == list(range(len(lengths)))
    assert max(count for count, _ in portions) <= PORTION


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 8), st.integers(0, 99))
def test_what_is_left_of_a_matrix_is_the_least_squares_solution(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    inputs, matrix = rng.normal(size=(200, 8)) + rng.normal(size=(200, 1)), rng.normal(size=(5, 8))
    kept, ours = fitted(torch.tensor(inputs.T @ inputs), torch.tensor(matrix), count)
    whole, kept = inputs @ matrix.T, kept.numpy()
    theirs, *_ = np.linalg.lstsq(inputs[:, kept], whole, rcond=None)
    error, least = (np.linalg.norm(inputs[:, kept] @ solved - whole) for solved in (ours.numpy().T, theirs))
    assert ours.shape == (5, count)
    assert error <= 1.01 * least + 0.01 * np.linalg.norm(whole)


def test_a_thinner_encoder_of_full_width_is_the_same() -> None:
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(1)
    model = transformers.BertModel(config).eval()
    rows = [torch.randint(50, (length,)).tolist() for length in range(4, 40)]
    ids = torch.tensor([rows[9]])
    before = model(input_ids=ids).last_hidden_state
    thin(model, list(batches(rows, 0)), 24)
    assert torch.allclose(model(input_ids=ids).last_hidden_state, before, atol=1e-2)
    thin(model, list(batches(rows, 0)), 6)
    assert model.encoder.layer[1].output.dense.weight.shape == (16, 6)


def test_the_second_text_begins_behind_the_first_separator() -> None:
    assert types(torch.tensor([[0, 7, 2, 8, 2, 1], [0, 2, 9, 9, 9, 2]]), 2).tolist() == [
        [0, 0, 0, 1, 1, 1],
        [0, 0, 1, 1, 1, 1],
    ]


def test_the_pooled_token_learns_though_it_is_the_padding_token(tmp_path: Path) -> None:
    save(learn(["water turns a turbine"] * 9, 400, ["Find it"]), tmp_path, ends=True)
    create(NewModel(vocabulary=400, hidden=16, layers=1, heads=2, key_heads=1, head_dim=8, inner=16), tmp_path, 1)
    model = embedding(str(tmp_path), 64, "Find it")
    model.forward(model.tokenize(["water"]))["sentence_embedding"].sum().backward()
    table = model[0].auto_model.get_input_embeddings().weight
    assert table[model.tokenizer.pad_token_id].abs().sum() > 0
    assert table.grad[model.tokenizer.pad_token_id].abs().sum() > 0


def test_the_templates_words_are_single_tokens() -> None:

    texts = [json.dumps({"text": f"a program of number {n}"}) for n in range(50)]
    learnt = learn(texts, 600, ["Find the right one"])
    vocabulary = learnt.get_vocab()
    assert learnt.get_vocab_size() <= 600
    assert {"yes", "no"} <= vocabulary.keys()
    words = len(prompts.PREFIX.split())
    assert len(learnt.encode(prompts.PREFIX, add_special_tokens=False).ids) < 1.5 * words
