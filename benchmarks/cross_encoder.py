"""The same pairs through our reranker and through sentence-transformers' CrossEncoder, in turns:
python benchmarks/cross_encoder.py [--size 0.6B] [--quick]

One checkpoint with random weights and a head of one label, as of Qwen3-Reranker made into a classifier; both get the
same token ids. Pairs per second, medians; and how far the logits are apart.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "worker")]

from benchmarks import checkpoints  # noqa: E402
from benchmarks.report import machine, table, write  # noqa: E402
from penstock.models.bundle import load  # noqa: E402
from penstock.models.export import qwen3  # noqa: E402
from penstock.models.export.locate import locate  # noqa: E402
from penstock.models.export.options import Options  # noqa: E402
from penstock.models.providers import BUDGET  # noqa: E402
from penstock.models.reranker import OnnxReranker  # noqa: E402
from penstock.models.runtime import on_processor  # noqa: E402
from tests.checkpoints import silent  # noqa: E402

PAD = "<|endoftext|>"
PAIRS, BATCH, RUNS = 16, 8, 3
QUERY, DOCUMENTS = 90, (32, 128, 300)
"""Characters, each a token here: about those of template and query, and of documents."""


def classifier(folder: Path, size: str) -> Path:
    """The checkpoint, with what transformers needs beside it."""
    checkpoint = checkpoints.write(folder / "reranker", size, ends=False)
    head = np.random.default_rng(1).standard_normal((1, checkpoints.SIZES[size].hidden)).astype(ml_dtypes.bfloat16)
    save_file(
        {"score.weight": head * ml_dtypes.bfloat16(0.02)}, checkpoint / "head.safetensors", metadata={"format": "pt"}
    )
    index = checkpoint / "model.safetensors.index.json"
    places = json.loads(index.read_text())
    places["weight_map"]["score.weight"] = "head.safetensors"
    index.write_text(json.dumps(places))
    config = json.loads((checkpoint / "config.json").read_text())
    padding = Tokenizer.from_file(str(checkpoint / "tokenizer.json")).token_to_id(PAD)
    config |= {"architectures": ["Qwen3ForSequenceClassification"], "id2label": {"0": "yes"}, "pad_token_id": padding}
    (checkpoint / "config.json").write_text(json.dumps(config))
    named = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD, "model_max_length": 4096}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(named))
    return checkpoint


def texts() -> list[tuple[str, str]]:
    """Pairs of letters, documents of different lengths."""
    chance = random.Random(0)

    def letters(count: int) -> str:
        return "".join(chance.choice("bcdfghjklmpqvwxz") for _ in range(count))

    query = letters(QUERY)
    return [(query, letters(chance.choice(DOCUMENTS))) for _ in range(PAIRS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="0.6B", choices=checkpoints.SIZES)
    parser.add_argument("--quick", action="store_true", help="nothing written")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        checkpoint = classifier(Path(passing), options.size)
        made = Options(
            dialects=("cpu",),
            precisions=(
                "fp32",
                "int8",
            ),
            task="reranker",
        )
        qwen3.export_bundle(locate(str(checkpoint), None), Path(passing) / "bundle", made, silent)
        ways, tokens = ways_of(checkpoint, Path(passing) / "bundle")
        spent: dict[str, list[float]] = {name: [] for name in ways}
        logits: dict[str, np.ndarray] = {}
        for _ in range(RUNS):
            for name, way in ways.items():
                started = time.perf_counter()
                logits[name] = way()
                spent[name].append(time.perf_counter() - started)
                print(f"{name}: {spent[name][-1]:.1f} s", flush=True)
    rates = {name: PAIRS / statistics.median(each) for name, each in spent.items()}
    best = max(rate for name, rate in rates.items() if name.startswith("CrossEncoder"))
    exact = logits["CrossEncoder fp32"]
    rows = [
        (name, f"{rate:.2f}", f"{rate / best:.2f}", f"{np.abs(logits[name] - exact).max() / exact.std():.4f}")
        for name, rate in rates.items()
    ]
    header = ("", "pairs/s", "of the better CrossEncoder", "largest difference of logits, in their deviation")
    text = (
        f"# Reranking beside sentence-transformers\n\n{machine()}. {' '.join(__doc__.split(chr(10) * 2)[1].split())} "
    )
    text += f"Qwen3-Reranker {options.size}; {PAIRS} pairs, {tokens} tokens; CrossEncoder in batches of {BATCH}.\n\n"
    text += table(rows, header)
    print(text)
    if not options.quick:
        write("cross-encoder", text)


def predict(model: Any, pairs: list[tuple[str, str]]) -> np.ndarray:
    import torch

    logits = model.predict(pairs, batch_size=BATCH, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    return np.asarray(logits, dtype=np.float32)


def ways_of(checkpoint: Path, folder: Path) -> tuple[dict[str, Callable[[], np.ndarray]], int]:
    """Each way to score the pairs, and how many tokens they have."""
    import torch
    from sentence_transformers import CrossEncoder

    untyped: Any = CrossEncoder
    pairs = texts()
    ways: dict[str, Callable[[], np.ndarray]] = {}
    ids: list[list[int]] = []
    for name in ("float32", "bfloat16"):
        model = untyped(str(checkpoint), device="cpu", model_kwargs={"dtype": getattr(torch, name)})
        ids = ids or [model.tokenizer(query, document)["input_ids"] for query, document in pairs]
        short = {"float32": "fp32", "bfloat16": "bf16"}[name]
        ways[f"CrossEncoder {short}"] = partial(predict, model, pairs)
    bundle = load(folder)
    for graph in bundle.manifest.graphs:
        ours = OnnxReranker(on_processor(bundle, graph, BUDGET["cpu"], 0, 0, spinning=False))
        ways[f"ours {graph.precision}"] = partial(ours.logits, ids)
    return ways, sum(map(len, ids))


if __name__ == "__main__":
    main()
