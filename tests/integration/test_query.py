"""``penstock query`` and ``penstock search`` as processes of their own: over HTTP, over a real Kafka, in one breath."""

import json
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.adapters.kafka.connection import connect_producer
from penstock.adapters.kafka.progress import KafkaProgress
from penstock.adapters.kafka.replies import KafkaReplies
from penstock.adapters.kafka.topics import create_topic
from penstock.core.errors import InvalidEvent, Misconfigured, Refused, Unavailable
from penstock.core.records import Message, Place
from penstock.settings import KafkaSettings, QdrantSettings
from tests.checkpoints import Shape, bundle, checkpoint
from tests.conftest import own_qdrant, wait_until
from tests.integration.test_cli import one_line
from tests.kafka_tools import committed, document, new_topic, produce, read_all
from tests.workers import SECONDS, Worker, environment, penstock
from tests.workers import worker as started

pytest.importorskip("transformers")

TEXTS = {
    "hydro": "Falling water drives a turbine that makes electricity.",
    "wind": "Wind turns the blades of a turbine.",
    "chess": "A game of chess against the computer.",
    "mail": "Reads and sends electronic mail.",
    "sound": "Records and edits sound from a microphone.",
}


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reranker")
    checkpoint(folder / "reranker", Shape(), reranker=True, longest=2048)
    return bundle(folder / "reranker", folder / "bundle", "cpu-int7").folder


@contextmanager
def query_worker(folder: Path, variables: Mapping[str, object]) -> Iterator[tuple[Worker, httpx.Client]]:
    env = environment(folder, **{"HTTP__PORT": 0, **variables})
    with started("query", env=env, cwd=folder) as worker, worker.client("listening") as client:
        yield worker, client


def index(folder: Path, variables: Mapping[str, object], texts: Mapping[str, str] = TEXTS) -> None:
    lines = b"\n".join(document(name, text, title=name)[1] for name, text in texts.items())
    done = penstock(folder, "index", "--from", "-", stdin=lines, variables=variables)
    assert done.returncode == 0, done.stderr.decode()


@pytest.fixture
def models(minilm: Path, reranker: Path) -> dict[str, object]:
    return {"MODEL__BUNDLE": minilm, "RERANK__BUNDLE": reranker}


def server(qdrant: QdrantSettings) -> dict[str, object]:
    return {"QDRANT__PATH": "", "QDRANT__URL": qdrant.url, "QDRANT__GRPC_PORT": qdrant.grpc_port,
            "QDRANT__COLLECTION": f"c{uuid.uuid4().hex[:8]}"}  # fmt: skip


def answers(kafka: KafkaSettings, topic: str, count: int) -> list[Any]:
    """The replies, once there are so many."""
    deadline = time.monotonic() + SECONDS
    while len(found := read_all(kafka, topic)) < count:
        assert time.monotonic() < deadline, f"{len(found)} replies of {count}"
    return found


def without_id(reply: Mapping[str, Any]) -> dict[str, Any]:
    return {name: reply[name] for name in ("hits", "reranked", "not_reranked", "model")}


