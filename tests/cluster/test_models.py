"""How models get to workers, each way in a cluster; and two collections, each with query workers of its own."""

import json
import shutil
from pathlib import Path

import httpx
import pytest

from penstock.settings.models import SHIPPED_MODELS
from tests.bundle_servers import OciRegistry, serving
from tests.cluster import Cluster
from tests.cluster.images import Image
from tests.cluster.place import Place, succeeded
from tests.conftest import wait_until
from tests.kafka_tools import document, produce

pytestmark = [pytest.mark.timeout(600), pytest.mark.at_length]


def release_finds(place: Place, *options: str) -> None:
    """The release with that model finds what it is sent."""
    place.install(*options, "--set", "query.replicas=1")
    succeeded(place.namespace.helm("test", "penstock"))
    (pod,) = place.namespace.pods("index-documents")
    log = place.namespace.kubectl("logs", pod["metadata"]["name"]).stdout.splitlines()
    assert "model_loaded" in [json.loads(line)["event"] for line in log]


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    """A folder with bundles by name."""
    shutil.copytree(SHIPPED_MODELS, tmp_path / "bundles")
    return tmp_path / "bundles"


def test_a_model_comes_in_a_claim(place: Place, bundles: Path) -> None:
    place.namespace.claim("bundles", bundles)
    release_finds(place, "--set", "model.source=claim,model.claim=bundles,model.reranker=reranker")


def test_a_model_comes_as_an_image(place: Place, cluster: Cluster, bundles: Path) -> None:
    image = "registry.example/bundles:1"
    cluster.images[image] = Image({"/": bundles})
    release_finds(place, "--set", f"model.source=image,model.image={image}")


def test_a_model_is_fetched_from_a_registry_and_a_false_one_is_not_started(
    place: Place, cluster: Cluster, bundles: Path
) -> None:
    with serving(OciRegistry()) as registry:
        registry.push_files("embedding", bundles / "embedding")
        registry.push_files("reranker", bundles / "reranker")
        registry.push_files("false", bundles / "embedding", tokenizer_json=b"{}")
        models = f"oci+http://{cluster.network.host}:{cluster.serve(registry.server_port)}/models/qwen3"
        fetched = f"model.source=fetch,model.fetch.embedding={models}"
        more = f"model.fetch.reranker={models}:reranker,settings.fetch.allow_insecure=true"
        release_finds(place, "--set", f"{fetched}:embedding,{more}")
        false = [
            "--set",
            f"{fetched}:false,{more},setup.enabled=false,query.replicas=1",
            "--atomic",
            "--timeout",
            "20s",
        ]
        before = {pod["metadata"]["uid"] for pod in place.namespace.pods("index-documents")}
        assert place.namespace.install(*place.values, *false).returncode != 0
        assert {pod["metadata"]["uid"] for pod in place.namespace.pods("index-documents")} == before


def test_two_collections_are_searched_by_deployments_of_their_own(place: Place) -> None:
    def own(name: str) -> dict[str, object]:
        topic = f"{place.kafka.topic}-{name}"
        return {"settings": {"kafka": {"topic": topic, "group": topic}, "qdrant": {"collection": topic}}, "replicas": 1}

    both = {name: own(name) for name in ("wiki", "tickets")}
    place.install(
        "--set-json", f"index.streams={json.dumps(both)}", "--set-json", f"query.deployments={json.dumps(both)}"
    )
    assert succeeded(place.namespace.helm("test", "penstock")).count("Succeeded") == 2
    produce(
        place.kafka.model_copy(update={"topic": f"{place.kafka.topic}-wiki"}), [document("weir", "a weir in the wiki")]
    )

    def found(name: str) -> list[str]:
        answer = httpx.post(f"{place.service(f'penstock-query-{name}')}/v1/search", json={"query": "weir"}, timeout=20)
        return [hit["document"] for hit in answer.json()["hits"]]

    wait_until(lambda: "weir" in found("wiki"))
    assert "weir" not in found("tickets")
