"""Our Qwen3 graphs against transformers and the stock export, on small random checkpoints."""

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file, save_file

from penstock.core.vectors import truncate, worst_cosine
from penstock.models.bundle import Bundle, Graph, load
from penstock.models.embedder import OnnxEmbedder
from penstock.models.export import coarse, decoder
from penstock.models.export.balance import Balanced
from penstock.models.export.checkpoint import Checkpoint
from penstock.models.export.decoder_in_numpy import LENGTH, PROBES, DecoderInNumpy, probes_of
from penstock.models.export.graph import CONTRIB
from penstock.models.export.weights import Weights
from penstock.models.forward import Forward
from penstock.models.reranker import OnnxReranker
from penstock.models.runtime import on_processor
from penstock.models.session import Session, multiplies_bytes
from tests.checkpoints import LONGEST, SHAPES, Shape, answers, bundle, checkpoint, last_states

pytest.importorskip("transformers")

EXACT = 0.99999
WORST = {"cpu-int8": 0.99, "cpu-int7": 0.98}
"""Of random weights, whose vectors are harder to keep than trained ones."""

INT8 = pytest.param(
    "cpu-int8", marks=pytest.mark.skipif(not multiplies_bytes(), reason="this processor computes int8 wrongly")
)


@dataclass(frozen=True)
class Case:
    model: Any
    bundle: Bundle


