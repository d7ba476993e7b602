"""How fast the model is on a GPU: python benchmarks/gpu.py [--sizes 0.6B,4B,8B] [--providers cuda,tensorrt] [--dry-run]

Full architectures with random weights in bf16. For each size and length of text: tokens per second and MFU of our
graph on each provider, with the attention kernel that ONNX Runtime chooses and with FlashAttention-2, beside
transformers with scaled dot product attention on the same texts in the same run; and the time to rerank 100 candidates
of 256 tokens. Needs a GPU, onnxruntime-gpu, torch, transformers and safetensors. What was not measured stays empty.

--dry-run measures a tiny model on the processor in the place of everything: it shows that the script runs, no more.
"""

import argparse
import dataclasses
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "worker")]

from benchmarks import checkpoints  # noqa: E402
from benchmarks.report import machine, table, write  # noqa: E402
from penstock.models.bundle import Bundle, load  # noqa: E402
from penstock.models.export import qwen3  # noqa: E402
from penstock.models.export.locate import locate  # noqa: E402
from penstock.models.export.options import Options  # noqa: E402
from penstock.models.providers import BUDGET  # noqa: E402
from penstock.models.runtime import ProviderRequest  # noqa: E402
from penstock.models.runtime import load as start  # noqa: E402
from tests.checkpoints import silent  # noqa: E402

LENGTHS = (128, 512, 2048, 8192)
TOKENS = 131_072
"""Per measurement."""

PEAK_TFLOPS = 989.0
"""Of an H200 in bf16 without sparsity, by its data sheet."""

CANDIDATES, PAIR = 100, 256
RUNS = 3
FLASH = {"ORT_ENABLE_CUDNN_FLASH_ATTENTION": "0"}
"""Without cuDNN's kernel ONNX Runtime takes FlashAttention-2."""


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """A way to compute: a provider with an environment, or transformers."""

    name: str
    provider: str
    environment: dict[str, str] = dataclasses.field(default_factory=dict)


WAYS = (
    Way("ONNX Runtime CUDA", "cuda"),
    Way("ONNX Runtime CUDA, FlashAttention-2", "cuda", FLASH),
    Way("ONNX Runtime TensorRT", "tensorrt"),
    Way("transformers, sdpa", "torch"),
)


def ours(bundle: Bundle, provider: str, engines: Path) -> Callable[[list[list[int]]], Any]:
    request = ProviderRequest(
        (provider,), required=provider, token_budget=BUDGET[provider], passes=1, engine_cache=engines
    )
    return start(bundle, request).forward.run


def transformers(folder: Path, device: str) -> Callable[[list[list[int]]], Any]:
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation="sdpa").eval().to(device)

    def run(texts: list[list[int]]) -> Any:
        size = max(1, BUDGET["cuda"] // len(texts[0]))
        parts = (torch.tensor(texts[at : at + size], device=device) for at in range(0, len(texts), size))
        with torch.no_grad():
            return [model(input_ids=part).last_hidden_state[:, -1].float().cpu() for part in parts]

    return run


def seconds(run: Callable[[list[list[int]]], Any], texts: list[list[int]]) -> float:
    run(texts[: max(1, len(texts) // 4)])
    run(texts)
    spent = []
    for _ in range(RUNS):
        started = time.perf_counter()
        run(texts)
        spent.append(time.perf_counter() - started)
    return statistics.median(spent)


def one(folder: Path, way: Way, lengths: Sequence[int], tokens: int, *, dry: bool) -> list[str]:
    """Cells of one row, made in this process: tokens/s and MFU per length, then the reranking."""
    bundle = load(folder / "bundle")
    provider = "cpu" if dry else way.provider
    run = (
        transformers(folder / "checkpoint", "cpu" if dry else "cuda")
        if way.provider == "torch"
        else ours(bundle, provider, folder / "engines")
    )
    assert bundle.manifest.work is not None
    cells = []
    for length in lengths:
        texts = [[n % 250] * length for n in range(max(1, tokens // length))]
        rate = 1 / seconds(run, texts)
        mfu = len(texts) * bundle.manifest.work.flops(length) * rate / 1e12 / PEAK_TFLOPS
        cells.append(f"{len(texts) * length * rate:,.0f} ({mfu:.0%})")
    pairs = [[n % 250] * PAIR for n in range(CANDIDATES)]
    return [*cells, f"{seconds(run, pairs) * 1e3:,.0f} ms"]


def row(folder: Path, size: str, way: Way, lengths: Sequence[int], *, dry: bool) -> tuple[str, ...]:
    """In a process of its own, so that no way keeps the others' memory; empty cells when it fails."""
    command = [sys.executable, __file__, "--row", way.name, "--folder", str(folder), *(["--dry-run"] if dry else [])]
    done = subprocess.run(command, env=os.environ | way.environment, capture_output=True, text=True, check=False)
    print(f"{size} {way.name}: {done.stdout.strip() or done.stderr.strip()[-400:]}", flush=True)
    cells = done.stdout.strip().split(";") if done.returncode == 0 else [""] * (len(lengths) + 1)
    return size, way.name, *cells


def prepare(folder: Path, size: str, providers: Sequence[str], *, dry: bool) -> None:
    checkpoints.write(folder / "checkpoint", size)
    dialects = ("cpu",) if dry else tuple(providers)
    made = Options(dialects=dialects, precisions=("fp32" if dry else "bf16",))
    qwen3.export_bundle(locate(str(folder / "checkpoint"), None), folder / "bundle", made, silent)


def gpu() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "no GPU"
    command = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="0.6B,4B,8B")
    parser.add_argument("--providers", default="cuda", help="tensorrt needs engines, which take minutes")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    lengths = (128, 512) if options.dry_run else LENGTHS
    if options.row:
        way = next(way for way in WAYS if way.name == options.row)
        print(";".join(one(options.folder, way, lengths, 2048 if options.dry_run else TOKENS, dry=options.dry_run)))
        return
    providers = options.providers.split(",")
    rows = []
    for size in ["tiny"] if options.dry_run else options.sizes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder), size, providers, dry=options.dry_run)
            ways = [way for way in WAYS if options.dry_run or way.provider in (*providers, "torch")]
            rows += [row(Path(folder), size, way, lengths, dry=options.dry_run) for way in ways]
    header = ("model", "way", *(f"tokens/s at {length} (MFU)" for length in lengths), f"{CANDIDATES} x {PAIR} tokens")
    if options.dry_run:
        print("A dry run: all figures are those of a tiny model on the processor.")
    text = f"# Models on GPUs\n\n{machine()}. {gpu()}. MFU of {PEAK_TFLOPS:.0f} TFLOP/s.\n\n{table(rows, header)}"
    print(text)
    if not options.dry_run:
        write("gpu", text)


if __name__ == "__main__":
    main()
