"""Which provider runs which graph, for which shapes engines exist, and what happens when memory does not suffice."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from penstock.core.errors import Misconfigured
from penstock.core.vectors import Vector
from penstock.models.bundle import Bundle, Graph, Manifest, TokenCost
from penstock.models.export.weights import IN_BYTES, quantize_rows
from penstock.models.forward import Forward
from penstock.models.providers import MULTIPLE, Limits, covers, engine_folder, options, profiles
from penstock.models.runtime import EngineRouter, ProviderRequest, load
from penstock.models.session import BoundSession, Feeds, OutOfMemory, Session, cores, multiplies_bytes
from tests.conftest import ROOT


class Counting:
    """A graph that sums its ids, and has memory for so many padded tokens."""

    inputs = frozenset({"input_ids", "lengths"})
    width = 2
    provider = "test"

    def __init__(self, most: int) -> None:
        self.most, self.shapes = most, list[tuple[int, ...]]()

    def run(self, feeds: Feeds) -> Vector:
        ids, lengths = feeds["input_ids"], feeds["lengths"]
        if ids.size > self.most:
            raise OutOfMemory("no more")
        self.shapes.append(ids.shape)
        real = np.arange(ids.shape[1]) < lengths[:, None]
        return np.stack([(ids * real).sum(axis=1), lengths], axis=1).astype(np.float32)


TEXTS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=30), max_size=20)


@given(texts=TEXTS, most=st.integers(32, 400), budget=st.integers(1, 500), passes=st.integers(1, 3))
def test_too_large_a_batch_is_halved_and_nothing_is_lost(
    texts: list[list[int]], most: int, budget: int, passes: int
) -> None:
    graph = Counting(most)
    results = Forward(graph, budget, 4, passes).run(texts)
    assert results.tolist() == [[sum(text), len(text)] for text in texts]
    assert all(shape[1] % 4 == 0 and np.prod(shape) <= most for shape in graph.shapes)


def test_a_text_that_does_not_fit_alone_says_what_to_do() -> None:
    with pytest.raises(Misconfigured, match=r"a text of 50 tokens.*index\.chunk_tokens"):
        Forward(Counting(40), 1000).run([[1] * 50, [1]])


def test_what_the_runtime_says_without_memory_is_understood(minilm: Path) -> None:
    """A real refusal, in a process that may have 200 MB more than the model needs."""
    session = Session(minilm / "model.onnx", "sentence_embedding", "cpu")
    ids = np.ones((64, 512), dtype=np.int64)
    program = """
import resource, sys
import numpy as np
from pathlib import Path
from penstock.models.session import OutOfMemory, Session
session = Session(Path(sys.argv[1]), "sentence_embedding", "cpu")
held = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (held + (200 << 20),) * 2)
ids = np.ones((256, 512), dtype=np.int64)
try:
    session.run({name: ids for name in session.inputs})
except OutOfMemory as error:
    print("understood", error)