@pytest.fixture(scope="module", params=SHAPES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("qwen3")
    model = checkpoint(folder / "checkpoint", SHAPES[request.param], prefixed=request.param != "sharded")
    return Case(
        model, bundle(folder / "checkpoint", folder / "bundle", "cpu-fp32", "cpu-int8", "cpu-int7", "tensorrt-fp32")
    )


def graph(made: Bundle, name: str) -> Graph:
    return next(one for one in made.manifest.graphs if f"{one.dialect}-{one.precision}" == name)


def forward(made: Bundle, name: str, budget: int = 2048, passes: int = 1) -> Forward:
    return on_processor(made, graph(made, name), budget, threads=passes, passes=passes)


def texts(lengths: list[int], seed: int = 0) -> list[list[int]]:
    chance = random.Random(seed)
    return [[chance.randrange(250) for _ in range(length)] for length in lengths]


@pytest.mark.parametrize("name", ["cpu-fp32", "tensorrt-fp32", INT8, "cpu-int7"])
def test_vectors_are_those_of_transformers_at_every_length_and_dimension(case: Case, name: str) -> None:
    given = texts(list(range(1, LONGEST + 1)))
    theirs = last_states(case.model, given)
    ours = forward(case.bundle, name).run(given)
    for dimension in range(32, case.bundle.manifest.dimension + 1):
        worst = worst_cosine(truncate(ours, dimension), truncate(theirs, dimension))
        assert worst >= WORST.get(name, EXACT), (dimension, worst)


@pytest.mark.skipif(not multiplies_bytes(), reason="this processor computes int8 wrongly")
@pytest.mark.parametrize(
    "shape",
    [
        replace(SHAPES["wide"], outliers=30),
        replace(SHAPES["wide"], outliers=100),
        replace(SHAPES["wide"], outliers=30, layers=4, seed=611),
    ],
    ids=["30 times", "100 times", "30 times, one text in hundreds suffers"],
)
def test_bytes_keep_vectors_where_a_few_channels_are_far_larger(tmp_path: Path, shape: Shape) -> None:
    """4 of 256 gains of each norm, as in trained models; without the balance the worst cosine is below 0.95."""
    checkpoint(tmp_path / "checkpoint", shape)
    made = bundle(tmp_path / "checkpoint", tmp_path / "bundle", "cpu-int8", "cpu-fp32")
    given = texts([1 + n % LONGEST for n in range(2 * LONGEST)])
    vectors = [truncate(forward(made, name).run(given), 256) for name in ("cpu-int8", "cpu-fp32")]
    assert worst_cosine(*vectors) >= 0.995
    kept = [one.name for one in read(made, "cpu-int8").graph.initializer if one.data_type == TensorProto.FLOAT]
    matrices = {name for name in kept if name.endswith("_proj.weight")}
    assert 0 < len(matrices) < 7 * shape.layers
    exact = {graph.precision: set(graph.exact) for graph in made.manifest.graphs}
    assert exact == {"int8": matrices, "fp32": set()}


@pytest.mark.parametrize("precision", ["int8", "int7"])
def test_a_token_without_an_embedding_spoils_no_measurement(tmp_path: Path, precision: str) -> None:
    """A row of zeros, as of padding, at the beginning of a probe."""
    shape = replace(SHAPES["wide"], outliers=30)
    checkpoint(tmp_path / "checkpoint", shape, longest=16)
    path = tmp_path / "checkpoint" / "model.safetensors"
    held = load_file(path)
    (name,) = [name for name in held if "embed_tokens" in name]
    held[name][np.random.default_rng(0).integers(0, len(held[name]), (PROBES, LENGTH))[5, 0]] = 0
    save_file(held, path, metadata={"format": "pt"})
    balanced = Balanced(tmp_path / "checkpoint")
    kept, worst = coarse.coarse(DecoderInNumpy.of(balanced, precision), probes_of(balanced, []))
    assert kept
    assert worst >= coarse.LEAST


def test_what_one_side_of_a_product_loses_the_other_takes(tmp_path: Path) -> None:
    """In fp32 the balanced checkpoint is the same model, and no channel of it is far larger than the others."""
    model = checkpoint(tmp_path / "checkpoint", SHAPES["wide"])
    balanced = Balanced(tmp_path / "checkpoint")
    weights = Weights(balanced, tmp_path / "fp32.weights", "fp32", lambda _: None)
    made = decoder.build(balanced, weights, "cpu", "fp32", 256)
    weights.close()
    (tmp_path / "balanced.onnx").write_bytes(made.SerializeToString())
    given = texts([1, 2, 17, LONGEST, 40])
    ours = Forward(Session(tmp_path / "balanced.onnx", "embedding", "cpu"), 2048).run(given)
    assert worst_cosine(ours, last_states(model, given)) >= EXACT
    for norm in ("input_layernorm", "post_attention_layernorm"):
        before, after = (
            np.abs(one.read(f"layers.1.{norm}.weight")) for one in (Checkpoint(tmp_path / "checkpoint"), balanced)
        )
        assert before.max() / np.median(before) > 15
        assert after.max() / np.median(after) < 8


@pytest.mark.parametrize("size", range(1, 10))
def test_batches_of_every_size_agree_with_transformers(case: Case, size: int) -> None:
    given = texts([1 + (7 * n) % 30 for n in range(size)], seed=size)
    for name in ("cpu-fp32", "tensorrt-fp32"):
        assert worst_cosine(forward(case.bundle, name).run(given), last_states(case.model, given)) >= EXACT


@pytest.mark.parametrize("name", ["cpu-fp32", "tensorrt-fp32", INT8, "cpu-int7"])
def test_a_padded_text_has_the_vector_that_it_has_alone(case: Case, name: str) -> None:
    given = texts([*range(1, 36), 47, 63, 95, *range(125, 140), LONGEST], seed=3)
    alone = np.concatenate([forward(case.bundle, name).run([text]) for text in given])
    for budget, passes in ((10_000, 1), (200, 1), (200, 2)):
        together = forward(case.bundle, name, budget, passes).run(given)
        if name in WORST:
            assert np.array_equal(together, alone)
        else:
            assert worst_cosine(together, alone) >= EXACT


def test_what_is_padded_with_does_not_matter(case: Case) -> None:
    chosen = graph(case.bundle, "cpu-int7")
    session = Session(case.bundle.folder / chosen.file, chosen.output, "cpu")
    lengths = np.array([5, 9], dtype=np.int32)
    ids = np.array(texts([9, 9]), dtype=np.int32)
    other = ids.copy()
    other[0, 5:] = 249
    first = session.run({"input_ids": ids, "lengths": lengths})
    assert np.array_equal(first, session.run({"input_ids": other, "lengths": lengths}))


def test_a_bundle_for_a_shorter_dimension_ends_there(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "checkpoint", Shape())
    made = bundle(tmp_path / "checkpoint", tmp_path / "bundle", "cpu-fp32", dimension=40)
    given = texts([3, 20])
    ours = OnnxEmbedder(forward(made, "cpu-fp32"), made.dimension(None)).embed(given)
    assert ours.shape == (2, 40)
    assert worst_cosine(ours, truncate(last_states(model, given), 40)) >= EXACT
    assert made.dimension(33) == 33


@pytest.mark.filterwarnings("ignore")  # of the library that makes it
def test_the_stock_export_agrees(tmp_path: Path) -> None:
    """Optimum's graph of the same checkpoint, with its plain operators, on the same runtime."""
    exporters = pytest.importorskip("optimum.exporters.onnx")
    checkpoint(tmp_path / "checkpoint", Shape(), prefixed=False)
    stock = tmp_path / "stock"
    exporters.main_export(
        str(tmp_path / "checkpoint"), output=stock, task="feature-extraction", do_validation=False, opset=18,
        library_name="transformers",
    )  # fmt: skip
    session = onnxruntime.InferenceSession(str(stock / "model.onnx"), providers=["CPUExecutionProvider"])
    given = texts([1, 7, 30])
    theirs = []
    for text in given:
        ids = np.array([text], dtype=np.int64)
        every = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.arange(len(text))[None]}
        wanted = {one.name for one in session.get_inputs()}
        theirs.append(session.run(None, {name: value for name, value in every.items() if name in wanted})[0][0, -1])
    made = bundle(tmp_path / "checkpoint", tmp_path / "bundle", "cpu-fp32")
    assert worst_cosine(forward(made, "cpu-fp32").run(given), np.stack(theirs)) >= EXACT


