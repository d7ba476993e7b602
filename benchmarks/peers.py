"""One way to compute embeddings, in a process of its own: python benchmarks/peers.py NAME FOLDER [THREADS]

Reads one JSON list of texts (lists of token ids) per line, and answers each with a JSON line: seconds, and the vectors'
first numbers. FOLDER holds ``checkpoint``, ``stock`` (optimum's export) and ``bundle`` (ours).
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Texts = Sequence[Sequence[int]]
Embed = Callable[[Texts], Any]

BATCH = 8
"""Texts per pass of the peers, sorted by length; ours decides by token budget."""

SHOWN = 64


def ours(folder: Path, threads: int, precision: str, passes: int = 0, *, spinning: bool = False) -> Embed:
    """Our graph, in our worker's code."""
    from penstock.models.bundle import load
    from penstock.models.providers import BUDGET
    from penstock.models.runtime import on_processor

    bundle = load(folder / "bundle")
    graph = next(graph for graph in bundle.manifest.graphs if (graph.dialect, graph.precision) == ("cpu", precision))
    return on_processor(bundle, graph, BUDGET["cpu"], threads, passes, spinning=spinning).run


def stock(folder: Path, threads: int, *, quantized: bool = False) -> Embed:
    """Optimum's export on ONNX Runtime, as it is or quantized dynamically by the runtime's own tool."""
    import onnxruntime

    path = folder / ("stock-int8" if quantized else "stock") / "model.onnx"
    if quantized and not path.exists():
        from onnxruntime.quantization import quantize_dynamic

        path.parent.mkdir()
        quantize_dynamic(folder / "stock" / "model.onnx", path, per_channel=True, use_external_data_format=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    wanted = {node.name for node in session.get_inputs()}
    return batched(lambda ids, mask: session.run(None, {k: v for k, v in feeds(ids, mask).items() if k in wanted})[0])


def openvino(folder: Path, threads: int, precision: str) -> Embed:
    """OpenVINO on optimum's export: bf16, or int8 weights with dynamic quantization of activations."""
    import openvino as ov

    core = ov.Core()
    model = core.read_model(folder / "stock" / "model.onnx")
    config: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "bf16"}
    if precision == "int8":
        import nncf

        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
        config["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 128
    request = core.compile_model(model, "CPU", config).create_infer_request()
    wanted = {node.get_any_name() for node in model.inputs}
    return batched(lambda ids, mask: request.infer({k: v for k, v in feeds(ids, mask).items() if k in wanted})[0])


def transformers(folder: Path, threads: int, precision: str) -> Embed:
    """PyTorch with scaled dot product attention."""
    import torch
    from transformers import AutoModel

    torch.set_num_threads(threads)
    model = AutoModel.from_pretrained(folder / "checkpoint", dtype=getattr(torch, precision)).eval()

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            states = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).last_hidden_state
            return np.asarray(states.float().numpy())

    return batched(run)


def sentence_transformers(folder: Path, threads: int) -> Embed:
    """The library, from token ids on, as it computes by default: fp32, batches of 32, longest texts first."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    torch.set_num_threads(threads)
    word = Transformer(str(folder / "checkpoint"))
    pooling = Pooling(word.get_word_embedding_dimension(), pooling_mode="lasttoken")
    model = SentenceTransformer(modules=[word, pooling], device="cpu")

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            given = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
            return np.asarray(model(given)["sentence_embedding"].float().numpy())

    return batched(run, 32, pooled=True)


def feeds(ids: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
    """All inputs that an export may have."""
    return {"input_ids": ids, "attention_mask": mask, "position_ids": np.tile(np.arange(ids.shape[1]), (len(ids), 1))}


def batched(run: Callable[[np.ndarray, np.ndarray], Any], size: int = BATCH, *, pooled: bool = False) -> Embed:
    """Sorted by length, padded on the right, last token pooled."""

    def embed(texts: Texts) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        vectors: dict[int, Any] = {}
        for start in range(0, len(order), size):
            part = order[start : start + size]
            lengths = np.array([len(texts[i]) for i in part])
            ids = np.zeros((len(part), lengths.max()), dtype=np.int64)
            for row, i in enumerate(part):
                ids[row, : lengths[row]] = texts[i]
            states = run(ids, (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64))
            vectors |= dict(zip(part, states if pooled else states[np.arange(len(part)), lengths - 1], strict=True))
        return np.stack([vectors[i] for i in range(len(texts))])

    return embed


PEERS: dict[str, Callable[[Path, int], Embed]] = {
    "ours, int8 per token": lambda folder, threads: ours(folder, threads, "int8"),
    "ours, int8 per token, one pass": lambda folder, threads: ours(folder, threads, "int8", 1),
    "ours, int8 per token, one pass, spinning": lambda folder, threads: ours(folder, threads, "int8", 1, spinning=True),
    "ours, fp32": lambda folder, threads: ours(folder, threads, "fp32"),
    "optimum export, ONNX Runtime fp32": stock,
    "optimum export, dynamic int8 per tensor": lambda folder, threads: stock(folder, threads, quantized=True),
    "transformers bf16": lambda folder, threads: transformers(folder, threads, "bfloat16"),
    "sentence-transformers fp32": sentence_transformers,
    "OpenVINO bf16": lambda folder, threads: openvino(folder, threads, "bf16"),
    "OpenVINO int8, dynamic quantization": lambda folder, threads: openvino(folder, threads, "int8"),
}


def main() -> None:
    """Answer until the input ends."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not look like an answer
    embed = PEERS[name](folder, int(sys.argv[3]) if len(sys.argv) > 3 else os.cpu_count() or 1)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        texts = json.loads(line)
        started = time.perf_counter()
        vectors = np.asarray(embed(texts))
        seconds = time.perf_counter() - started
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        print(json.dumps({"seconds": seconds, "vectors": unit.tolist()}), file=answers, flush=True)


if __name__ == "__main__":
    ROOT = Path(__file__).parent.parent
    sys.path[:0] = [str(ROOT), str(ROOT / "worker")]
    main()