"""
    command = [sys.executable, "-c", program, str(minilm / "model.onnx")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "understood" in done.stdout, done.stderr
    assert session.run(dict.fromkeys(session.inputs, ids[:1])).shape == (1, session.width)


def test_inputs_in_buffers_of_their_own_give_the_same_result(minilm: Path) -> None:
    raw = onnxruntime.InferenceSession(str(minilm / "model.onnx"), providers=["CPUExecutionProvider"])
    session, bound = (
        Session(minilm / "model.onnx", "sentence_embedding", "cpu"),
        BoundSession(raw, "sentence_embedding", "cpu"),
    )
    for seed, shape in enumerate([(1, 5), (3, 8), (1, 5), (2, 8)] * 20):
        ids = np.random.default_rng(seed).integers(1000, 2000, shape)
        feeds = {name: np.ones_like(ids) if "mask" in name else ids * (name == "input_ids") for name in session.inputs}
        assert np.allclose(bound.run(feeds), session.run(feeds), atol=1e-6)


@given(budget=st.integers(1, 70_000), longest=st.integers(8, 40_000), ends=st.sets(st.integers(1, 5000), min_size=1))
def test_engines_cover_every_batch_of_the_stream_up_to_the_last(budget: int, longest: int, ends: set[int]) -> None:
    found = profiles(budget, longest, sorted(ends))
    reach = max((one.longest for one in found), default=0)
    for length in range(MULTIPLE["tensorrt"], min(longest, reach) + 1, MULTIPLE["tensorrt"]):
        assert any(covers(one, max(1, budget // length), length) for one in found)
    assert not any(covers(one, 1, reach + 1) for one in found)
    assert all(after.shortest == before.longest + 1 for before, after in itertools.pairwise(found))


def test_shapes_without_an_engine_go_through_cuda() -> None:
    others, engines = Counting(10**6), [(profile, Counting(10**6)) for profile in profiles(1024, 8192)]
    routed = EngineRouter(engines, others)
    for batch, length in ((2, 512), (1, 1024), (1, 2048), (65, 16), (64, 16), (8, 128), (3, 512)):
        ids = np.ones((batch, length), dtype=np.int32)
        routed.run({"input_ids": ids, "lengths": np.full(batch, length, dtype=np.int32)})
    assert [graph.shapes for _, graph in engines] == [[(64, 16), (8, 128)], [(2, 512), (3, 512)]]
    assert others.shapes == [(1, 1024), (1, 2048), (65, 16)]


def test_tensorrt_is_told_its_shapes_its_precision_and_where_engines_are_kept(tmp_path: Path) -> None:
    first, second = profiles(4096, 512)
    told = options("tensorrt", Limits(engines=tmp_path, profile=first), "bf16")
    assert told["trt_profile_min_shapes"] == "input_ids:1x1,lengths:1"
    assert told["trt_profile_opt_shapes"] == "input_ids:128x128,lengths:128"
    assert told["trt_profile_max_shapes"] == "input_ids:256x128,lengths:256"
    assert told["trt_bf16_enable"] == "1"
    assert told["trt_engine_cache_path"] == told["trt_timing_cache_path"] == str(tmp_path)
    assert options("tensorrt", Limits(profile=second))["trt_profile_min_shapes"] == "input_ids:1x129,lengths:1"
    assert options("cuda", Limits(gpu_memory=1 << 30))["gpu_mem_limit"] == str(1 << 30)
    assert options("cpu", Limits()) == {}


def test_engines_of_another_model_library_or_gpu_are_kept_apart(tmp_path: Path) -> None:
    kept = {
        engine_folder(tmp_path, {"a.onnx": "1", "weights": weights}, {"onnxruntime": ort, "tensorrt-cu13": trt}, gpu)
        for weights in ("1", "2")
        for ort in ("1.31", "1.32")
        for trt in ("10.15", "10.16")
        for gpu in ("H200", "L4")
    }
    assert len(kept) == 16


def listed(folder: Path, *graphs: tuple[str, str]) -> Bundle:
    made = tuple(Graph(dialect=d, precision=p, file=f"{d}-{p}.onnx", output="out") for d, p in graphs)
    manifest = Manifest(
        source="test", revision="1", dimension=4, dimensions=(4,), pooling="mean", max_tokens=32, graphs=made, files={}
    )
    return Bundle(folder, manifest)


def test_a_provider_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    bundle = listed(tmp_path, ("cuda", "bf16"))
    for wish, said in (
        (
            ProviderRequest(("cuda", "cpu")),
            "no execution provider works: cuda is not in this build .*no graph for cpu, only",
        ),
        (
            ProviderRequest(("tensorrt", "cuda"), required="cuda"),
            r"model\.require_provider = cuda cannot be had: cuda is not",
        ),
    ):
        with pytest.raises(Misconfigured, match=said):
            load(bundle, wish)


def test_another_provider_than_the_required_one_is_refused(minilm: Path) -> None:
    from penstock.models.bundle import load as read

    bundle = read(minilm)
    assert load(bundle, ProviderRequest(("cuda", "cpu"))).provider == "cpu"
    with pytest.raises(Misconfigured, match=r"model\.require_provider = cuda cannot be had: cuda is not in this build"):
        load(bundle, ProviderRequest(("cuda", "cpu"), required="cuda"))


def test_int8_is_run_only_where_bytes_are_multiplied_exactly(tmp_path: Path) -> None:
    for flags, exact in (
        ("fpu avx2 avx512_vnni", True),
        ("fpu avx2 avx512f", False),
        ("fp asimddp", True),
        ("", False),
    ):
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
        assert multiplies_bytes(tmp_path / "cpuinfo") is exact
    assert not multiplies_bytes(tmp_path / "nowhere")


def test_seven_bits_are_exact_on_every_processor() -> None:
    """The worst that a matrix can hold times the worst that a token can: no sum of two products leaves 16 bits."""
    matrix = np.where(np.arange(64)[:, None] % 2, 1.0, -1.0) * np.ones((64, 96))
    matrix[:2] = np.abs(matrix[:2])
    quantized, _ = quantize_rows(matrix.T, IN_BYTES["int7"])
    names = ["x", "weights", "one", "scale", "zero"]
    node = helper.make_node("MatMulIntegerToFloat", names, ["y"], domain="com.microsoft")
    constants = {"weights": quantized.T, "one": np.float32(1), "scale": np.ones(96, np.float32), "zero": np.uint8(0)}
    held = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()]
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, ["n", 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 96])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph([node], "product", [x], [y], held), opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = np.full((7, 64), 255, np.uint8)
    (product,) = session.run(None, {"x": given})
    assert np.array_equal(product, given.astype(np.int64) @ quantized.T.astype(np.int64))
    assert np.abs(quantized).max() == 63


def test_the_better_graph_of_a_provider_comes_first(tmp_path: Path) -> None:
    bundle = listed(tmp_path, ("onnx", "fp32"), ("cpu", "int8"), ("cpu", "fp32"), ("cuda", "bf16"))
    assert [f"{one.dialect}-{one.precision}" for one in bundle.graphs("cpu")] == ["cpu-int8", "cpu-fp32", "onnx-fp32"]
    assert [one.dialect for one in bundle.graphs("cuda")] == ["cuda", "onnx"]


@given(st.lists(st.integers(1, 300), max_size=40), st.integers(1, 2000), st.sampled_from([1, 4, 16]), st.integers(1, 3))
def test_the_padding_share_is_that_of_what_runs(lengths: list[int], budget: int, multiple: int, passes: int) -> None:
    graph = Counting(10**9)
    forward = Forward(graph, budget, multiple, passes)
    forward.run([[1] * length for length in lengths])
    computed = sum(int(np.prod(shape)) for shape in graph.shapes)
    assert forward.padding_share(lengths) == pytest.approx(1 - sum(lengths) / computed if computed else 0)


def test_cores_are_those_of_the_quota(tmp_path: Path) -> None:
    own = cores(tmp_path / "nowhere")
    for text, most in (("100000 100000", 1), ("50000 100000", 1), ("max 100000", own), (f"{own}00000 100000", own)):
        (tmp_path / "cpu.max").write_text(text)
        assert cores(tmp_path / "cpu.max") == most


def test_the_work_of_the_06b_model_is_that_of_its_published_shape() -> None:
    """28 layers, 16 query heads of 128: 0.88 GFLOP per token for matrices, 0.059 more for attention in 512 tokens."""
    work = TokenCost(
        matrix_parameters=28 * (1024 * (2048 + 2 * 1024) + 2048 * 1024 + 3 * 1024 * 3072), query_width=28 * 2048
    )
    assert 2 * work.matrix_parameters / 1e9 == pytest.approx(0.88, abs=0.005)
    assert work.flops(512) / 512 / 1e9 == pytest.approx(0.88 + 0.059, abs=0.005)