@pytest.mark.parametrize("tied", [True, False])
def test_a_rerankers_logits_are_those_of_transformers(tmp_path: Path, tied: bool) -> None:
    model = checkpoint(tmp_path / "reranker", Shape(tied=tied), reranker=True)
    made = bundle(tmp_path / "reranker", tmp_path / "bundle", "cpu-fp32", "cpu-int7", "tensorrt-fp32")
    vocabulary = onnx_vocabulary(made)
    given = texts(list(range(1, LONGEST, 5)))
    theirs = answers(model, given, vocabulary["yes"], vocabulary["no"])
    assert made.manifest.task == "reranker"
    assert np.std(theirs) > 0.3
    for name, tolerance in (("cpu-fp32", 1e-3), ("tensorrt-fp32", 1e-3), ("cpu-int7", 0.9)):
        ours = OnnxReranker(forward(made, name)).logits(given)
        assert np.max(np.abs(ours - theirs)) < tolerance, name
    alone = np.concatenate([OnnxReranker(forward(made, "cpu-int7")).logits([text]) for text in given])
    assert np.array_equal(OnnxReranker(forward(made, "cpu-int7")).logits(given), alone)


def onnx_vocabulary(made: Bundle) -> dict[str, int]:
    import json

    return dict(json.loads(made.tokenizer.read_text())["model"]["vocab"])


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Bundle]:
    folder = tmp_path_factory.mktemp("gpu")
    model = checkpoint(folder / "checkpoint", Shape())
    graphs = ("cuda-bf16", "cuda-fp16", "tensorrt-bf16", "tensorrt-fp16", "tensorrt-fp32")
    return model, bundle(folder / "checkpoint", folder / "bundle", *graphs)


def read(made: Bundle, name: str) -> onnx.ModelProto:
    return onnx.load(made.folder / graph(made, name).file, load_external_data=False)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_cuda_graph_is_made_of_fused_operators_in_its_precision(gpu: tuple[Any, Bundle], precision: str) -> None:
    model = read(gpu[1], f"cuda-{precision}")
    kinds = [node.op_type for node in model.graph.node]
    layers = SHAPES["tied"].layers
    assert kinds.count("GroupQueryAttention") == layers
    assert kinds.count("SkipSimplifiedLayerNormalization") == 2 * layers - 1
    assert kinds.count("QuickGelu") == layers
    assert kinds.count("MatMul") == 5 * layers  # packed heads, output, gate, up, down
    assert not {"Split", "Sigmoid", "RotaryEmbedding", "Softmax"} & set(kinds)
    wanted = {"bf16": TensorProto.BFLOAT16, "fp16": TensorProto.FLOAT16}[precision]
    matrices = [one for one in model.graph.initializer if len(one.dims) == 2]
    assert {one.data_type for one in matrices} == {wanted}
    assert [one.name for one in model.graph.input] == ["input_ids", "lengths"]
    assert [one.name for one in model.graph.output] == ["embedding"]
    for node in model.graph.node:
        if node.op_type == "GroupQueryAttention":
            assert list(node.input[1:5]) == [""] * 4  # packed, nothing past
            assert len(node.output) == 1  # nothing present


