"""The libraries that people have, against a running worker, and our retrievers in their frameworks.

Their environment holds nothing that a worker needs.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from penstock.clients.remote import RemoteSearch
from tests.clients.drive import FIELDS
from tests.conftest import ROOT
from tests.workers import environment, penstock, worker

pytestmark = pytest.mark.timeout(600)
KEY = "a key of sixteen"
SETTINGS: dict[str, object] = {"MODEL__BUNDLE": "shipped", "RERANK__BUNDLE": "shipped"}
RETRIEVERS = ["langchain_retriever", "llama_index_retriever"]
EVENTS = [
    {"id": "a", "text": "water"},
    {
        "id": "turbine",
        "title": "Turbines",
        "text": "A turbine turns the fall of water into rotation.",
        "timestamp": "2026-01-02T03:04:05Z",
        "metadata": {"section": "energy", "score": "its own", "years": [1850, 1913]},
    },
    {"id": "wind", "text": "Wind turns the blades.", "metadata": {"section": "energy"}},
    {"id": "garden", "text": "Roses are red.", "metadata": {"section": "plants", "title": "Of roses"}},
]
SCHEMATHESIS = [
    "--exclude-checks", "positive_data_acceptance",  # how much is too much, a worker's settings say
    "--max-examples", "40", "--generation-deterministic", "--no-color",
]  # fmt: skip
CODE = {"PYTHONPATH": str(ROOT / "worker")}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment that holds what requirements/clients.txt locks."""
    uv, folder = str(Path(sys.executable).parent / "uv"), tmp_path_factory.mktemp("clients") / "environment"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(folder)], check=True, timeout=60)
    made = folder / "bin" / "python"
    locked = ["--require-hashes", "-r", str(ROOT / "requirements" / "clients.txt")]
    subprocess.run([uv, "pip", "install", "-q", "--python", str(made), *locked], check=True, timeout=500)
    return made


