"""Pairs per second of a reranker, and what sharing the prefix of one query's pairs could save at most:
python benchmarks/rerank.py [--size 0.6B] [--quick]

A pair begins with the system message, the instruction and the query, which all candidates of a query share. Leaving
these tokens out altogether costs less than any way to share them: the ratio is an upper bound of what sharing gives.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "worker")]

from benchmarks import checkpoints  # noqa: E402
from benchmarks.report import machine, table, write  # noqa: E402
from penstock.models.bundle import load  # noqa: E402
from penstock.models.export import qwen3  # noqa: E402
from penstock.models.export.locate import locate  # noqa: E402
from penstock.models.export.options import Options  # noqa: E402
from penstock.models.reranker import OnnxReranker  # noqa: E402
from penstock.models.runtime import ProviderRequest  # noqa: E402
from penstock.models.runtime import load as start  # noqa: E402
from tests.checkpoints import silent  # noqa: E402

SHARED, SUFFIX = 85, 10
"""Tokens of the template with the default instruction and a query of ten tokens, and those after the document; counted
from the template's text at about four characters a token."""

DOCUMENTS = (32, 64, 128, 256, 512)
PAIRS = 16
RUNS = 3


def seconds(reranker: OnnxReranker, length: int) -> float:
    chance = random.Random(length)
    pairs = [[chance.randrange(250) for _ in range(length)] for _ in range(PAIRS)]
    reranker.logits(pairs)
    spent = []
    for _ in range(RUNS):
        started = time.perf_counter()
        reranker.logits(pairs)
        spent.append(time.perf_counter() - started)
    return statistics.median(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="0.6B", choices=checkpoints.SIZES)
    parser.add_argument("--quick", action="store_true", help="nothing written")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        folder = Path(passing)
        checkpoint = checkpoints.write(folder / "checkpoint", options.size, ends=False)
        made = Options(dialects=("cpu",), precisions=("int8",))
        qwen3.export_bundle(locate(str(checkpoint), None), folder / "bundle", made, silent)
        reranker = OnnxReranker(start(load(folder / "bundle"), ProviderRequest(passes=0)).forward)
        rows = []
        for document in DOCUMENTS:
            whole, alone = seconds(reranker, SHARED + document + SUFFIX), seconds(reranker, document + SUFFIX)
            shown = f"{PAIRS / whole:.2f}", f"{PAIRS / alone:.2f}", f"{whole / alone:.2f}"
            rows.append((str(document), *shown))
    header = ("tokens of a document", "pairs/s", "pairs/s without the shared tokens", "ratio: at most this is to win")
    what = f"Qwen3-Reranker {options.size}, random weights, int8; {PAIRS} pairs a query, {SHARED} tokens shared by them"
    text = f"# Reranking on processors\n\n{machine()}. {what}; medians of {RUNS}.\n\n{table(rows, header)}"
    print(text)
    if not options.quick:
        write("rerank", text)


if __name__ == "__main__":
    main()
