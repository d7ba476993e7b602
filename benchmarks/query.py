"""A query worker under closed-loop load, on the demo's corpus: python benchmarks/query.py [--quick] [--soak MINUTES]

1, 8 and 64 clients, with and without a reranker: requests per second, milliseconds in all and per step. MiniLM embeds;
the reranker has the architecture of Qwen3-Reranker in small (4 layers, 256 wide, 16k tokens) and random weights: as
slow as a trained one. Clients are in a process of their own, on the same two cores. There is no Qdrant server here. The
store is either the embedded one, Python in the worker's own process; or instant: what it found for the first query,
again and again, which leaves what the worker itself costs.

Overhead is what neither model spends: the whole time, as a client sees it, less the embed and rerank steps.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "worker")]

from rich.console import Console  # noqa: E402
from tokenizers import Tokenizer, models, pre_tokenizers, trainers  # noqa: E402

from benchmarks import checkpoints, minilm  # noqa: E402
from benchmarks.report import machine, table, write  # noqa: E402
from penstock import settings  # noqa: E402
from penstock.assembly import query as assembly  # noqa: E402
from penstock.assembly.models import Models, load_model, load_models  # noqa: E402
from penstock.assembly.search import make_search  # noqa: E402
from penstock.core.documents import ChunkKey, Stored  # noqa: E402
from penstock.core.ports import Searcher  # noqa: E402
from penstock.core.queries import FacetCounts, Hit, Lookup  # noqa: E402
from penstock.demo import corpus  # noqa: E402
from penstock.demo.in_process import InProcess  # noqa: E402
from penstock.evaluate.labelled import read  # noqa: E402
from penstock.models.export import qwen3  # noqa: E402
from penstock.models.export.locate import locate  # noqa: E402
from penstock.models.export.options import Options  # noqa: E402
from penstock.observe.log import set_up  # noqa: E402
from penstock.query.search import Search  # noqa: E402
from penstock.settings import ModelSettings  # noqa: E402
from tests.checkpoints import NOT_SPECIAL, SPECIAL, silent  # noqa: E402

CACHE = Path.home() / ".cache" / "penstock" / "bundles"
CLIENTS = (1, 8, 64)
CANDIDATES = 20
VOCABULARY = 16_000


def reranker(folder: Path, texts: list[str]) -> Path:
    """A bundle with a tokenizer of the corpus, so that pairs are as long as with a real one."""
    checkpoint = checkpoints.write(folder / "mini-reranker", "mini", ends=False)
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY - 10, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([*texts, "yes no Judge the Document Query Instruct"], trainer)
    made.add_special_tokens(list(SPECIAL))
    made.add_tokens(list(NOT_SPECIAL))
    made.save(str(checkpoint / "tokenizer.json"))
    options = Options(dialects=("cpu",), precisions=("int8",), task="reranker")
    qwen3.export_bundle(locate(str(checkpoint), None), folder / "reranker", options, silent)
    return folder / "reranker"


class Instant:
    """A store that answers at once, with what another found for its first query."""

    def __init__(self, store: Searcher) -> None:
        self._store = store
        self._hits: list[Hit] = []

    @property
    def has_terms(self) -> bool:
        return self._store.has_terms

    def search(self, lookups: Sequence[Lookup]) -> list[list[Hit]]:
        self._hits = self._hits or self._store.search([replace(lookups[0], limit=100)])[0]
        return [self._hits[: lookup.limit] for lookup in lookups]

    def read(self, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Stored]:
        return self._store.read(keys)

    def documents(self, tenant: str, now: datetime) -> int:
        return self._store.documents(tenant, now)

    def facet(self, tenant: str, now: datetime, field: str, most: int) -> FacetCounts:
        return self._store.facet(tenant, now, field, most)


def serve_instant() -> None:
    """``penstock query`` with such a store."""

    def instant_search(*given: Any) -> Search:
        search = make_search(*given)
        search.served.store = Instant(search.served.store)
        return search

    vars(assembly)["make_search"] = instant_search
    chosen = settings.load()
    set_up("info", "json")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    assembly.run_query_worker(chosen, load_models(chosen.model, chosen.rerank), stop)


@contextmanager
def worker(folder: Path, reranker: Path | None, *, instant: bool = False) -> Iterator[tuple[int, int]]:
    """A running ``penstock query``: its port and its process."""
    variables = {
        "QDRANT__PATH": folder / "qdrant",
        "QDRANT__COLLECTION": "demo",
        "MODEL__BUNDLE": minilm.bundle(CACHE),
        "RERANK__ENABLED": reranker is not None,
        "RERANK__BUNDLE": reranker or "",
        "HTTP__PORT": 0,
    }
    env = os.environ | {f"PENSTOCK_{name}": str(value) for name, value in variables.items()}
    command = [__file__, "--serve-instant"] if instant else ["-m", "penstock", "query"]
    with subprocess.Popen([sys.executable, *command], env=env, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        port = 0
        for line in process.stderr:
            entry = json.loads(line)
            port = entry["port"] if entry["event"] == "listening" else port
            if entry["event"] == "ready":
                break
        try:
            yield port, process.pid
        finally:
            process.send_signal(signal.SIGTERM)


def load(port: int, clients: int, seconds: float, bodies: bytes) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "benchmarks" / "load.py"), str(port), str(clients), str(seconds)]
    done = subprocess.run(command, input=bodies, capture_output=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def bodies(*, rerank: bool) -> bytes:
    """The demo's labelled queries, and some words of the corpus."""
    chance = random.Random(0)
    words = [query.text for query in read(corpus.LABELLED, None)]
    asked = [*words, *(" ".join(chance.sample(" ".join(words).split(), 5)) for _ in range(200))]
    given = {"rerank": rerank, "timeout_ms": 60_000} | ({"candidates": CANDIDATES} if rerank else {})
    return b"\n".join(json.dumps({"query": text} | given).encode() for text in asked)