def test_a_query_on_the_topic_and_one_over_http_give_the_same_hits(
    broker: str, qdrant_process: QdrantSettings, models: dict[str, object], tmp_path: Path
) -> None:
    kafka = new_topic(broker)
    own = f"own-{kafka.topic}"
    replies = f"replies-{kafka.topic}"
    variables = {
        **models, **server(qdrant_process), "KAFKA__BOOTSTRAP_SERVERS": broker, "QUERY__TOPIC": kafka.topic,
        "QUERY__GROUP": kafka.group, "QUERY__REPLY_TOPIC": replies, "QUERY__REPLY_TOPICS": own,
    }  # fmt: skip
    index(tmp_path, variables)
    asked: list[dict[str, Any]] = [
        {"id": "1", "query": "electricity from water", "top_k": 3},
        {"id": "2", "query": "electricity from water", "rerank": False},
        {"id": "3", "query": "a game", "filter": {"field": "document", "any_of": ["chess", "mail"]}},
        {"id": "4", "query": "anything", "tenant": "nobody"},
    ]
    with query_worker(tmp_path, variables) as (worker, client):
        worker.until("ready")
        worker.until("started")
        with closing(connect_producer(kafka)) as producer:
            for body in asked:
                headers = [("correlation_id", str(body["id"]).encode()), ("reply_to", own.encode())]
                producer.send(kafka.topic, key=b"k", value=json.dumps(body).encode(), headers=headers)
            producer.send(kafka.topic, key=b"bad", value=b"{nonsense", headers=[("correlation_id", b"5")])
            producer.send(kafka.topic, key=b"null", value=b'{"query": "x", "filter": {"all": null}}')
            producer.flush()
        over_kafka = answers(kafka, own, len(asked))
        refused, null = answers(kafka, replies, 2)
        for record, body in zip(over_kafka, asked, strict=True):
            over_http = client.post("/v1/search", json=body).json()
            reply = json.loads(record.value)
            assert reply["id"] == body["id"]
            assert without_id(reply) == without_id(over_http)
            assert (record.key, dict(record.headers)) == (b"k", {"correlation_id": str(body["id"]).encode()})
        hits = [json.loads(record.value)["hits"] for record in over_kafka]
        assert [len(one) for one in hits] == [3, 5, 2, 0]
        assert hits[1][0]["document"] == "hydro"
        assert (json.loads(refused.value)["id"], dict(refused.headers)) == ("bad", {"correlation_id": b"5"})
        assert "null is no condition" in json.loads(null.value)["error"]
        letter, _ = read_all(kafka, f"{kafka.topic}.dlq")
        assert letter.value == b"{nonsense"
        assert dict(letter.headers)["__connect.errors.stage"] == b"decode"
        assert client.get("/readyz").status_code == 200
        assert worker.stop() == 0
    assert worker.lines[-1]["event"] == "ended"
    assert {name: worker.lines[-1][name] for name in ("answered", "too_late", "dead_lettered")} == {
        "answered": 4, "too_late": 0, "dead_lettered": 2}  # fmt: skip
    assert committed(kafka) == {0: 6}


def test_a_search_waits_for_the_record_that_it_names(
    broker: str, qdrant_process: QdrantSettings, models: dict[str, object], tmp_path: Path
) -> None:
    """Written, then asked for at once: found every time, while the index worker is at work beside it."""
    kafka = new_topic(broker, partitions=2)
    variables = {
        **models, **server(qdrant_process), "KAFKA__BOOTSTRAP_SERVERS": broker, "KAFKA__TOPIC": kafka.topic,
        "KAFKA__GROUP": kafka.group, "QUERY__FOLLOW": "true", "RERANK__ENABLED": "false",
    }  # fmt: skip
    produce(kafka, [document("first")])
    assert penstock(tmp_path, "index", "--once", variables=variables).returncode == 0
    env = environment(tmp_path, **variables)
    with (
        query_worker(tmp_path, variables) as (worker, client),
        started("index", env=env, cwd=tmp_path) as indexer,
        closing(connect_producer(kafka)) as producer,
    ):  # fmt: skip
        worker.until("ready")
        for n in range(8):
            key, value = document(f"new-{n}", f"the word number{n} is new")
            sent = producer.send(kafka.topic, key=key.encode(), value=value).get(timeout=SECONDS)
            after = {"topic": kafka.topic, "partition": sent.partition, "offset": sent.offset}
            body = {"query": f"number{n}", "after": after, "timeout_ms": 30_000, "top_k": 1,
                    "filter": {"field": "document", "equals": f"new-{n}"}}  # fmt: skip
            reply = client.post("/v1/search", json=body).json()
            assert [hit["document"] for hit in reply["hits"]] == [f"new-{n}"], reply
            assert "after" in reply["timings_ms"]
        probe = ("probe", "--url", str(client.base_url))
        assert b"was searchable after" in penstock(tmp_path, *probe, variables=variables).stdout
        assert indexer.stop() == 0
        lost = penstock(tmp_path, *probe, "--timeout-s", "2", variables=variables)
        assert "is not in the answers after" in one_line(lost, 2)
        beyond_all = {**after, "offset": sent.offset + 100}  # the probes' own records follow on some partition
        future = {"query": "x", "after": beyond_all, "timeout_ms": 300}
        assert client.post("/v1/search", json=future).status_code == 504
        for wrong, said in (({"topic": "other"}, "the index follows topic"), ({"partition": 2}, "has 2 partitions")):
            refused = client.post("/v1/search", json={"query": "x", "after": {**after, **wrong}})
            assert (refused.status_code, said in refused.text) == (400, True)
        assert worker.stop() == 0


