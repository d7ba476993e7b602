"""``penstock embed``, ``rerank`` and ``bench`` as a user types them, and the index worker on a Qwen3 bundle."""

import json
from pathlib import Path

import numpy as np
import pytest

from penstock.models.bundle import load
from penstock.settings import QdrantSettings
from tests.checkpoints import LONGEST, Shape, bundle, checkpoint
from tests.conftest import stored
from tests.integration.test_cli import ended, one_line
from tests.workers import penstock

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("embedding")
    checkpoint(folder / "checkpoint", Shape())
    return str(bundle(folder / "checkpoint", folder / "bundle", "cpu-int7").folder)


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("reranker")
    checkpoint(folder / "reranker", Shape(tied=False), reranker=True, longest=768)
    return str(bundle(folder / "reranker", folder / "bundle", "cpu-fp32").folder)


def lines(output: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines()]


def test_texts_become_vectors_in_their_order(tmp_path: Path, embedding: str) -> None:
    given = [f"water {n}" for n in range(150)]
    stdin = "\n".join(json.dumps({"text": text}) for text in given).encode()
    piped = penstock(tmp_path, "embed", "--bundle", embedding, "--dimension", "48", stdin=stdin)
    assert piped.returncode == 0, piped.stderr
    found = lines(piped.stdout)
    assert len(found) == len(given)
    vectors = np.array([one["vector"] for one in found])
    assert vectors.shape == (150, 48)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    alone = penstock(tmp_path, "embed", "--bundle", embedding, "--dimension", "48", given[149], given[0])
    assert lines(alone.stdout) == [found[149], found[0]]


def test_a_query_is_embedded_with_its_instruction(tmp_path: Path, embedding: str) -> None:
    def vector(*arguments: str) -> object:
        return lines(penstock(tmp_path, "embed", "--bundle", embedding, *arguments).stdout)[0]["vector"]

    own = load(Path(embedding)).manifest.prompts["instruction"]
    assert vector("--query", "water") == vector(f"Instruct: {own}\nQuery:water")
    assert vector("--query", "--instruction", "yes", "water") == vector("Instruct: yes\nQuery:water")


def test_blank_and_endless_texts_are_embedded_and_what_was_cut_is_said(tmp_path: Path, embedding: str) -> None:
    stdin = "\n".join(json.dumps({"text": text}) for text in ("", " \n\t ", "water " * 100_000)).encode()
    done = penstock(tmp_path, "embed", "--bundle", embedding, stdin=stdin)
    assert [one["tokens"] for one in lines(done.stdout)][::2] == [1, LONGEST]
    assert b"text 3: cut from" in done.stderr


def test_pairs_get_a_logit_and_its_probability_in_their_order(tmp_path: Path, reranker: str) -> None:
    given = ["water", "no", "yes " * 2000]
    done = penstock(tmp_path, "rerank", "--bundle", reranker, "--query", "water?", *given)
    assert done.returncode == 0, done.stderr
    found = lines(done.stdout)
    assert [one["index"] for one in found] == [0, 1, 2]
    assert found[2]["tokens"] == 768
    for one in found:
        assert one["score"] == pytest.approx(1 / (1 + np.exp(-float(str(one["logit"])))), abs=1e-6)
    for variables in ({"RERANK__BUNDLE": reranker, "MODEL__BUNDLE": "elsewhere"}, {"MODEL__BUNDLE": reranker}):
        set_so = penstock(tmp_path, "rerank", "--query", "water?", *given, variables=variables)
        assert set_so.stdout == done.stdout
    other = penstock(tmp_path, "rerank", "--bundle", reranker, "--query", "water?", "--instruction", "x", *given)
    closer = penstock(tmp_path, "rerank", "--bundle", reranker, "--query", "water?", "--separator", "newline", *given)
    assert lines(other.stdout)[0] != found[0] != lines(closer.stdout)[0]


def test_wrong_input_is_one_line_and_what_came_before_it_is_done(
    tmp_path: Path, embedding: str, reranker: str, minilm: Path
) -> None:
    bad = b'{"text": "water"}\n\n{"text": 5}\n{"text": "never"}\n'
    done = penstock(tmp_path, "embed", "--bundle", embedding, stdin=bad)
    assert "standard input, line 3: not" in one_line(done, 2)
    assert len(lines(done.stdout)) == 1
    for bad in (b'{"text": "\xff"}', b'{"text": "a\\ud83d"}', b"[]"):
        assert "standard input, line 1: " in one_line(penstock(tmp_path, "embed", "--bundle", embedding, stdin=bad), 2)
    for arguments, said in (
        (("embed", "--bundle", embedding, "--dimension", "65", "x"), "supports 32 to 64"),
        (("embed", "--bundle", embedding, "--instruction", "x", "x"), "add --query"),
        (("embed", "--bundle", reranker, "x"), "holds a model for reranker, not for embedding"),
        (("rerank", "--bundle", embedding, "--query", "x", "x"), "holds a model for embedding, not for reranker"),
        (("rerank", "--bundle", reranker, "--query", "x " * 900, "x"), "there is room for"),
        (("rerank", "--bundle", reranker, "--query", "x", "--separator", "tab", "x"), "--separator tab: choose of"),
        (("embed", "--bundle", str(minilm), "--query", "--instruction", "x", "x"), "takes no instruction"),
        (("embed", "--bundle", "nowhere", "x"), "no model bundle in nowhere"),
        (("bench", "--bundle", embedding, "--lengths", "161"), "--lengths 161: numbers up to 160, or mixed"),
        (("bench", "--bundle", embedding, "--provider", "gpu"), "model.provider: "),
        (("bench", "--bundle", embedding, "--provider", "cuda"), "model.require_provider = cuda cannot be had"),
    ):
        assert said in one_line(penstock(tmp_path, *arguments), 2)


def test_bench_measures_and_tunes(tmp_path: Path, embedding: str) -> None:
    command = ("bench", "--bundle", embedding, "--lengths", "16,64", "--tokens", "256", "--repeats", "1")
    done = penstock(tmp_path, *command, "--json", "--peak-tflops", "1")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [(row["lengths"], row["texts"]) for row in result["results"]] == [("16", 16), ("64", 4)]
    assert all(row["tokens_per_s"] > 0 and row["mfu"] is not None for row in result["results"])
    assert result["peak_memory_bytes"]["host"] > 0
    tuned = penstock(tmp_path, *command, "--tune")
    assert b"stored in the bundle: token budget" in tuned.stdout
    kept = load(Path(embedding)).manifest.token_budgets["cpu"]
    again = json.loads(penstock(tmp_path, *command, "--json").stdout)
    assert {row["token_budget"] for row in again["results"]} == {kept}


def test_the_index_worker_runs_on_a_qwen3_bundle_unchanged(tmp_path: Path, embedding: str) -> None:
    events = [{"id": f"d{n}", "title": "water", "text": f"text {n} " * (1 + n)} for n in range(20)]
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, events)))
    variables = {"MODEL__BUNDLE": embedding, "MODEL__DIMENSION": 32}
    done = penstock(tmp_path, "index", "--from", "events.jsonl", variables=variables)
    assert ended(done)["indexed"] == 20
    loaded = next(line for line in map(json.loads, done.stderr.splitlines()) if line["event"] == "model_loaded")
    assert (loaded["provider"], loaded["precision"]) == ("CPUExecutionProvider", "int7")
    assert loaded["onnxruntime"]
    found = stored(QdrantSettings(path=tmp_path / "qdrant"), Path(embedding), 32)
    assert set(found) == {f"d{n}" for n in range(20)}
