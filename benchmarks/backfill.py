"""What a backfill at full speed does to how fresh live documents are: python benchmarks/backfill.py [--quick]

A real Kafka, the shipped model on processors, Qdrant's stand-in, and the worker as its command runs it, each in a
process of its own. Live documents come at a steady rate, a quarter of what the worker can do; how long each takes from
its record's time to when it is searchable says penstock_index_freshness_seconds, here in buckets 2 % apart. Without and
with a backfill in turns, a new worker and store each time, measured once it has warmed up. Then what the backfill costs
itself: the same topic as a backfill beside a stream where nothing happens, and as the worker's own stream, in turns.
"""

import argparse
import json
import random
import re
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "worker")]

from benchmarks.pipeline import corpus  # noqa: E402
from benchmarks.report import about, machine, table, write  # noqa: E402
from penstock.adapters.kafka.connection import connect_producer  # noqa: E402
from penstock.demo.corpus import EMBEDDING  # noqa: E402
from penstock.settings import KafkaSettings  # noqa: E402
from tests.broker import Broker, missing  # noqa: E402
from tests.conftest import own_qdrant, wait_until  # noqa: E402
from tests.kafka_tools import knows_groups, new_topic, produce  # noqa: E402
from tests.workers import environment, worker  # noqa: E402

IDLE, TRIES = 0.85, 20
SHARE, ROUNDS, WARM_S, MEASURED_S, DOCUMENTS = 0.25, 2, 6.0, 40.0, 30_000
FINE = """
import sys
from penstock.observe import index_metrics
index_metrics.FRESH_S = tuple(0.005 * 1.02**n for n in range(460))
from penstock.commands.main import main
sys.argv = ["penstock", *sys.argv[1:]]
sys.exit(main())
"""
"""The command, with buckets that tell 80 ms from 82."""


class Told:
    """What the worker's metrics say at one moment."""

    def __init__(self, client: httpx.Client, topic: str) -> None:
        text = client.get("/metrics").text
        found = re.findall(r"^(\w+)(\{[^}]*\})? (\S+)$", text, re.MULTILINE)
        self.time_s = time.monotonic()
        self.values = {f"{name}{labels}": float(value) for name, labels, value in found}
        fresh = rf'penstock_index_freshness_seconds_bucket\{{kind="live",le="([^"]+)",topic="{topic}"\}}'
        self.fresh = {float(le): value for name, value in self.values.items() for le in re.findall(fresh, name)}

    def sum(self, name: str) -> float:
        """Of all series of that name."""
        return sum(value for series, value in self.values.items() if series.split("{")[0] == name)


class Window:
    """Between two moments: seconds of freshness by quantile, tokens a second of all and of the backfill."""

    def __init__(self, first: Told, last: Told) -> None:
        seconds = last.time_s - first.time_s
        grown = {le: last.fresh[le] - first.fresh.get(le, 0.0) for le in sorted(last.fresh)}
        self.count = max(grown.values(), default=0.0)
        self.p50, self.p99 = (next((le for le, n in grown.items() if n >= q * self.count), 0.0) for q in (0.5, 0.99))
        self.tokens_s, self.backfill_s = (
            (last.sum(name) - first.sum(name)) / seconds
            for name in ("penstock_model_tokens_total", "penstock_index_backfill_tokens_total")
        )


@contextmanager
def sending(kafka: KafkaSettings, documents: list[tuple[str, bytes]], per_s: float) -> Iterator[None]:
    """Live documents at that rate, evenly; none where it is 0."""
    ended = threading.Event()

    def send() -> None:
        with closing(connect_producer(kafka)) as producer:
            due_s, n = time.monotonic(), 0
            while not ended.wait(max(0.0, due_s - time.monotonic())):
                key, value = documents[n % len(documents)]
                live = f"live/{uuid.uuid4().hex}".encode()
                producer.send(kafka.topic, key=live, value=value.replace(key.encode(), live, 1))
                due_s, n = due_s + 1 / per_s, n + 1

    thread = threading.Thread(target=send)
    if per_s:
        thread.start()
    yield
    ended.set()
    if per_s:
        thread.join()


def idle(seconds: float = 3.0) -> bool:
    """Whether nobody uses these processors."""

    def times() -> list[int]:
        return [int(ticks) for ticks in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]

    first = times()
    time.sleep(seconds)
    spent = [last - before for before, last in zip(first, times(), strict=True)]
    return spent[3] + spent[4] > IDLE * sum(spent)


def undisturbed(*given: Any, **settings: Any) -> Window:
    """As ``measured``, while nobody else uses these processors, as far as looking before and after tells."""
    for _ in range(TRIES):
        wait_until(idle, 900.0)
        window = measured(*given, **settings)
        if idle():
            return window
    raise SystemExit("others use these processors all the time")