def test_a_store_that_goes_away_is_503_and_comes_back_by_itself(models: dict[str, object], tmp_path: Path) -> None:
    kept = str(tmp_path / "kept")
    with own_qdrant(0, kept) as (first, known):
        variables = {**models, **server(known)}
        index(tmp_path, variables)
        with query_worker(tmp_path, {**variables, "QUERY__TIMEOUT_S": 3}) as (worker, client):
            worker.until("ready")
            assert client.post("/v1/search", json={"query": "chess"}).status_code == 200
            first.kill()
            first.wait()
            assert client.post("/v1/search", json={"query": "chess"}).status_code == 503
            assert client.get("/healthz").status_code == 200
            with own_qdrant(known.grpc_port, kept):
                wait_until(lambda: client.post("/v1/search", json={"query": "chess"}).status_code == 200, 20)
                assert worker.stop() == 0


def test_search_prints_a_table_or_json_from_the_store_or_from_a_worker(
    models: dict[str, object], tmp_path: Path
) -> None:
    index(tmp_path, models)
    here = penstock(tmp_path, "search", "electricity", "--top-k", "2", variables=models)
    assert here.returncode == 0, here.stderr.decode()
    assert "hydro" in here.stdout.decode() or "wind" in here.stdout.decode()
    assert "reranked" in here.stdout.decode()
    hostile = {"h": "a \\[/foo] [red]b\x1b[31m \\"}
    index(tmp_path, models, hostile)
    shown = penstock(tmp_path, "search", "a b", "--filter", '{"field": "document", "equals": "h"}', variables=models)
    assert "a \\[/foo] [red]b[31m \\" in shown.stdout.decode()
    options = ("--json", "--no-rerank", "--filter", '{"field": "document", "equals": "wind"}')
    alone = json.loads(penstock(tmp_path, "search", "turbine", *options, variables=models).stdout)
    assert [hit["document"] for hit in alone["hits"]] == ["wind"]
    with query_worker(tmp_path, {**models, "HTTP__API_KEYS": '{"": "a key of sixteen"}'}) as (worker, client):
        worker.until("ready")
        remote = ("search", "turbine", "--url", str(client.base_url))
        variables = {"SEARCH__API_KEY": "a key of sixteen"}
        asked = json.loads(penstock(tmp_path, *remote, *options, variables=variables).stdout)
        assert asked["hits"] == alone["hits"]
        assert "401: a key is needed" in one_line(penstock(tmp_path, *remote), 2)
        said = one_line(penstock(tmp_path, *remote, "--top-k", "1000", variables=variables), 2)
        assert "400: top_k: 1000 is more than 100" in said
        assert "a key of sixteen" not in json.dumps(worker.lines)


def test_nonsense_on_the_wire_is_a_few_lines_of_json(models: dict[str, object], tmp_path: Path) -> None:
    index(tmp_path, models)
    with query_worker(tmp_path, models) as (worker, client):
        worker.until("ready")
        for _ in range(20):
            with socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=20) as asking:
                asking.sendall(b"no HTTP at all\r\n\r\n")
                assert b"400" in asking.recv(65536)
        assert worker.stop() == 0
    told = [line for line in worker.lines if line["event"] == "library"]
    assert 1 <= len(told) <= 5
    assert {line["logger"] for line in told} == {"uvicorn.error"}


def test_a_worker_that_stops_answers_what_is_in_hand(models: dict[str, object], tmp_path: Path) -> None:
    index(tmp_path, models, {f"d{n}": f"water number {n} " * 60 for n in range(100)})
    with query_worker(tmp_path, models) as (worker, client), ThreadPoolExecutor(1) as pool:
        worker.until("ready")
        answer = pool.submit(client.post, "/v1/search", json={"query": "water", "timeout_ms": 60_000})
        deadline = time.monotonic() + SECONDS
        while "penstock_query_under_way 1.0" not in httpx.get(f"{client.base_url}/metrics").text:
            assert time.monotonic() < deadline
        assert worker.stop() == 0
        assert (answer.result().status_code, answer.result().json()["reranked"]) == (200, True)