def test_what_only_a_gpu_runs_is_a_valid_graph(gpu: tuple[Any, Bundle]) -> None:
    """ONNX Runtime knows the operators, accepts types and shapes, and lacks nothing but kernels on this processor."""
    for name in ("cuda-bf16", "tensorrt-bf16"):
        path = gpu[1].folder / graph(gpu[1], name).file
        with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
            onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_the_cuda_graph_computes_what_transformers_does(gpu: tuple[Any, Bundle], tmp_path: Path) -> None:
    """In fp32, with the one thing that the CPU's kernel lacks, the norms inside the attention, put before it."""
    model, made = gpu
    source = Checkpoint(made.folder.parent / "checkpoint")
    weights = Weights(source, tmp_path / "fp32.weights", "fp32", lambda _: None)
    exact = decoder.build(source, weights, "cuda", "fp32", source.config.hidden_size)
    weights.close()
    (tmp_path / "cuda.onnx").write_bytes(norms_before_attention(exact, SHAPES["tied"]).SerializeToString())
    given = texts([1, 2, 17, LONGEST, 40])
    ours = Forward(Session(tmp_path / "cuda.onnx", "embedding", "cpu"), 2048).run(given)
    assert worst_cosine(ours, last_states(model, given)) >= EXACT


def norms_before_attention(model: onnx.ModelProto, shape: Shape) -> onnx.ModelProto:
    """The packed heads normalized by plain operators, as the attention's documentation says that it does inside."""
    nodes: list[onnx.NodeProto] = []
    widths = np.array([shape.heads, shape.key_heads, shape.key_heads]) * shape.head_dim
    by_head, flat = (np.array([0, 0, -1, *rest], dtype=np.int64) for rest in ([shape.head_dim], []))
    for name, value in (("widths", widths), ("by_head", by_head), ("flat", flat)):
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.int64), name))
    for node in model.graph.node:
        if node.op_type == "GroupQueryAttention":
            packed, gains = node.input[0], node.input[14:16]
            parts = [f"{node.name}/{part}" for part in "qkv"]
            nodes.append(helper.make_node("Split", [packed, "widths"], parts, axis=-1))
            for i, gain in enumerate(gains):
                heads, normed = f"{parts[i]}/heads", f"{parts[i]}/normed"
                nodes.append(helper.make_node("Reshape", [parts[i], "by_head"], [heads]))
                norm = helper.make_node("SimplifiedLayerNormalization", [heads, gain], [normed], axis=-1, epsilon=1e-6)
                nodes.append(norm)
                parts[i] = f"{parts[i]}/flat"
                nodes.append(helper.make_node("Reshape", [normed, "flat"], [parts[i]]))
            nodes.append(helper.make_node("Concat", parts, [f"{node.name}/packed"], axis=-1))
            del node.input[14:]
            node.input[0] = f"{node.name}/packed"
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_the_tensorrt_graph_has_standard_operators_and_every_shape(gpu: tuple[Any, Bundle], precision: str) -> None:
    model = read(gpu[1], f"tensorrt-{precision}")
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 23)]
    assert CONTRIB not in {node.domain for node in model.graph.node}
    attention = [node for node in model.graph.node if node.op_type == "Attention"]
    assert len(attention) == SHAPES["tied"].layers
    for node in attention:
        assert len(node.input) == 3  # the causal flag excludes a mask
        assert {"is_causal": 1}.items() <= {a.name: a.i for a in node.attribute}.items()
    inferred = {one.name: one.type.tensor_type for one in model.graph.value_info}
    for value in (name for node in model.graph.node for name in node.output):
        if value and value != "embedding":
            assert inferred[value].HasField("shape"), value
    wanted = {"bf16": TensorProto.BFLOAT16, "fp16": TensorProto.FLOAT16, "fp32": TensorProto.FLOAT}[precision]
    assert {one.data_type for one in model.graph.initializer if len(one.dims) == 2} == {wanted}


def test_graphs_of_one_precision_share_their_weights(gpu: tuple[Any, Bundle]) -> None:
    names = set(gpu[1].manifest.files)
    assert {name for name in names if name.endswith(".weights")} == {
        "gpu-bf16.weights", "gpu-fp16.weights", "gpu-fp32.weights"
    }  # fmt: skip
    assert load(gpu[1].folder).manifest == gpu[1].manifest