def measured(
    kafka: KafkaSettings, live: list[tuple[str, bytes]], per_s: float, seconds: float, **settings: object
) -> Window:
    """A worker of its own group over a store of its own, with these settings."""
    group = uuid.uuid4().hex
    with own_qdrant() as (_, qdrant), tempfile.TemporaryDirectory() as folder:
        variables: Mapping[str, object] = {
            "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "KAFKA__TOPIC": kafka.topic, "KAFKA__GROUP": group,
            "QDRANT__URL": qdrant.url, "QDRANT__GRPC_PORT": qdrant.grpc_port, "MODEL__BUNDLE": EMBEDDING,
            "MONITOR__PORT": 0,
        } | settings  # fmt: skip
        command = [sys.executable, "-c", FINE]
        with worker("index", env=environment(None, **variables), cwd=Path(folder), command=command) as running:
            with running.client("monitored") as client, sending(kafka, live, per_s):
                running.until("started")
                wait_until(lambda: Told(client, kafka.topic).sum("penstock_model_tokens_total") > 0, 60.0)
                time.sleep(WARM_S)
                first = Told(client, kafka.topic)
                time.sleep(seconds)
                last = Told(client, kafka.topic)
            running.process.kill()
    return Window(first, last)


def freshness(broker: str, backfill: KafkaSettings, per_s: float, rounds: int, seconds: float) -> tuple[str, float]:
    """Without and with, in turns."""
    windows: dict[str, list[Window]] = {"alone": [], "beside a backfill": []}
    for _ in range(rounds):
        for name, found in windows.items():
            kafka = new_topic(broker, 4)
            settings = {"INDEX__BACKFILL": backfill.topic} if found is windows["beside a backfill"] else {}
            found.append(undisturbed(kafka, corpus(2000), per_s, seconds, **settings))
            one = found[-1]
            print(f"{name}: {one.count:.0f} live, p50 {one.p50 * 1000:.0f} p99 {one.p99 * 1000:.0f} ms, "
                  f"{one.tokens_s:,.0f} tokens/s", file=sys.stderr, flush=True)  # fmt: skip
    rows = [
        (
            name,
            f"{sum(one.count for one in found):.0f}",
            f"{statistics.median(one.p50 for one in found) * 1000:.0f}",
            f"{statistics.median(one.p99 for one in found) * 1000:.0f}",
            ", ".join(f"{one.p99 * 1000:.0f}" for one in found),
            f"{statistics.median(one.tokens_s for one in found):,.0f}",
            f"{statistics.median(one.backfill_s / one.tokens_s for one in found):.0%}",
        )
        for name, found in windows.items()
    ]
    alone, beside = (statistics.median(one.p99 for one in found) for found in windows.values())
    header = ("live documents", "measured", "p50 ms", "p99 ms", "p99 of each", "tokens/s of all", "backfill's share")
    return table(rows, header), beside / alone


def price(broker: str, backfill: KafkaSettings, rounds: int, seconds: float) -> tuple[str, float]:
    """Tokens a second of the topic as a backfill and as the stream, in turns; and of the latter documents a second."""
    speeds: dict[str, list[float]] = {"as the worker's stream": [], "as a backfill, nothing live": []}
    for _ in range(rounds):
        quiet = new_topic(broker, 4)
        speeds["as the worker's stream"].append(undisturbed(backfill, [], 0.0, seconds).tokens_s)
        speeds["as a backfill, nothing live"].append(
            undisturbed(quiet, [], 0.0, seconds, INDEX__BACKFILL=backfill.topic).tokens_s
        )
        print({name: round(found[-1]) for name, found in speeds.items()}, file=sys.stderr, flush=True)
    whole = statistics.median(speeds["as the worker's stream"])
    rows = [
        (name, f"{statistics.median(found):,.0f}", f"{statistics.median(found) / whole:.2f}")
        for name, found in speeds.items()
    ]
    return table(rows, ("the same documents", "tokens/s", "ratio")), whole


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="once each, for a few seconds, nothing written")
    quick = parser.parse_args().quick
    rounds, seconds = (1, 15.0) if quick else (ROUNDS, MEASURED_S)
    if reason := missing():
        raise SystemExit(reason)
    documents = corpus(DOCUMENTS)
    random.Random(2).shuffle(documents)
    tokens = statistics.mean(len(json.loads(value)["text"]) for _, value in documents[:500]) / 4
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder))
        broker.start()
        try:
            wait_until(lambda: knows_groups(broker.bootstrap_servers))
            backfill = new_topic(broker.bootstrap_servers, 4)
            produce(backfill, documents)
            cost, tokens_s = price(broker.bootstrap_servers, backfill, rounds, seconds)
            per_s = SHARE * tokens_s / tokens
            told, ratio = freshness(broker.bootstrap_servers, backfill, per_s, rounds, seconds)
        finally:
            broker.stop()
    head = f"# Backfill\n\n{machine()}. The broker, the worker and the stand-in for Qdrant share these cores.\n"
    verdict = f"Their p99 beside a backfill is {ratio:.2f} times that without one; the bar is 2."
    text = "\n".join((head, f"{about(__doc__)}\n", f"{per_s:.1f} live documents a second. {verdict}\n", told, cost))
    print(text)
    if not quick:
        write("backfill", text)


if __name__ == "__main__":
    main()