def test_what_is_wrong_before_the_start_is_one_line(models: dict[str, object], minilm: Path, tmp_path: Path) -> None:
    def fails(*arguments: str, **variables: object) -> str:
        return one_line(penstock(tmp_path, *arguments, variables={**models, **variables}), 2)

    assert "index into it first" in fails("query", HTTP__PORT=0)
    (tmp_path / "qdrant").mkdir()
    assert "there is no collection 'documents' yet" in fails("query", HTTP__PORT=0)
    index(tmp_path, models)
    assert "no reranker: set PENSTOCK_RERANK__BUNDLE" in fails("query", RERANK__BUNDLE="")
    assert "holds a model for embedding, not for reranker" in fails("query", RERANK__BUNDLE=minilm)
    assert "dimension 384 there, 128 here" in fails("query", HTTP__PORT=0, MODEL__DIMENSION=128)
    assert "nothing to listen to" in fails("query", HTTP__ENABLED="false")
    assert "--once is about a topic" in fails("query", "--once")
    assert "at least 16 printable" in fails("query", HTTP__API_KEYS='{"acme": "short"}')
    wrong_way_round = fails("query", HTTP__API_KEYS='{"a-long-secret-key-of-acme": "acme"}')
    assert "a-long-secret" not in wrong_way_round
    assert "JSON, like" in fails("query", HTTP__API_KEYS="acme:a-long-secret-key")
    for topics in ({"QUERY__REPLY_TOPIC": "q"}, {"QUERY__REPLY_TOPICS": "q.dlq"}, {"KAFKA__TOPIC": "replies"}):
        assert "topic" in fails("query", QUERY__TOPIC="q", **topics)
    assert "two tenants share a key" in fails("query", HTTP__API_KEYS=json.dumps({"a": "k" * 16, "b": "k" * 16}))
    assert "top_k and candidates may not be above" in fails("query", QUERY__TOP_K=1000)
    assert "tenant and tenant_from = fixed go together" in fails("query", QUERY__TENANT_FROM="fixed")
    assert "'a b' is none" in fails("query", QDRANT__FILTER_FIELDS='{"a b": "keyword"}')
    assert "--filter: no JSON" in fails("search", "x", "--filter", "{")
    assert "there is no field 'colour'" in fails("search", "x", "--filter", '{"field": "colour", "equals": "red"}')
    for place in ("1", "t/0/²", "t/0/99999999999999999999"):
        assert "topic/partition/offset, please" in fails("search", "x", "--after", place)
    assert "query: is empty" in fails("search", " ")


def test_a_secret_is_not_shown_by_config(tmp_path: Path) -> None:
    shown = penstock(tmp_path, "config", "--json", variables={"HTTP__API_KEYS": '{"acme": "sixteen letters!"}'})
    assert b"sixteen letters!" not in shown.stdout + shown.stderr
    assert json.loads(shown.stdout)["http"]["api_keys"] == {"acme": ["**********"]}


def test_longer_vectors_score_what_the_short_ones_find(minilm: Path, tmp_path: Path) -> None:
    variables = {"MODEL__BUNDLE": minilm, "RERANK__ENABLED": "false", "MODEL__DIMENSION": 128,
                 "MODEL__FULL_DIMENSION": 384}  # fmt: skip
    index(tmp_path, variables)
    both = json.loads(penstock(tmp_path, "search", "--json", "electricity", variables=variables).stdout)
    whole = tmp_path / "whole"
    whole.mkdir()
    index(whole, {"MODEL__BUNDLE": minilm})
    alone = {"MODEL__BUNDLE": minilm, "RERANK__ENABLED": "false"}
    expected = json.loads(penstock(whole, "search", "--json", "electricity", variables=alone).stdout)
    for mine, theirs in zip(both["hits"], expected["hits"], strict=True):
        assert (mine["document"], mine["retrieval_score"]) == (
            theirs["document"], pytest.approx(theirs["retrieval_score"], abs=1e-5))  # fmt: skip
    assert both["model"]["dimension"] == 128
    shorter = {**variables, "MODEL__FULL_DIMENSION": 128}
    assert "longer than model.dimension" in one_line(penstock(tmp_path, "search", "x", variables=shorter), 2)


def test_progress_is_what_the_group_has_committed(broker: str) -> None:
    kafka = new_topic(broker, partitions=2)
    progress = KafkaProgress(kafka)
    assert progress.searchable([Place(kafka.topic, 0, 0), Place(kafka.topic, 1, 5)]) == [False, False]
    for place in (Place("other", 0, 0), Place(kafka.topic, 2, 0)):
        with pytest.raises(InvalidEvent, match="after: "):
            progress.searchable([place])
    progress.close()
    with pytest.raises(Unavailable):
        KafkaProgress(KafkaSettings(bootstrap_servers="127.0.0.1:1", topic="t")).searchable([Place("t", 0, 0)])
    with pytest.raises(Misconfigured, match=r"127\.0\.0\.1:port"):
        KafkaProgress(KafkaSettings(bootstrap_servers="127.0.0.1:port", topic="t")).searchable([Place("t", 0, 0)])


