"""``penstock explain`` over both stores and a real Kafka, with the small models: what it says, and whether it is so."""

import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from penstock.adapters.kafka.connection import connect_producer
from penstock.adapters.kafka.keyed import partition_of
from penstock.commands import main as _every_command  # noqa: F401
from penstock.commands.app import app
from penstock.core.errors import Misconfigured
from penstock.demo.corpus import EMBEDDING, RERANKER
from penstock.settings import KafkaSettings, QdrantSettings
from tests.integration.test_cli import ended, kafka_variables
from tests.kafka_tools import document, new_topic, produce
from tests.workers import environment, penstock

Json = dict[str, Any]
PARTITIONS = 3
LONG = "Water drives the turbine. " * 60


class Place:
    """A topic with documents, and a store that holds them."""

    def __init__(self, kafka: KafkaSettings, folder: Path, store: Mapping[str, object]) -> None:
        self.kafka, self.folder = kafka, folder
        models = {"RERANK__BUNDLE": RERANKER, "INDEX__CHUNK_TOKENS": 64, "INDEX__CHUNK_OVERLAP": 0}
        self.variables = {**kafka_variables(kafka, EMBEDDING), **models, **store, "INDEX__TENANT_FROM": "key"}

    def send(self, *events: tuple[str | bytes | None, bytes | None]) -> None:
        produce(self.kafka, [(f"acme/{key!s}", value) for key, value in events])

    def index(self) -> dict[str, int]:
        return ended(penstock(self.folder, "index", "--once", variables=self.variables))

    def explain(self, name: str, *arguments: str, tenant: str = "acme", **more: object) -> Json:
        """In this process, which is quicker."""
        env = environment(self.folder, **{**self.variables, **more})
        asked = ["explain", name, "--tenant", tenant, "--json", *arguments]
        done = CliRunner().invoke(app, asked, env=env)
        if isinstance(done.exception, Misconfigured):
            raise done.exception
        assert done.exit_code == 0, done.exception
        return dict(json.loads(done.stdout))

    def query(self, name: str, body: Mapping[str, object], tenant: str = "acme") -> Json:
        return dict(self.explain(name, "--no-topic", "--query", json.dumps(body), tenant=tenant)["query"])


