"""Training, whole, on texts and models so small that it takes seconds."""

import csv
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from penstock.assembly.models import load_model, load_reranker
from penstock.core.errors import Misconfigured
from penstock.models.tokenizer import HubTokenizer
from penstock.models.train.plan import load
from penstock.models.train.reranker import log_odds
from penstock.models.train.run import run
from penstock.settings import ModelSettings
from tests import checkpoints

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

WORDS = [f"{a}{b}" for a in ("wa", "tu", "ri", "po", "ke") for b in ("ter", "bine", "ver", "wer", "tle")]
PLAN = """
output = "run"
seed = 3
[data]
pairs = "pairs.jsonl"
[model]
vocabulary = 420
hidden = 32
layers = 3
heads = 4
key_heads = 2
head_dim = 16
inner = 64
longest = 256
"""
PRETRAIN = "[pretrain]\nsteps = 12\nbatch = 16\nrate = 3e-3\ndimensions = [16]\nsave_every = 4\n"
FINETUNE = "[finetune]\nsteps = 6\nbatch = 8\nrate = 1e-3\nnegatives = 2\nsave_every = 2\nceiling = 1.5\n"
RERANK = "[rerank]\nsteps = 6\nbatch = 4\nrate = 1e-3\nnegatives = 3\nsave_every = 4\nceiling = 1.5\n"


class Interrupted(Exception):
    """As Ctrl+C, but in the middle of a step of our choice."""


@contextmanager
def silent(_name: str, _total: int) -> Iterator[Callable[[int], None]]:
    yield lambda _: None


def stopping(name: str, at: int) -> Callable[[str, int], object]:
    @contextmanager
    def progress(step: str, _total: int) -> Iterator[Callable[[int], None]]:
        done = 0

        def advance(amount: int) -> None:
            nonlocal done
            done += amount
            if step == name and done >= at:
                raise Interrupted

        yield advance

    return progress


def write(folder: Path, text: str, count: int = 60) -> Path:
    """Pairs whose query repeats two words of the document."""
    rng = random.Random(1)
    lines = []
    for n in range(count):
        words = rng.sample(WORDS, 4)
        lines.append({"query": " ".join(words[:2]), "document": f"{n} " + " ".join(words), "group": str(n)})
    folder.mkdir(exist_ok=True)
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "plan.toml").write_text(text)
    return folder / "plan.toml"


def train(path: Path, progress: Callable[..., object] = silent) -> list[Path]:
    return run(load(path), progress)  # type: ignore[arg-type]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model.safetensors"))