def percentiles(values: list[float]) -> str:
    if len(values) < 2:
        return ""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return f"{cuts[49]:.1f} / {cuts[94]:.1f} / {cuts[98]:.1f}"


def measured(port: int, seconds: float, store: str, *, rerank: bool) -> list[tuple[str, ...]]:
    rows, first = [], 0.0
    for clients in CLIENTS:
        load(port, clients, min(2, seconds), bodies(rerank=rerank))
        result = load(port, clients, seconds, bodies(rerank=rerank))
        times = result["found"]
        rate = len(times["all"]) / result["seconds"]
        first = first or rate
        models_ms = [
            sum(each) for each in zip(times["embed"], times.get("rerank", [0.0] * len(times["embed"])), strict=True)
        ]
        overhead = [whole - models for whole, models in zip(times["all"], models_ms, strict=True)]
        shares = [percentiles(times.get(name, [])) for name in ("all", "embed", "retrieve", "rerank")]
        mark = "yes" if rerank else "no"
        rows.append((store, mark, str(clients), f"{rate:.1f}", f"{rate / first:.2f}", *shares, percentiles(overhead)))
        assert not rerank or statistics.mean(times["reranked"]) == 1
        print(rows[-1], flush=True)
    return rows


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def soak(port: int, pid: int, minutes: float, *, rerank: bool) -> str:
    """The worker's memory after a minute and at each further one, under 64 clients."""
    memory = []
    for _ in range(round(minutes)):
        result = load(port, 64, 60, bodies(rerank=rerank))
        memory.append(resident_mb(pid))
        print(f"{memory[-1]:.1f} MB, {len(result['found']['all']) / result['seconds']:.1f} requests/s", flush=True)
    return ", ".join(f"{size:.0f}" for size in memory)


def index(folder: Path) -> list[str]:
    """The demo's index; returns the corpus."""
    models = Models(load_model(ModelSettings(bundle=minilm.bundle(CACHE))), None)
    lines = corpus.event_lines()
    with closing(InProcess(models, folder / "qdrant", threading.Event(), Console(quiet=True))) as backend:
        backend.send(lines)
    return [event["text"] for event in map(json.loads, lines) if "text" in event]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="short, nothing written")
    parser.add_argument("--soak", type=float, default=0, help="minutes")
    parser.add_argument("--serve-instant", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_instant:
        serve_instant()
        return
    seconds = 3.0 if options.quick else 15.0
    with tempfile.TemporaryDirectory() as passing:
        folder = Path(passing)
        texts = index(folder)
        bundle = reranker(folder, texts)
        with worker(folder, None, instant=True) as (port, _):
            rows = measured(port, seconds, "instant", rerank=False)
        with worker(folder, bundle) as (port, pid):
            rows += measured(port, seconds, "embedded", rerank=False)
            rows += measured(port, seconds * 2, "embedded", rerank=True)
            memory = {mark: soak(port, pid, options.soak / 2, rerank=mark) for mark in (False, True)}
    header = ("store", "reranked", "clients", "requests/s", "of one client", "ms in all", "embed", "retrieve", "rerank",
              "overhead")  # fmt: skip
    text = f"# Queries under load\n\n{machine()}. {' '.join(__doc__.split(chr(10) * 2)[1].split())}\n\n"
    text += f"{' '.join(__doc__.split(chr(10) * 2)[2].split())} {CANDIDATES} candidates where reranked. "
    text += f"Milliseconds are p50 / p95 / p99.\n\n{table(rows, header)}"
    if options.soak:
        text += f"\n64 clients for {options.soak:.0f} minutes, half of them reranked. MB resident at the end of each "
        text += f"minute: {memory[False]}; reranked: {memory[True]}.\n"
    print(text)
    if not options.quick:
        write("query", text)


if __name__ == "__main__":
    main()