def test_an_answer_that_the_topic_does_not_take_is_refused(broker: str) -> None:
    kafka = new_topic(broker)
    create_topic(kafka, 1)
    with closing(connect_producer(kafka)) as producer:
        replies = KafkaReplies(producer)
        replies.put([Message(kafka.topic, b"k", b"{}", (("correlation_id", None),))])
        with pytest.raises(Refused, match="ask for fewer documents"):
            replies.put([Message(kafka.topic, b"k", b"x" * 2_000_000)])
    (record,) = read_all(kafka, kafka.topic)
    assert (record.key, record.value) == (b"k", b"{}")


def test_evaluate_measures_the_search_as_it_is_served(models: dict[str, object], tmp_path: Path) -> None:
    index(tmp_path, models)
    asked = [{"id": name, "query": text, "relevant": [name]} for name, text in TEXTS.items()]
    asked.append({"id": "none", "query": "nothing", "relevant": ["not there"]})
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked))
    done = penstock(tmp_path, "evaluate", "queries.jsonl", "--json", "--recall", "1,5", variables=models)
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads(done.stdout)
    assert (report["queries"], report["documents"], report["missing"]) == (6, 5, 1)
    ways = [(row["search"], row["mode"], row["dimension"], row["order"]) for row in report["rows"]]
    assert ways == [
        *(("as served", "hybrid", 384, order) for order in ("search", "reranker", "both")),
        *(("as served", mode, 384, "search") for mode in ("dense", "sparse")),
        *(("exact", "dense", d, "search") for d in (32, 64, 128, 256, 384)),
    ]
    assert report["gains"].keys() == {
        *("reranker over search", "both over search", "both over reranker"),
        *("hybrid over dense", "sparse over dense"),
    }
    assert any("PENSTOCK_RERANK__ENABLED=false" in advice for advice in report["serve"]), "random weights"
    served, whole = report["rows"][0]["metrics"], report["rows"][-1]["metrics"]
    assert served == whole == pytest.approx({"nDCG@10": 5 / 6, "R@1": 5 / 6, "R@5": 5 / 6, "RR@10": 5 / 6})
    reranked = report["rows"][1]["metrics"]
    assert (reranked["R@5"], reranked["RR@10"] < 5 / 6) == (pytest.approx(5 / 6), True)  # random weights
    table = penstock(tmp_path, "evaluate", "queries.jsonl", "--no-rerank", variables=models).stdout.decode()
    assert "1 relevant documents are not in the collection" in table
    assert "│ hybrid │ 384 " in table
    for given, said in (("ten", "--recall 'ten'"), ("10,200", "only 100 candidates are looked at")):
        wrong = penstock(tmp_path, "evaluate", "queries.jsonl", "--recall", given, variables=models)
        assert said in one_line(wrong, 2)
    asked.append({"query": "water " * 600, "relevant": ["hydro"]})
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked))
    wrong = penstock(tmp_path, "evaluate", "queries.jsonl", variables=models)
    assert f"queries.jsonl, line {len(asked)}: query: has 602 tokens" in one_line(wrong, 2)


def test_evaluate_measures_a_model_with_and_without_its_task(tmp_path: Path) -> None:
    checkpoint(tmp_path / "embedding", Shape(), longest=512)
    made = bundle(tmp_path / "embedding", tmp_path / "bundle", "cpu-int7").folder
    variables = {"MODEL__BUNDLE": made, "MODEL__DIMENSION": 48, "RERANK__ENABLED": "false"}
    index(tmp_path, variables)
    asked = [{"query": text, "relevant": {name: 2}} for name, text in TEXTS.items()]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked))
    done = penstock(tmp_path, "evaluate", "queries.jsonl", "--json", variables=variables)
    assert done.returncode == 0, done.stderr.decode()
    rows = json.loads(done.stdout)["rows"]
    ways = [(row["search"], row["mode"], row["dimension"], row["instruction"], row["trained"]) for row in rows]
    assert ways == [
        ("as served", "hybrid", 48, True, True),
        ("as served", "dense", 48, True, True),
        ("as served", "sparse", 48, True, True),
        ("exact", "dense", 32, True, True),
        ("exact", "dense", 48, True, True),
        ("exact", "dense", 48, False, True),
    ]
    assert rows[1]["metrics"] == rows[4]["metrics"]
    assert rows[2]["metrics"]["R@10"] == 1, "each text is asked for in its own words"