def same(a: Path, b: Path) -> bool:
    x, y = weights(a), weights(b)
    return x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run from nothing."""
    folder = tmp_path_factory.mktemp("trained")
    train(write(folder, PLAN + PRETRAIN + FINETUNE + RERANK))
    return folder / "run"


def test_every_step_is_in_the_curves_and_the_loss_falls(trained: Path) -> None:
    with (trained / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = {row["stage"]: float(row["loss"]) for row in rows}
    assert losses.keys() <= {"pretrain", "finetune", "rerank"}
    first = float(rows[0]["loss"])
    assert all(np.isfinite(float(row["loss"])) for row in rows)
    assert rows[0]["stage"] == "pretrain"
    assert first > 0


def test_what_was_trained_is_exported_and_runs_as_it_was_trained(trained: Path, tmp_path: Path) -> None:
    bundle = checkpoints.bundle(trained / "embedding", tmp_path / "embedding", "cpu-fp32")
    assert bundle.manifest.task == "embedding"
    assert bundle.prompt("query").startswith("Instruct: Given a web search query")
    original = SentenceTransformer(str(trained / "embedding"), device="cpu")
    model = load_model(ModelSettings(bundle=tmp_path / "embedding"))
    text = "water turbine river"
    ours = model.embedder.embed(model.tokenizer.encode([text], 64))[0]
    theirs = original.encode([text], normalize_embeddings=True)[0]
    assert float(ours @ theirs) > 0.9999


def test_the_reranker_runs_as_it_was_trained(trained: Path, tmp_path: Path) -> None:
    bundle = checkpoints.bundle(trained / "reranker", tmp_path / "reranker", "cpu-fp32")
    assert bundle.manifest.task == "reranker"
    loaded = load_reranker(ModelSettings(bundle=tmp_path / "reranker"))
    pairs = loaded.pairs.encode("water turbine", ["river water", "a kettle of power and more of it"])
    model = transformers.AutoModelForCausalLM.from_pretrained(trained / "reranker").eval()
    ids = torch.zeros(2, max(map(len, pairs)), dtype=torch.long)
    for row, one in enumerate(pairs):
        ids[row, : len(one)] = torch.tensor(one)
    words = json.loads((trained / "reranker" / "tokenizer.json").read_text())["model"]["vocab"]
    with torch.no_grad():
        theirs = log_odds(model, ids, torch.tensor([len(one) for one in pairs]), (words["yes"], words["no"]))
    assert np.allclose(loaded.reranker.logits(pairs), theirs.numpy(), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "stage", "at"),
    [
        ("pretraining", "pretrained", 7),
        ("fine-tuning", "embedding", 3),
    ],
)
def test_an_interrupted_run_goes_on_to_the_same_model(
    trained: Path, tmp_path: Path, name: str, stage: str, at: int
) -> None:
    path = write(tmp_path / "again", PLAN + PRETRAIN + FINETUNE)
    with pytest.raises(Interrupted):
        train(path, stopping(name, at))
    assert not (tmp_path / "again" / "run" / stage).exists()
    train(path)
    assert same(tmp_path / "again" / "run" / stage, trained / stage)


def test_an_interrupted_reranker_goes_on_to_the_same_model(trained: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "again", PLAN + PRETRAIN + FINETUNE + RERANK)
    with pytest.raises(Interrupted):
        train(path, stopping("training the reranker", 5))
    train(path)
    assert same(tmp_path / "again" / "run" / "reranker", trained / "reranker")


def test_a_stage_can_be_added_and_nothing_else_changed(tmp_path: Path) -> None:
    path = write(tmp_path, PLAN + PRETRAIN)
    assert train(path) == [tmp_path / "run" / "pretrained"]
    write(tmp_path, PLAN + PRETRAIN + FINETUNE)
    assert train(path) == [tmp_path / "run" / "embedding"]
    write(tmp_path, PLAN.replace("seed = 3", "seed = 4") + PRETRAIN + FINETUNE)
    with pytest.raises(Misconfigured, match=r"begun with other values in seed.*name another output"):
        train(path)


def test_a_checkpoint_is_fine_tuned_and_merged_back(tmp_path: Path) -> None:
    base = tmp_path / "base"
    checkpoints.checkpoint(base, checkpoints.SHAPES["tied"])
    head = f'base = "{base}"\noutput = "run"\n[data]\npairs = "pairs.jsonl"\n'
    tuning = FINETUNE.replace("negatives = 2", "negatives = 1\nmemory_batch = 2")
    states = {}
    for share in (0.0, 0.5, 1.0):
        text = head + tuning + f"[merge]\ncheckpoints = 2\nbase = {share}\n"
        (folder,) = train(write(tmp_path / f"merged-{share}", text))
        states[share] = weights(folder)
    original = {name.removeprefix("model."): value for name, value in weights(base).items() if "lm_head" not in name}
    near, far = (sum(float((states[share][name] - original[name]).norm()) for name in original) for share in (0.5, 0.0))
    assert 0.4 * far < near < 0.6 * far
    assert all(torch.allclose(states[1.0][name], original[name], atol=1e-6) for name in original)
    HubTokenizer(tmp_path / "merged-0.5" / "run" / "embedding" / "tokenizer.json")


def test_queries_that_leave_no_room_for_a_document_are_left_out_and_said_where_they_are_most(tmp_path: Path) -> None:
    base = tmp_path / "base"
    checkpoints.checkpoint(base, checkpoints.SHAPES["tied"], longest=1024)
    head = f'output = "run"\n[data]\npairs = "pairs.jsonl"\n[rerank]\nbase = "{base}"\nminer = "{base}"\n'
    stage = "steps = 1\nbatch = 4\nrate = 1e-3\nnegatives = 1\nceiling = 1.5\n"
    path = write(tmp_path, head + stage + "tokens = 700\n")
    pairs = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    pairs[0]["query"] = "water " * 700
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    assert train(path) == [tmp_path / "run" / "reranker"]
    path = write(tmp_path / "short", head + stage + "tokens = 100\n")
    with pytest.raises(Misconfigured, match=r"rerank.tokens = 100: only 0 of \d+ queries leave room"):
        train(path)


def test_too_few_negatives_are_said(tmp_path: Path) -> None:
    path = write(tmp_path, PLAN + PRETRAIN + FINETUNE.replace("negatives = 2", "negatives = 99"))
    with pytest.raises(Misconfigured, match=r"no pair has 99 documents that do not answer it.*finetune.ceiling"):
        train(path)
