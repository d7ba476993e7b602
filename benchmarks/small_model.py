"""The model that is shipped, beside BM25 and all-MiniLM-L6-v2, on queries held out of their training:
python benchmarks/small_model.py [--quick | --queries 100]

Each model through Penstock itself: the demo's stream is indexed, then what `penstock evaluate` measures on the held-out
queries in penstock/data. MiniLM in chunks of its own 256 tokens; BM25 over whole documents, words folded to lower case.
"""

import argparse
import json
import re
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "worker")]

import bm25s  # noqa: E402
from rich.console import Console  # noqa: E402

from benchmarks import minilm  # noqa: E402
from benchmarks.report import about, machine, table, write  # noqa: E402
from penstock.assembly.evaluate import run_evaluation  # noqa: E402
from penstock.assembly.models import Models, load_model  # noqa: E402
from penstock.core.queries import Mode  # noqa: E402
from penstock.demo import corpus  # noqa: E402
from penstock.demo.in_process import InProcess, demo_settings  # noqa: E402
from penstock.evaluate.labelled import LabelledQuery, read, sampled  # noqa: E402
from penstock.evaluate.metrics import measure  # noqa: E402
from penstock.evaluate.report import SERVED, Options, Report  # noqa: E402
from penstock.settings import IndexSettings, ModelSettings, RerankSettings, Settings  # noqa: E402
from tests.checkpoints import silent  # noqa: E402

SETS = {
    "en": "English",
    "de": "German",
    "fr": "French",
    "it": "Italian",
    "programs": "English, well-known programs",
    "other": "English, for documents in another language",
}
RECALL = (10,)
CANDIDATES = 50
MINILM_TOKENS = 256


def documents() -> dict[str, str]:
    """What the stream leaves behind."""
    left: dict[str, str] = {}
    for event in map(json.loads, corpus.event_lines()):
        left[event["id"]] = event.get("text", "")
    return {name: text for name, text in left.items() if text}


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def lexical(texts: dict[str, str], asked: Sequence[LabelledQuery]) -> dict[str, float]:
    """BM25's own metrics."""
    names, index = list(texts), bm25s.BM25()
    index.index([words(text) for text in texts.values()], show_progress=False)
    runs = {}
    for query in asked:
        scores = index.get_scores(words(query.text))
        runs[query.id] = [names[i] for i in (-scores).argsort(kind="stable")[:CANDIDATES]]
    return measure({query.id: query.relevant for query in asked}, runs, RECALL)


def indexed(folder: Path, bundle: Path, index: IndexSettings | None) -> Settings:
    """The settings that evaluate the model on an index of its own."""
    model = ModelSettings(bundle=bundle)
    made = demo_settings(folder)
    made = made.model_copy(update={"index": index or made.index})
    backend = InProcess(Models(load_model(model), None), folder, threading.Event(), Console(quiet=True), made)
    with closing(backend):
        backend.send(corpus.event_lines())
    return made.model_copy(update={"model": model, "rerank": RerankSettings(enabled=False)})


def evaluated(chosen: Settings, asked: Sequence[LabelledQuery]) -> Report:
    options = Options(CANDIDATES, RECALL, "", rerank=chosen.rerank.enabled)
    return run_evaluation(chosen, asked, options, silent)


def by(report: Report, mode: Mode) -> dict[str, float]:
    """As served, in the order of the search."""
    return next(row.metrics for row in report.rows if row.search == SERVED and row.mode == mode)


def figures(metrics: dict[str, float]) -> tuple[str, str]:
    return f"{metrics['R@10']:.3f}", f"{metrics['nDCG@10']:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="40 queries of each, nothing written")
    parser.add_argument("--queries", type=int, default=10**9, help="of each kind; otherwise all")
    given = parser.parse_args()
    most = 40 if given.quick else given.queries
    sets = {name: sampled(read(corpus.HELD_OUT / f"{name}.jsonl", None), most) for name in SETS}
    texts = documents()
    all_rows, dimensions = [], []
    with tempfile.TemporaryDirectory() as passing:
        ours = indexed(Path(passing) / "ours", corpus.EMBEDDING, None)
        chunks = IndexSettings(chunk_tokens=MINILM_TOKENS, chunk_overlap=16)
        theirs = indexed(Path(passing) / "minilm", minilm.bundle(Path(passing)), chunks)
        for name, asked in sets.items():
            label = f"{SETS[name]}, {len(asked)}"
            own = evaluated(ours, asked)
            rows = [("BM25", lexical(texts, asked)), ("all-MiniLM-L6-v2", by(evaluated(theirs, asked), Mode.DENSE)),
                    ("shipped", by(own, Mode.DENSE)), ("shipped, without its task", own.rows[-1].metrics),
                    ("shipped, with words", by(own, Mode.HYBRID))]  # fmt: skip
            all_rows += [(label, way, *figures(metrics)) for way, metrics in rows]
            dimensions.append((label, *[figures(row.metrics)[0] for row in own.rows if row.search == "exact"][:-1]))
            print(*all_rows[-5:], dimensions[-1], sep="\n", flush=True)
    text = f"# The shipped model on its own corpus\n\n{machine()}. {len(texts):,} documents. {about(__doc__)}\n\n"
    text += table(all_rows, ("queries", "model", "R@10", "nDCG@10"))
    text += "\nR@10 by dimension, exact search over the stored vectors:\n\n"
    text += table(dimensions, ("queries", "32", "64", "128", "256", "384"))
    print(text)
    if not given.quick:
        write("small-model", text)


if __name__ == "__main__":
    main()