@pytest.fixture(scope="module")
def told(python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each library makes of a worker that asks for a key."""
    folder = tmp_path_factory.mktemp("worker")
    events = "\n".join(json.dumps(event) for event in EVENTS)
    done = penstock(folder, "index", "--from", "-", stdin=events.encode(), variables=SETTINGS)
    assert done.returncode == 0, done.stderr.decode()
    more = {"HTTP__PORT": 0, "HTTP__API_KEYS": json.dumps({"": KEY}), "QUERY__TIMEOUT_S": 60}
    with (
        worker("query", env=environment(folder, **SETTINGS, **more), cwd=folder) as query,
        query.client("listening") as client,
    ):
        query.until("ready")
        url = str(client.base_url).rstrip("/")
        command = [str(python), str(ROOT / "tests" / "clients" / "drive.py"), url, KEY]
        driven = subprocess.run(
            command, cwd=folder, env=os.environ | CODE, capture_output=True, timeout=300, check=False
        )
        assert driven.returncode == 0, driven.stderr.decode()
        made: dict[str, Any] = json.loads(driven.stdout)
        schema = [
            str(python.parent / "schemathesis"),
            "run",
            f"{url}/openapi.json",
            "-H",
            f"Authorization: Bearer {KEY}",
        ]
        checked = subprocess.run([*schema, *SCHEMATHESIS], cwd=folder, capture_output=True, timeout=300, check=False)
        asked = {"query": "a turbine driven by water"}
        answer = client.post("/v1/search", json=asked, headers={"Authorization": f"Bearer {KEY}"})
        said = checked.stdout.decode() + checked.stderr.decode()
        return {**made, "hits": answer.json()["hits"], "schemathesis": (checked.returncode, said)}


def test_every_endpoint_does_what_its_description_says(told: dict[str, Any]) -> None:
    code, said = told["schemathesis"]
    assert code == 0, said
    assert "Selected: 13/13" in said


def test_openai_embeds_lists_models_and_understands_errors(told: dict[str, Any]) -> None:
    found = told["openai"]
    assert [name.partition("@")[0] for name in found["models"]] == ["penstock/demo-embedding", "penstock/demo-reranker"]
    assert (found["vectors"], found["short"], found["many"]) == ([384] * 3, 64, 2048)
    assert found["refused"].keys() == {"input.0", "input"}
    assert {code for code, _, _ in found["refused"].values()} == {"invalid_request"}
    assert all(has_request_id for _, has_request_id, _ in found["refused"].values())
    assert "token ids mean something to the model's own tokenizer only" in found["refused"]["input"][2]
    assert found["unknown"] == "unauthorized"


def test_cohere_reranks_by_both_of_its_clients(told: dict[str, Any]) -> None:
    found = told["cohere"]
    assert found["first"] == found["second"][:2]
    assert found["first"][0] == 0
    assert found["objects"][0] == "water drives the turbine"


@pytest.mark.parametrize("framework", ["langchain", "llama_index"])
def test_frameworks_embed_and_rerank(told: dict[str, Any], framework: str) -> None:
    assert told[framework] == {"vector": 384, "first": ["water drives the turbine"]}


@pytest.mark.parametrize("framework", RETRIEVERS)
def test_retrievers_give_the_hits_of_a_search_in_their_order(told: dict[str, Any], framework: str) -> None:
    found, hits = told[framework]["found"], told["hits"]
    assert {hit["document"] for hit in hits} == {"a", "turbine", "wind", "garden"}
    assert [name for name, _, _ in found] == [f"{hit['document']}#{hit['chunk']}" for hit in hits]
    assert [text for _, text, _ in found] == [hit["text"] for hit in hits]
    for (_, _, metadata), hit in zip(found, hits, strict=True):
        for name in ("document", "chunk", "title", "timestamp", "score", "rerank_score", "retrieval_score"):
            assert metadata[name] == (pytest.approx(hit[name]) if isinstance(hit[name], float) else hit.get(name))


@pytest.mark.parametrize("framework", RETRIEVERS)
def test_metadata_of_a_document_is_all_there_whatever_its_names(told: dict[str, Any], framework: str) -> None:
    found = {metadata["document"]: metadata for _, _, metadata in told[framework]["found"]}
    assert (found["turbine"]["section"], found["turbine"]["years"]) == ("energy", [1850, 1913])
    assert found["turbine"].get("metadata.score") == "its own"
    assert (found["garden"]["title"], found["garden"].get("metadata.title")) == ("", "Of roses")
    assert not {name for one in found.values() for name in one} & {"metadata.section", "metadata.years"}


@pytest.mark.parametrize("framework", RETRIEVERS)
def test_retrievers_pass_on_filter_mode_and_top_k(told: dict[str, Any], framework: str) -> None:
    assert set(told[framework]["filtered"]) == {"turbine#0", "wind#0"}
    assert told[framework]["words"] == ["garden#0"]


@pytest.mark.parametrize("framework", RETRIEVERS)
def test_retrievers_have_the_same_fields_and_ask_by_all_of_them(told: dict[str, Any], framework: str) -> None:
    assert told[framework]["fields"] == FIELDS
    assert FIELDS.keys() == RemoteSearch.model_fields.keys()
    body = RemoteSearch(**FIELDS)._body("water").model_dump(mode="json", by_alias=True, exclude_none=True)
    of_the_call = {"url", "api_key", "allow_insecure", "timeout_s"}
    asked = {name: value for name, value in FIELDS.items() if name not in of_the_call}
    assert body == {**asked, "query": "water", "timeout_ms": 1500}


@pytest.mark.parametrize("framework", RETRIEVERS)
def test_retrievers_are_parts_of_chains_and_can_be_awaited(told: dict[str, Any], framework: str) -> None:
    texts = [text for _, text, _ in told[framework]["found"]]
    assert told[framework]["awaited"] == texts
    assert told[framework]["chained"] == (texts if framework == "langchain_retriever" else texts[:1])


def test_llama_index_sees_scores_and_sources_and_its_models_read_no_numbers(told: dict[str, Any]) -> None:
    found = told["llama_index_retriever"]
    assert found["scores"] == [pytest.approx(hit["score"]) for hit in told["hits"]]
    assert found["sources"] == [hit["document"] for hit in told["hits"]]
    assert found["read"]["a"] == "water"
    read = found["read"]["turbine"].splitlines()
    assert "title: Turbines" in read
    assert not [line for line in read if line.startswith(("score:", "document:", "chunk:", "re"))]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_agent_searches_by_the_tool_of_its_protocol(told: dict[str, Any], mode: str) -> None:
    agent = told["mcp"][mode]
    assert agent["tool"] == ["search", ["after", "filter", "mode", "offset", "query", "top_k"], True]
    turbine = next(hit for hit in agent["found"] if hit["document"] == "turbine")
    assert {hit["document"] for hit in agent["found"]} == {"turbine", "wind"}
    assert turbine["metadata"]["section"] == "energy"
    assert turbine["timestamp"] == "2026-01-02T03:04:05Z"
    assert "[turbine] Turbines (score " in agent["text"]
    assert "A turbine turns the fall of water into rotation." in agent["text"]
    assert agent["refused"] == {
        "search": [True, "query: is empty"],
        "more": [True, "the key is not for tenant 'acme'"],
        "other": [True, "colour: no such argument; there are query, top_k, filter, after, mode, offset"],
    }


@pytest.mark.parametrize("framework", RETRIEVERS)
def test_what_is_wrong_is_told_in_clear_words(told: dict[str, Any], framework: str) -> None:
    """By the retriever when it is made, where it can know; by the worker otherwise."""
    expected = {
        "key": ("Misconfigured", "401: "),
        "key with a line end": ("ValidationError", "api_key: printable ASCII characters"),
        "key over http": ("ValidationError", "use https"),
        "url": ("ValidationError", "url\n"),
        "mode": ("ValidationError", "should be 'dense', 'sparse' or 'hybrid'"),
        "top_k": ("Misconfigured", "top_k: 1000 is more than 100"),
        "filter": ("ValidationError", "filter.equal: Extra inputs are not permitted"),
        "name": ("ValidationError" if framework == "langchain_retriever" else "TypeError", "topk"),
        "nobody": ("Unavailable", "http://127.0.0.1:1/v1/search: "),
    }
    faults = told[framework]["faults"]
    assert {name: kind for name, (kind, _) in faults.items()} == {name: kind for name, (kind, _) in expected.items()}
    assert not [name for name, (_, words) in expected.items() if words not in faults[name][1]], faults
    assert KEY not in json.dumps(faults) + told[framework]["shown"]


def test_retrievers_need_nothing_that_only_a_worker_has(python: Path) -> None:
    program = """
import sys
for name in ("kafka", "qdrant_client", "onnxruntime", "tokenizers", "fastapi", "starlette", "uvicorn", "structlog"):
    sys.modules[name] = None
import penstock.clients.langchain, penstock.clients.llama_index
"""
    subprocess.run([str(python), "-c", program], env=os.environ | CODE, check=True, timeout=120)
