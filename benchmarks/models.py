"""How fast the model is on processors, beside its peers: python benchmarks/models.py [--size 0.6B] [--quick]

The full architecture with random weights, one run: every way is a process of its own, all are loaded, and they take
turns. OpenVINO is asked through the Python that PEERS_PYTHON names (with openvino, nncf and numpy installed).
Prints a table of tokens per second and ratios, and writes it to benchmarks/results/.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "worker")]

from benchmarks import checkpoints  # noqa: E402
from benchmarks.peers import PEERS  # noqa: E402
from benchmarks.report import machine, table, write  # noqa: E402
from penstock.models.export import qwen3  # noqa: E402
from penstock.models.export.locate import locate  # noqa: E402
from penstock.models.export.options import Options  # noqa: E402
from penstock.operate.bench import MIXED, lengths  # noqa: E402
from tests.checkpoints import silent  # noqa: E402

REFERENCE = "optimum export, ONNX Runtime fp32"
WORKLOADS = {
    "8 x 128": [128] * 8,
    "32 x 32": [32] * 32,
    "mixed": lengths(MIXED, 3000, 512),
    "one of 16": [16],
}
ROUNDS = 3
ENOUGH = 500
"""Tokens that a measurement has at least, by repeating it."""


class Peer:
    """A process that embeds."""

    def __init__(self, name: str, process: "subprocess.Popen[str]") -> None:
        self.name, self._process = name, process
        self.ready = process.stdout is not None and process.stdout.readline().strip() == "ready"

    def embed(self, texts: list[list[int]]) -> tuple[float, np.ndarray]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(texts), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        return answer["seconds"], np.array(answer["vectors"])


@contextmanager
def started(name: str, folder: Path) -> Iterator[Peer]:
    python = os.environ.get("PEERS_PYTHON", sys.executable) if name.startswith("OpenVINO") else sys.executable
    command = [python, str(ROOT / "benchmarks" / "peers.py"), name, str(folder)]
    log = (folder / "log.txt").open("a")
    with (
        log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        yield Peer(name, process)
        process.kill()


def prepare(folder: Path, size: str) -> None:
    """The checkpoint, the stock export, and our bundle."""
    checkpoints.write(folder / "checkpoint", size)
    from optimum.exporters.onnx import main_export

    main_export(
        str(folder / "checkpoint"), output=folder / "stock", task="feature-extraction", do_validation=False, opset=18,
        library_name="transformers",
    )  # fmt: skip
    options = Options(
        dialects=("cpu",),
        precisions=(
            "int8",
            "fp32",
        ),
    )
    qwen3.export_bundle(locate(str(folder / "checkpoint"), None), folder / "bundle", options, silent)


def measure(folder: Path, rounds: int, workloads: dict[str, list[int]]) -> str:
    chance = random.Random(0)
    texts = {name: [[chance.randrange(250) for _ in range(n)] for n in shape] for name, shape in workloads.items()}
    seconds: dict[tuple[str, str], list[float]] = {}
    vectors: dict[str, list[np.ndarray]] = {}
    with ExitStack() as opened:
        peers = [opened.enter_context(started(name, folder)) for name in PEERS]
        missing = [peer.name for peer in peers if not peer.ready]
        peers = [peer for peer in peers if peer.ready]
        for turn in range(rounds + 1):  # the first round warms up
            for workload, given in texts.items():
                for peer in peers:
                    for _ in range(max(1, ENOUGH // sum(map(len, given)))):
                        spent, embedded = peer.embed(given)
                        if turn:
                            seconds.setdefault((peer.name, workload), []).append(spent)
                    vectors.setdefault(peer.name, []).append(embedded)
    rows = []
    for peer in peers:
        row = [peer.name]
        for workload, given in texts.items():
            peer_s, reference = (statistics.median(seconds[name, workload]) for name in (peer.name, REFERENCE))
            row.append(f"{sum(map(len, given)) / peer_s:,.0f} ({reference / peer_s:.2f})")
        cosines = np.sum(np.concatenate(vectors[peer.name]) * np.concatenate(vectors[REFERENCE]), axis=1)
        rows.append((*row, f"{cosines.min():.4f}"))
    rows += [(name, *([""] * len(workloads)), "") for name in missing]
    header = (f"tokens/s (times {REFERENCE})", *workloads, "worst cosine to it")
    note = f"\nNot installed here, hence empty: {', '.join(missing)}.\n" if missing else ""
    return table(rows, header) + note


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="0.6B", choices=checkpoints.SIZES)
    parser.add_argument("--folder", type=Path, help="keep checkpoint and exports here, or find them")
    parser.add_argument("--only", choices=WORKLOADS, help="one workload, written apart")
    parser.add_argument("--quick", action="store_true", help="one round, nothing written")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        folder = options.folder or Path(passing) / "models"
        if not (folder / "bundle").exists():
            prepare(folder, options.size)
        workloads = {name: shape for name, shape in WORKLOADS.items() if options.only in (None, name)}
        measured = measure(folder, 1 if options.quick else ROUNDS, workloads)
    what = f"Qwen3-Embedding {options.size}, random weights, medians of {ROUNDS} rounds"
    text = f"# Models on processors\n\n{machine()}. {what}.\n\n{measured}"
    print(text)
    if not options.quick:
        write("models" if options.only is None else f"models-{options.only.replace(' ', '-')}", text)


if __name__ == "__main__":
    main()
