"""What the shipped reranker adds to the shipped embedding model:
python benchmarks/small_reranker.py [--quick | --queries 1000]

On queries held out of the training of both, a sample of each kind, through Penstock itself, as `penstock evaluate`
measures it: nDCG@10 of the first 50 chunks of the search in its own order, in the reranker's, and in that of both.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "worker")]

from benchmarks.report import about, machine, table, write  # noqa: E402
from benchmarks.small_model import SETS, evaluated, indexed  # noqa: E402
from penstock.demo import corpus  # noqa: E402
from penstock.evaluate.labelled import LabelledQuery, read, sampled  # noqa: E402
from penstock.settings import RerankSettings, Settings  # noqa: E402

QUERIES, QUICK = 100, 10


def gained(chosen: Settings, label: str, asked: Sequence[LabelledQuery]) -> tuple[str, ...]:
    """What reranking adds."""
    report = evaluated(chosen, asked)
    gain = report.gains["both over search"]
    each = (f"{row.metrics['nDCG@10']:.3f}" for row in report.rows[:3])
    interval = f"{gain.low:+.3f} to {gain.high:+.3f}"
    return f"{label}, {len(asked)}", *each, f"{gain.difference:+.3f}", interval


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} queries of each, nothing written")
    parser.add_argument("--queries", type=int, default=QUERIES, help="of each kind")
    given = parser.parse_args()
    most = QUICK if given.quick else given.queries
    rows = []
    with tempfile.TemporaryDirectory() as passing:
        ours = indexed(Path(passing), corpus.EMBEDDING, None)
        ours = ours.model_copy(update={"rerank": RerankSettings(bundle=corpus.RERANKER)})
        for name, label in SETS.items():
            asked = sampled(read(corpus.HELD_OUT / f"{name}.jsonl", None), most)
            rows.append(gained(ours, label, asked))
            print(rows[-1], flush=True)
    text = f"# The shipped reranker\n\n{machine()}. {about(__doc__)} 95 % of paired resamples.\n\n"
    text += table(rows, ("queries", "search", "reranker", "both", "both over search", "interval"))
    print(text)
    if not given.quick:
        write("small-reranker", text)


if __name__ == "__main__":
    main()