@pytest.fixture(params=["folder", "server"])
def place(broker: str, request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    store: dict[str, object] = {}
    if request.param == "server":
        known: QdrantSettings = request.getfixturevalue("qdrant_process")
        store = {"QDRANT__PATH": "", "QDRANT__URL": known.url, "QDRANT__GRPC_PORT": known.grpc_port}
    kafka = new_topic(broker, PARTITIONS)
    return Place(kafka, tmp_path, {**store, "QDRANT__COLLECTION": kafka.topic})


def test_a_document_is_explained_by_its_points_its_records_and_its_dead_letters(place: Place) -> None:
    place.send(document("river", "old words"), document("gone"), document("other"))
    place.send(document("river", LONG, expires_at="2099-01-01T00:00:00Z"), ("gone", None))
    place.send(("river", b"{nonsense"))
    assert place.index()["dead_lettered"] == 1
    told = place.explain("river")
    anchor, chunks = told["anchor"], told["chunks"]
    assert (told["state"], told["missing"], told["left_over"], told["ahead"]) == ("searchable", [], [], [])
    assert [chunk["hash"] for chunk in chunks] == anchor["hashes"]
    assert len(chunks) > 2
    assert (chunks[0]["start"], chunks[1]["start"] > 0, chunks[-1]["text"][:5]) == (0, True, "Water")
    assert anchor["expires_at"] == "2099-01-01T00:00:00Z"
    number = partition_of(b"acme/river", PARTITIONS)
    stream = told["stream"]
    assert (stream["partitions"], stream["key_partition_only"]) == ([f"{place.kafka.topic}/{number}"], True)
    assert [(one["became"], one["compared"]) for one in stream["records"]] == [
        ("indexed", "older"), ("indexed", "equal"), ("dead letter", ""),
    ]  # fmt: skip
    assert stream["records"][1]["place"] == anchor["source"]
    (letter,) = stream["dead_letters"]
    assert letter["origin"] == stream["records"][2]["place"]
    assert stream["newest_is_committed"] is True
    gone = place.explain("gone")
    assert (gone["state"], gone["anchor"]["deleted"], gone["chunks"][0]["text"]) == ("deleted", True, "")
    assert [one["became"] for one in gone["stream"]["records"]] == ["indexed", "deleted"]

    place.send(document("river", "newest words"))
    later = place.explain("river")["stream"]
    assert (later["records"][-1]["compared"], later["newest_is_committed"]) == ("newer", False)
    said = penstock(place.folder, "explain", "river", "--tenant", "acme", variables=place.variables)
    assert said.returncode == 0, said.stderr
    lines = said.stdout.decode()
    assert "document river of tenant acme: searchable" in lines
    assert "newer, beside what is stored" in lines
    assert f"group {place.kafka.group} is 0 offsets before its newest record" in lines


def test_records_are_looked_for_in_all_partitions_where_the_key_does_not_say_where(place: Place) -> None:
    """A producer of another partitioner put the document elsewhere; and nobody knows of one that is not stored."""
    elsewhere = (partition_of(b"acme/river", PARTITIONS) + 1) % PARTITIONS
    with closing(connect_producer(place.kafka)) as producer:
        key, value = document("river", "words")
        producer.send(place.kafka.topic, key=f"acme/{key}".encode(), value=value, partition=elsewhere)
        producer.flush()
    place.index()
    for name, records in (("river", 1), ("nobody", 0)):
        stream = place.explain(name)["stream"]
        assert (len(stream["partitions"]), stream["key_partition_only"]) == (PARTITIONS, False)
        assert len(stream["records"]) == records
    unknown = place.explain("river", "--no-topic", tenant="other")
    assert (unknown["state"], unknown["elsewhere"], unknown["stream"]) == ("unknown", ["acme"], None)


def test_a_query_is_explained_to_the_rule_that_leaves_a_document_out(place: Place) -> None:
    about = [document(f"water{n}", f"Water turns turbine number {n}.", metadata={"n": n}) for n in range(12)]
    place.send(*about, document("cake", "A cake of chocolate, with sugar and eggs."), document("gone", "Water."))
    place.send(("gone", None), document("stale", "Water turns.", expires_at="2020-01-01T00:00:00Z"))
    place.index()
    asked = {"query": "chocolate cake"}
    found = place.query("cake", asked)
    assert (found["found"], found["retrieved"], found["place"], found["answered"]) == (True, 1, 1, 1)
    assert found["rerank_score"] is not None
    assert (found["dense"]["rank"], found["sparse"]["rank"]) == (1, 1)
    few = place.query("cake", {"query": "turbine of water", "top_k": 3})
    assert (few["found"], few["place"] > 3, few["rerank_score"] is not None) == (False, True, True)
    assert few["why_not"].startswith(f"top_k: it comes at place {few['place']}")
    strict = place.query("cake", {"query": "turbine", "score_threshold": {"rerank_score": 1.0}})
    assert strict["why_not"].startswith("score_threshold")
    nearer = place.query("cake", {"query": "turbine number", "candidates": 2, "top_k": 2, "mode": "dense"})
    assert nearer["why_not"].startswith("candidates: 2 chunks are nearer; its best is at place")
    assert (nearer["retrieved"], nearer["dense"]["score"] < 1) == (None, True)
    narrow = {**asked, "filter": {"field": "metadata.n", "equals": 3}}
    assert place.query("cake", narrow)["why_not"] == "filter: none of its chunks meets it"
    assert place.query("water3", {**narrow, "query": "turbine"})["found"] is True
    assert place.query("gone", {"query": "water"})["why_not"] == "it is deleted"
    assert place.query("stale", {"query": "water"})["why_not"] == "it is expired"
    other = place.query("cake", asked, tenant="other")
    assert other["why_not"] == "nothing of it is stored; there is one of tenant acme"
    words = place.query("cake", {"query": "turbine", "mode": "sparse", "top_k": 2, "candidates": 2})
    assert words["why_not"].startswith("nothing in it has anything of the query")


def test_bad_input_is_told_in_one_line(place: Place) -> None:
    with pytest.raises(Misconfigured, match=r"there is no (collection|folder)"):
        place.explain("river", "--no-topic")
    place.send(document("river"))
    place.index()
    for arguments, said in (
        (("--query", '{"query": "x", "top_q": 3}'), "--query: "),
        (("--query", ""), "--query: "),
        (("--tenant", "a b"), "--tenant 'a b'"),
    ):
        with pytest.raises(Misconfigured, match=said):
            place.explain("river", "--no-topic", *arguments)
    with pytest.raises(Misconfigured, match="control character"):
        place.explain("ri\nver", "--no-topic")
