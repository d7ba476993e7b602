"""The query worker over HTTP: a real server on a real port, over the shipped fakes."""

import asyncio
import base64
import json
import socket
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import httpx
import numpy as np
import pytest

from penstock.core.documents import Point
from penstock.core.errors import InvalidEvent, Misconfigured, Unavailable
from penstock.core.queries import EmbeddedBy, Hit, Lookup
from penstock.core.terms import Weighting
from penstock.core.vectors import Vector
from penstock.fakes import MemoryStore, OverlapReranker
from penstock.query.http.admission import Keys
from penstock.query.http.app import create_app, create_operations
from penstock.query.http.client import QueryClient
from penstock.query.http.model_api import ModelApi
from penstock.query.http.protocol import Connections
from penstock.query.http.server import EventLoopThread, HttpServer
from penstock.query.http.service import Service
from penstock.query.replies import ModelBody, ReplyBody
from penstock.query.requests import Limits, QueryBody, to_query
from penstock.query.search import Search
from penstock.query.served import Served
from penstock.query.sides import PairScorer
from tests.conftest import wait_until
from tests.unit.test_search import EMBEDDER, TEXTS, TOKENIZER, Recorder, Slow, encoder, scorer, stored

MODEL = ModelBody(embedding="m@1", dimension=8, reranker="r@1")
LIMITS = Limits(timeout_s=5.0)


@dataclass
class ServedWorker:
    """A worker on a port of its own."""

    service: Service
    search: Search
    client: httpx.Client
    server: HttpServer
    bugs: list[str]

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post(path, content=content, headers=headers)


def dimension(_by: EmbeddedBy, wanted: int) -> int:
    if wanted > EMBEDDER.dimension:
        raise InvalidEvent(f"dimensions: {wanted} is too many")
    return wanted


@contextmanager
def served(
    store: Any, with_reranker: PairScorer | None, *, opened: bool = True, **given: Any
) -> Iterator[ServedWorker]:
    bugs: list[str] = []
    connections = given.pop("connections", None)
    limits = given.pop("limits", LIMITS)
    service = Service(limits, MODEL, Keys(given.pop("keys", {})), bug=lambda *said: bugs.append(str(said)), **given)
    search = Search(Served(encoder(), store), with_reranker)
    event_loop = EventLoopThread()
    server = HttpServer(event_loop, create_app(service), "127.0.0.1", 0, 2.0, connections)
    if opened:
        service.open(search, ModelApi(search, MODEL.reranker, dimension, 4, 8192, 5.0))
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=20) as client:
        yield ServedWorker(service, search, client, server, bugs)
    server.close()
    search.close()
    event_loop.close()


def documents() -> MemoryStore:
    return stored(("hydro", "water drives the turbine"), ("sea", "salt water"), ("poem", "roses are red"))


@pytest.fixture
def here() -> Iterator[ServedWorker]:
    with served(documents(), scorer()) as made:
        yield made


def test_a_head_that_does_not_end_ends_its_connection(here: ServedWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    def answered(request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", here.server.port), timeout=20) as asking:
            with suppress(ConnectionError):
                asking.sendall(request)
            answer = b""
            with suppress(ConnectionError):
                while part := asking.recv(65536):
                    answer += part
            return answer

    start = b"POST /v1/search HTTP/1.1\r\nHost: here\r\n"
    assert answered(start + b"X-Long: y\r\n" * 100_000) == b""
    body = b'{"query": "water"}'
    head = start + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert answered(head + body).startswith(b"HTTP/1.1 200 OK")
    monkeypatch.setattr("penstock.query.http.protocol.HEAD_S", 0.2)
    assert answered(start) == b""
    assert here.post("/v1/search", {"query": "water"}).status_code == 200


@pytest.mark.parametrize(
    ("start", "status", "crumb"),
    [
        ("POST /v1/search HTTP/1.1\r\nContent-Length: 99", 401, b" "),
        ("POST /v1/search HTTP/1.1\r\nTransfer-Encoding: chunked", 401, b"1\r\n \r\n"),
        ("POST /v1/search HTTP/1.1\r\nX-Api-Key: the key of one\r\nContent-Length: 9000000", 413, b" "),
        ("POST /nowhere HTTP/1.1\r\nContent-Length: 99", 404, b" "),
        ("GET /healthz HTTP/1.1\r\nContent-Length: 99", 200, b" "),
        ("GET /healthz HTTP/1.1", 200, b"\r\n"),
        ("GET /healthz HTTP/1.1", 200, b"G"),
    ],
)
def test_who_dribbles_after_the_answer_is_closed(
    start: str, status: int, crumb: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LINGER_S", "HEAD_S"):
        monkeypatch.setattr(f"penstock.query.http.protocol.{name}", 0.3)
    with (
        served(documents(), None, keys={"one": ["the key of one"]}) as here,
        socket.create_connection(("127.0.0.1", here.server.port), timeout=20) as asking,
    ):
        asking.sendall(f"{start}\r\nHost: here\r\n\r\n".encode())
        assert asking.recv(65536).startswith(b"HTTP/1.1 %d " % status)
        asking.settimeout(0.1)

        def closed() -> bool:
            try:
                asking.sendall(crumb)
                return asking.recv(65536) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        wait_until(closed, 4)


def test_what_follows_an_answer_is_not_read_for_ever() -> None:
    with (
        served(documents(), None, keys={"one": ["the key of one"]}) as here,
        socket.create_connection(("127.0.0.1", here.server.port), timeout=20) as asking,
    ):
        asking.sendall(b"POST /v1/search HTTP/1.1\r\nHost: here\r\nContent-Length: 99000000000\r\n\r\n")
        assert asking.recv(65536).startswith(b"HTTP/1.1 401 ")
        sent = 0
        with suppress(ConnectionError):
            while True:
                sent += asking.send(bytes(1 << 16))
        assert sent < 32 << 20


def test_a_body_that_ends_after_its_answer_leaves_the_connection_open() -> None:
    with (
        served(documents(), None, keys={"one": ["the key of one"]}) as here,
        socket.create_connection(("127.0.0.1", here.server.port), timeout=20) as asking,
    ):
        for _ in range(3):
            asking.sendall(b"POST /v1/search HTTP/1.1\r\nHost: here\r\nContent-Length: 900000\r\n\r\n")
            assert asking.recv(65536).startswith(b"HTTP/1.1 401 ")
            asking.sendall(bytes(900_000))


def test_who_takes_nothing_of_an_answer_is_cut_off_and_who_takes_it_slowly_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("WRITE_S", "HEAD_S"):
        monkeypatch.setattr(f"penstock.query.http.protocol.{name}", 0.5)
    connections = Connections()
    with served(documents(), None, connections=connections) as here, ExitStack() as opened:

        def asking() -> socket.socket:
            asked = opened.enter_context(socket.socket())
            asked.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            asked.settimeout(20)
            asked.connect(("127.0.0.1", here.server.port))
            asked.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n" * 300)
            return asked

        asking()
        wait_until(lambda: connections.open == 1)
        wait_until(lambda: connections.open == 0, 10)
        slow, taken, last = asking(), 0, time.monotonic() + 2.5
        while time.monotonic() < last:
            taken += len(slow.recv(1 << 16))
            time.sleep(0.02)  # so much a second is what is tried
        assert taken > 100_000
        assert connections.open == 1


def test_trailers_of_a_body_are_not_kept_and_have_an_end(here: ServedWorker) -> None:
    with socket.create_connection(("127.0.0.1", here.server.port), timeout=20) as asking:
        asking.sendall(b"POST /v1/search HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
        trailer = b"X-More: " + b"y" * 10_000 + b"\r\n"
        with pytest.raises(ConnectionError):
            asking.sendall(trailer * 10_000)


def test_who_asks_for_another_protocol_keeps_no_connection() -> None:
    with served(documents(), None, connections=Connections(9, 5)) as here:
        for _ in range(8):
            with socket.create_connection(("127.0.0.1", here.server.port), timeout=20) as asking:
                asking.sendall(
                    b"GET /healthz HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
                )
                assert asking.recv(65536).startswith(b"HTTP/1.1 200")
        assert here.client.get("/healthz").status_code == 200


def test_one_address_cannot_take_all_connections() -> None:
    with served(documents(), None, connections=Connections(8, 5)) as here, ExitStack() as opened:
        port = here.server.port

        def connected(address: str) -> socket.socket:
            return opened.enter_context(socket.create_connection(("127.0.0.1", port), 20, (address, 0)))

        greedy = [connected("127.0.0.2") for _ in range(5)]
        assert b"503" in connected("127.0.0.2").recv(65536)
        assert here.client.get("/healthz").status_code == 200
        greedy.pop().close()

        def answered() -> bool:
            kept = connected("127.0.0.2")
            kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
            return kept.recv(65536).startswith(b"HTTP/1.1 200")

        wait_until(answered)
        for last in (3, 4):
            connected(f"127.0.0.{last}")
        assert b"too many connections" in connected("127.0.0.5").recv(65536)


def test_a_search_is_answered_by_the_schema(here: ServedWorker) -> None:
    answer = here.post("/v1/search", {"id": "mine", "query": "water turbine", "top_k": 2})
    assert answer.status_code == 200
    body = answer.json()
    assert (body["id"], body["reranked"], [hit["document"] for hit in body["hits"]]) == ("mine", True, ["hydro", "sea"])
    assert body["model"] == {"embedding": "m@1", "dimension": 8, "reranker": "r@1"}
    assert set(body["timings_ms"]) == {"embed", "retrieve", "rerank"}
    assert here.post("/v1/search", {"query": "water"}).json()["id"]


def test_a_search_says_how_it_found_and_what_each_way_says() -> None:
    with served(stored(*TEXTS, terms=Weighting()), None) as here:
        assert here.client.get("/v1/info").json()["modes"] == ["hybrid", "dense", "sparse"]
        body = here.post("/v1/search", {"query": "turbine"}).json()
        assert body["mode"] == "hybrid"
        best, *others = body["hits"]
        assert (best["document"], best["sparse"]) == ("hydro", {"score": 1.0, "rank": 1})
        assert all(hit["dense"]["rank"] and hit["sparse"] is None for hit in others)
        by_words = here.post("/v1/search", {"query": "turbine", "mode": "sparse"}).json()
        assert [(hit["document"], hit["dense"]) for hit in by_words["hits"]] == [("hydro", None)]
        assert by_words["mode"] == "sparse"
    with served(documents(), None) as here:
        assert here.client.get("/v1/info").json()["modes"] == ["dense"]
        refused = here.post("/v1/search", {"query": "turbine", "mode": "sparse"})
        assert refused.status_code == 400
        assert "needs a collection with terms" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v1/search", {"query": "x", "mode": "keyword"}, 400, "mode"),
        ("/v1/search", b"", 400, "the value is empty"),
        ("/v1/search", b"\xff\xfe", 400, "in UTF-16"),
        ("/v1/search", b"[" * 100_000, 400, "is a list"),
        ("/v1/search", b'{"query": ' + b"[" * 100_000, 400, "recursion limit"),
        ("/v1/search", {"query": " "}, 400, "query: is empty"),
        ("/v1/search", {"query": "x" * 8193}, 400, "8193 characters"),
        ("/v1/search", {"query": "x", "top_k": 0}, 400, "top_k"),
        ("/v1/search", {"query": "x", "top_k": 10**6}, 400, "more than 100"),
        ("/v1/search", {"query": "x", "filter": {"field": "secret", "equals": 1}}, 400, "no field 'secret'"),
        ("/v1/search", {"query": "x", "filter": {"field": "metadata.a", "equals": [1]}}, 400, "filter.equals"),
        ("/v1/search", {"query": "x", "fliter": {}}, 400, "fliter"),
        ("/v1/search", {"query": "x", "filter": {"all": None}}, 400, "null is no condition"),
        ("/v1/search", None, 400, "the JSON text null"),
        ("/v1/search", b"x" * 262_145, 413, "larger than 262144 bytes"),
        ("/v1/rerank", b"x" * 1_000_001, 413, "larger than 1000000 bytes"),
        ("/v1/search", {"query": "x", **{f"k{n}": n for n in range(9000)}}, 400, "9001 fields, at most 64"),
        ("/v1/rerank", {"query": "x", **{f"k{n}": n for n in range(50_000)}}, 400, "50001 fields, at most 64"),
        ("/v1/search", {"query": "x", "filter": {"field": "metadata.a", "any_of": [True] * 6000}}, 400, "at most 5000"),
        ("/v1/search", {"query": "x", "filter": {"any": [{"all": [1] * 4000}] * 9}}, 400, "more than 10000 parts"),
        ("/v1/embeddings", {"input": [1] * 200_000}, 400, "200000 elements; at most 5000 are read"),
        ("/v1/embeddings", {"input": ["a"] * 4, "input_type": "query", "instruction": "x" * 9000}, 400, "instruction"),
        ("/v1/rerank", {"query": "x" * 9000, "documents": ["a"] * 4}, 400, "query: has 9000 characters"),
        ("/v1/nothing", {}, 404, "Not Found"),
        ("/healthz", {}, 405, "Method Not Allowed"),
        ("/v1/embeddings", {"input": []}, 400, "input"),
        ("/v1/embeddings", {"input": [1, 2]}, 400, "token ids"),
        ("/v1/embeddings", {"input": [[1, 2]]}, 400, "token ids"),
        ("/v1/embeddings", {"input": ["a", ""]}, 400, "input.1: is empty"),
        ("/v2/rerank", {"query": "a", "documents": [{"name": "x"}]}, 400, "documents.0: has no text"),
        (
            "/rerank",
            {"query": "a", "documents": [{"a": 1}], "rank_fields": ["a"]},
            400,
            "documents.0: has no a that is",
        ),
        ("/v1/embeddings", {"input": ["a"] * 5}, 400, "5 texts; at most 4"),
        ("/v1/embeddings", {"input": "word " * 70}, 400, "input.0: has 71 tokens; at most 64 are allowed"),
        ("/v1/embeddings", {"input": "a", "dimensions": 9}, 400, "dimensions: 9"),
        ("/v1/rerank", {"query": "a", "documents": []}, 400, "documents"),
        ("/v1/rerank", {"query": "a", "documents": ["a"] * 5}, 400, "5 texts; at most 4"),
        ("/v1/rerank", {"query": "w " * 600, "documents": ["a"]}, 400, "there is room for 511"),
    ],
)
def test_bad_input_is_told_in_one_form(here: ServedWorker, path: str, body: Any, status: int, said: str) -> None:
    answer = here.post(path, body)
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]
    assert here.bugs == []
    assert here.post("/v1/search", {"query": "water"}).status_code == 200


def test_a_byte_order_mark_before_a_body_is_harmless(here: ServedWorker) -> None:
    for path, body in (("search", {"query": "water"}), ("embeddings", {"input": "a"})):
        assert here.post(f"/v1/{path}", b"\xef\xbb\xbf" + json.dumps(body).encode()).status_code == 200


def test_embeddings_are_those_of_the_index_in_openais_form(here: ServedWorker) -> None:
    body = here.post("/v1/embeddings", {"model": "any", "input": ["salt water", "roses"], "user": "me"}).json()
    expected = EMBEDDER.embed(TOKENIZER.encode(["salt water", "roses"]))
    assert np.allclose([one["embedding"] for one in body["data"]], expected)
    assert (body["object"], body["model"], [one["index"] for one in body["data"]]) == ("list", "m@1", [0, 1])
    assert body["usage"] == {"prompt_tokens": 5, "total_tokens": 5}
    short = here.post("/v1/embeddings", {"input": "salt water", "dimensions": 3, "encoding_format": "base64"}).json()
    row = np.frombuffer(base64.b64decode(short["data"][0]["embedding"]), dtype="<f4")
    assert np.allclose(row, expected[0, :3] / np.linalg.norm(expected[0, :3]))
    asked = here.post("/v1/embeddings", {"input": "water", "input_type": "query", "instruction": "task"}).json()
    assert np.allclose(asked["data"][0]["embedding"], EMBEDDER.embed(TOKENIZER.encode(["task: water"]))[0])


def test_documents_are_reranked_in_coheres_form(here: ServedWorker) -> None:
    given = {"query": "water turbine", "documents": ["roses", {"text": "turbine of water"}, "water"], "model": "any"}
    body = here.post("/v1/rerank", given).json()
    assert [one["index"] for one in body["results"]] == [1, 2, 0]
    assert body["results"][0]["relevance_score"] == pytest.approx(1 / (1 + np.exp(-2)))
    body = here.post("/v1/rerank", {**given, "top_n": 1, "return_documents": True}).json()
    assert body["results"] == [{"index": 1, "relevance_score": pytest.approx(0.88, abs=0.01),
                                "document": {"text": "turbine of water"}}]  # fmt: skip


def test_without_a_reranker_the_search_goes_on_and_rerank_is_refused() -> None:
    with served(documents(), None) as here:
        assert here.post("/v1/search", {"query": "water", "rerank": True}).json()["not_reranked"]
        answer = here.post("/v1/rerank", {"query": "a", "documents": ["b"]})
        assert (answer.status_code, "rerank.enabled" in answer.text) == (400, True)


KEYS = {"acme": ["the key of acme"], "other": ["the key of other", "its older key"]}


def test_with_keys_the_key_decides_whose_documents_are_seen() -> None:
    store = documents()
    theirs = [replace_tenant(point, "acme") for point in store.points.values() if point.event.key.document == "sea"]
    store.upsert(theirs)
    with served(store, scorer(), keys=KEYS) as here:
        for headers in ({"Authorization": "Bearer the key of acme"}, {"X-API-Key": "the key of acme"}):
            body = here.post("/v1/search", {"query": "water"}, **headers).json()
            assert [hit["document"] for hit in body["hits"]] == ["sea"]
        key = {"Authorization": "bearer its older key"}
        assert here.post("/v1/search", {"query": "water"}, **key).json()["hits"] == []
        assert here.post("/v1/search", {"query": "water", "tenant": "other"}, **key).status_code == 200
        forbidden = here.post("/v1/search", {"query": "water", "tenant": "acme"}, **key)
        assert (forbidden.status_code, forbidden.json()["error"]["type"]) == (403, "forbidden")


def replace_tenant(point: Point, tenant: str) -> Point:
    return replace(point, event=replace(point.event, key=point.event.key._replace(tenant=tenant)))


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic the key of acme"},
                                     {"X-API-Key": ""}])  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/search", "/v1/embeddings", "/v1/rerank"])
def test_without_a_known_key_nothing_is_done(headers: dict[str, str], path: str) -> None:
    store: Any = Recorder(documents())
    with served(store, scorer(), keys=KEYS) as here:
        answer = here.post(path, {"query": "water", "input": "a", "documents": ["a"]}, **headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert store.searches == []
        assert here.client.get("/healthz").status_code == 200
        assert here.client.get("/v1/info").json()["keys"] is True


class Gated:
    """A reranker that waits at a gate, and counts its batches."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.batches = 0

    def logits(self, pairs: Sequence[Sequence[int]]) -> Vector:
        self.batches += 1
        self.begun.set()
        assert self.gate.wait(60)
        return OverlapReranker().logits(pairs)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *((name, 200) for name in ("localhost", "LOCALHOST.:80", "127.0.0.1:8080", "127.9.9.9", "[::1]:80", "[::1]")),
        *(
            (name, 403)
            for name in (
                "evil.example",
                "localhost.evil.example:80",
                "10.0.0.1",
                "127.0.0.1.nip.io",
                "[::1].evil.example",
                "127.0.0.1:evil",
                "",
            )
        ),
    ],
)
def test_without_keys_a_local_worker_answers_to_local_names_only(host: str, status: int) -> None:
    with served(documents(), None, names=("localhost",)) as here:
        for path in ("/v1/info", "/metrics", "/healthz", "/"):
            assert here.client.get(path, headers={"host": host}).status_code == status
        answer = here.post("/v1/search", {"query": "water"}, host=host)
        assert answer.status_code == status
    with served(documents(), None) as open_to_all:
        assert open_to_all.client.get("/v1/info", headers={"host": host}).status_code == 200


def test_what_is_null_is_absent_and_titles_and_fields_are_judged(here: ServedWorker) -> None:
    nothing = dict.fromkeys(("model", "dimensions", "encoding_format", "input_type", "instruction", "user"))
    assert here.post("/v1/embeddings", {"input": "water", **nothing}).status_code == 200
    asked = {"query": "turbine", "top_n": None, "return_documents": True, "rank_fields": None}
    documents = [{"title": "salt", "text": "sea"}, {"title": "turbine", "text": "sea", "page": 3}]
    for path in ("/v1/rerank", "/v2/rerank", "/rerank"):
        best, _ = here.post(path, {**asked, "documents": documents}).json()["results"]
        assert (best["index"], best["document"]) == (1, documents[1])
    best, _ = here.post("/v2/rerank", {**asked, "documents": documents[::-1], "rank_fields": ["text"]}).json()[
        "results"
    ]
    assert best["index"] == 0  # alike: as they came


def test_without_keys_pages_from_elsewhere_may_not_ask_a_local_worker() -> None:
    with served(documents(), None, names=("localhost",), origins=["https://intranet.example"]) as here:
        for origin, status in (
            ("https://evil.example", 403),
            ("null", 403),
            ("https://localhost.evil.example", 403),
            ("https://intranet.example", 200),
            ("http://localhost:3000", 200),
        ):
            assert here.post("/v1/search", {"query": "water"}, host="localhost", origin=origin).status_code == status


def test_scripts_of_pages_that_are_named_may_ask_and_those_of_no_others() -> None:
    preflight = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    with served(documents(), None, keys={"one": ["the key of one"]}, origins=["https://intranet.example"]) as here:
        named, other = (
            here.client.options("/v1/search", headers={"origin": origin, **preflight})
            for origin in ("https://intranet.example", "https://evil.example")
        )
        assert (named.status_code, named.headers["access-control-allow-origin"]) == (200, "https://intranet.example")
        assert other.status_code == 400
        assert "access-control-allow-origin" not in other.headers
        answer = here.client.get("/healthz", headers={"origin": "https://intranet.example"})
        assert "x-request-id" in answer.headers["access-control-expose-headers"].lower()
    with served(documents(), None) as silent:
        answer = silent.client.get("/healthz", headers={"origin": "https://intranet.example"})
        assert "access-control-allow-origin" not in answer.headers


def test_what_is_served_is_told_to_who_has_a_key() -> None:
    with served(documents(), None, keys={"one": ["the key of one"]}) as here:
        assert here.client.get("/v1/info").json() == {"keys": True}
        assert here.client.get("/v1/info", headers={"x-api-key": "another key here"}).json() == {"keys": True}
        told = here.client.get("/v1/info", headers={"x-api-key": "the key of one"}).json()
        assert (told["model"], told["keys"]) == (MODEL.model_dump(), True)


def test_metrics_docs_and_info_are_on_a_port_of_their_own_where_there_is_one() -> None:
    apart = ("/metrics", "/docs", "/openapi.json", "/docs-assets/swagger-ui.css")
    with served(documents(), None, operated_apart=True, keys={"one": ["the key of one"]}) as here:
        assert [here.client.get(path).status_code for path in (*apart, "/healthz")] == [404, 404, 404, 404, 200]
        event_loop = EventLoopThread()
        operations = create_operations(here.service, create_app(here.service))
        with closing(event_loop), closing(HttpServer(event_loop, operations, "127.0.0.1", 0, 2.0)) as server:
            ask = httpx.Client(base_url=f"http://127.0.0.1:{server.port}").get
            assert [ask(path).status_code for path in (*apart, "/healthz", "/readyz")] == [200] * 6
            assert ask("/v1/info").json()["model"] == MODEL.model_dump()
            assert "/v1/search" in ask("/openapi.json").json()["paths"]
            assert ask("/v1/search").status_code == 404


def test_texts_are_embedded_and_judged_in_the_words_of_text_embeddings_inference(here: ServedWorker) -> None:
    vectors = here.post("/embed", {"inputs": ["water", "salt"], "normalize": True, "truncate": False}).json()
    ours = here.post("/v1/embeddings", {"input": ["water", "salt"]}).json()["data"]
    assert vectors == [one["embedding"] for one in ours]
    asked = {"query": "turbine", "texts": ["salt water", "a turbine"]}
    best, other = here.post("/rerank", {**asked, "return_text": True}).json()
    assert (best["index"], best["text"], other["index"]) == (1, "a turbine", 0)
    assert 0 < other["score"] < best["score"] < 1
    raw, _ = here.post("/rerank", {**asked, "raw_scores": True}).json()
    assert best["score"] == pytest.approx(1 / (1 + np.exp(-raw["score"])))
    for path, body, said in (
        ("/embed", {"inputs": ["a", ""]}, "inputs.1: is empty"),
        ("/embed", {"inputs": "a", "normalize": False}, "normalize: vectors have length 1"),
        ("/rerank", {**asked, "documents": ["a"]}, "documents, texts: not both"),
        ("/rerank", {"query": "turbine"}, "documents: needed"),
    ):
        refused = here.post(path, body)
        assert refused.status_code == 400
        assert said in refused.json()["error"]["message"]


def test_a_key_goes_to_another_host_over_https_only() -> None:
    body = QueryBody(query="water")
    with pytest.raises(Misconfigured, match="use https, or set PENSTOCK_SEARCH__ALLOW_INSECURE"):
        QueryClient("http://192.0.2.1:8080", "the key of one").ask(body, 0.1)
    for wrong in ("the key\n", "schlüssel"):
        with pytest.raises(Misconfigured, match="printable ASCII") as refused:
            QueryClient("http://localhost:1", wrong).ask(body, 0.1)
        assert wrong not in str(refused.value)
    with pytest.raises(Misconfigured, match="use https"):
        QueryClient("http://user:p[ss@evil.example", "the key of one").ask(body, 0.1)
    for client in (QueryClient("http://127.0.0.1:1", "the key of one"), QueryClient("http://localhost:1", "the key")):
        with pytest.raises(Unavailable):
            client.ask(body, 0.1)


def test_agents_need_a_key_and_an_endpoint_that_is_served() -> None:
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "search", "arguments": {"query": "salt"}},
    }
    accept = {"accept": "application/json, text/event-stream"}
    with served(documents(), scorer(), keys=KEYS, mcp=True) as here:
        assert here.post("/mcp", call, **accept).status_code == 401
        asked = {**accept, "x-api-key": KEYS["acme"][0], "content-type": "application/json"}
        told = here.post("/mcp", call, **asked).json()["result"]
        assert (told["isError"], told["structuredContent"], told["content"][0]["text"]) == (
            False,
            {"hits": []},
            "nothing found",
        )
        assert here.client.get("/mcp", headers=asked | {"accept": "text/event-stream"}).status_code == 405
        assert here.post("/mcp", b"{", **asked).status_code == 400
        assert here.post("/mcp", b"x" * 300_000, **asked).status_code == 413
        assert 'penstock_query_requests_total{endpoint="mcp",status="401"} 1.0' in here.client.get("/metrics").text
    with served(documents(), scorer(), mcp=True) as open_to_all:
        asked = {**accept, "content-type": "application/json"}
        (tool,) = open_to_all.post("/mcp", {**call, "method": "tools/list", "params": {}}, **asked).json()["result"][
            "tools"
        ]
        assert "tenant" in tool["inputSchema"]["properties"]
        assert "[sea]" in open_to_all.post("/mcp", call, **asked).json()["result"]["content"][0]["text"]
    with served(documents(), scorer()) as without:
        assert without.post("/mcp", call, **accept).status_code == 404


def test_a_bug_within_a_tool_is_told_without_its_words_and_counted() -> None:
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "search", "arguments": {"query": "a"}},
    }
    asked = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    store: Any = Recorder(documents())
    with served(store, None, mcp=True) as here:
        here.search.answer = broken  # type: ignore[method-assign, assignment]
        told = here.post("/mcp", call, **asked).json()["result"]
        assert (told["isError"], told["content"][0]["text"]) == (True, "this is a bug; the worker's log has more")
        assert "secret" in here.bugs[0]
        del here.search.answer
        store.away = True
        assert here.post("/mcp", call, **asked).json()["result"]["content"][0]["text"] == "away"
        metrics = here.client.get("/metrics").text
        for status in ("500", "503"):
            assert f'penstock_query_requests_total{{endpoint="mcp_search",status="{status}"}} 1.0' in metrics


async def broken(_query: object) -> None:
    raise RuntimeError("secret")


def test_tenants_are_counted_once_at_a_time_and_nothing_else_waits_for_it() -> None:
    class Counting(MemoryStore):
        def documents(self, tenant: str, now: datetime) -> int:
            counted.append(tenant)
            assert gate.wait(30)
            return super().documents(tenant, now)

    counted: list[str] = []
    gate, store = threading.Event(), Counting()
    store.points |= documents().points
    with served(store, None) as here, ThreadPoolExecutor(8) as clients:
        waiting = [clients.submit(here.client.get, "/v1/overview") for _ in range(5)]
        wait_until(lambda: bool(counted))
        assert here.post("/v1/embeddings", {"input": "water"}).status_code == 200
        gate.set()
        assert [one.result().json()["documents"] for one in waiting] == [3] * 5
        assert counted == [""]


def test_who_asks_by_another_name_is_heard_where_it_is_named() -> None:
    with served(documents(), None, names=("search.example", "localhost")) as here:
        for host, status in (
            ("search.example", 200),
            ("SEARCH.example:8080", 200),
            ("[::1]", 200),
            ("evil.example", 403),
        ):
            assert here.client.get("/v1/info", headers={"host": host}).status_code == status
        page = {"host": "search.example", "origin": "http://search.example:8080"}
        assert here.client.get("/v1/info", headers=page).status_code == 200
        event_loop = EventLoopThread()
        operations = create_operations(here.service, create_app(here.service), ("localhost",))
        with closing(event_loop), closing(HttpServer(event_loop, operations, "127.0.0.1", 0, 2.0)) as server:
            url = f"http://127.0.0.1:{server.port}/metrics"
            assert httpx.get(url).status_code == 200
            assert httpx.get(url, headers={"host": "evil.example"}).status_code == 403


def test_what_json_cannot_say_is_no_document(here: ServedWorker) -> None:
    answer = here.post("/rerank", b'{"query": "a", "documents": [{"text": "a", "x": 1e999}], "return_documents": true}')
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "documents.0")


def test_an_overview_is_of_one_tenant() -> None:
    store = documents()
    store.upsert([replace_tenant(point, "acme") for point in list(store.points.values())[:2]])
    with served(store, None, examples=["how?"]) as here:
        assert here.client.get("/v1/overview").json() == {"documents": 3, "facets": {}, "examples": ["how?"]}
        assert here.client.get("/v1/overview?tenant=acme").json()["documents"] == 2
        assert here.client.get("/v1/overview?tenant=a/b").status_code == 400
    with served(store, None, keys=KEYS) as here:
        key = {"x-api-key": KEYS["acme"][0]}
        assert here.client.get("/v1/overview").status_code == 401
        assert here.client.get("/v1/overview", headers=key).json()["documents"] == 2
        assert here.client.get("/v1/overview?tenant=other", headers=key).status_code == 403


def test_a_query_says_what_comes_back(here: ServedWorker) -> None:
    asked = {"query": "water turbine"}
    every = here.post("/v1/search", asked).json()["hits"]
    assert (every[0]["document"], every[0]["start"], every[0]["end"]) == ("hydro", 0, 24)
    bare = here.post("/v1/search", {**asked, "include": []}).json()["hits"]
    assert bare == [{name: hit[name] for name in ("document", "chunk", "score")} for hit in every]
    some = here.post("/v1/search", {**asked, "include": ["text", "metadata.n", "metadata.none"], "top_k": 1}).json()
    assert some["hits"][0].keys() == {"document", "chunk", "score", "text"}
    lit = here.post("/v1/search", {**asked, "include": [], "highlight": True}).json()["hits"]
    assert lit[0]["highlights"] == {"title": [], "text": [[0, 5], [17, 24]]}
    for page in (0, 1, 2):
        assert here.post("/v1/search", {**asked, "top_k": 1, "offset": page}).json()["hits"] == every[page : page + 1]


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"include": ["txt"]}, "include.0: 'txt' is no field of a hit: start, end, title"),
        ({"include": "text"}, "include: "),
        ({"score_threshold": 0.5}, 'score_threshold: of which score? {"rerank_score": 0.5}'),
        ({"score_threshold": {}}, "rerank_score or retrieval_score: needed"),
        ({"score_threshold": {"rerank_score": 1.5}}, "score_threshold.rerank_score: "),
        ({"offset": -1}, "offset: "),
        ({"offset": 495, "top_k": 6}, "offset: with top_k that is document 501; 500 are looked at here"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(here: ServedWorker, wish: dict[str, Any], said: str) -> None:
    answer = here.post("/v1/search", {"query": "water", **wish})
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]


def test_models_are_listed_for_who_has_a_key() -> None:
    with served(documents(), None, keys={"one": ["the key of one"]}) as here:
        assert here.client.get("/v1/models").status_code == 401
        listed = here.client.get("/v1/models", headers={"x-api-key": "the key of one"}).json()
        assert [model["id"] for model in listed["data"]] == ["m@1", "r@1"]


def test_every_answer_has_the_clients_id_or_one_of_ours(here: ServedWorker) -> None:
    assert here.client.get("/v1/info", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    for odd in ("", "a b", "x" * 200, "a\tb"):
        answer = here.client.get("/nowhere", headers={"x-request-id": odd})
        assert answer.headers["x-request-id"].startswith("req_")


def test_a_path_is_as_it_is_written_and_head_is_get_without_a_body(here: ServedWorker) -> None:
    assert here.client.get("/healthz/").status_code == 404
    there = here.client.get("/v1/search")
    assert (there.status_code, there.headers["allow"]) == (405, "POST")
    head, get = here.client.head("/v1/info"), here.client.get("/v1/info")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(get.content))


def test_too_busy_is_503_with_a_time_to_come_back() -> None:
    gated = Gated()
    with served(documents(), scorer(gated), max_concurrency=2) as here, ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(here.post, "/v1/search", {"query": "water"}) for _ in range(2)]
        wait_until(lambda: here.service.metrics.under_way_now == 2)
        refused = here.post("/v1/search", {"query": "water"})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert here.client.get("/healthz").status_code == 200
        gated.gate.set()
        assert [one.result().status_code for one in slow] == [200, 200]
        assert here.post("/v1/search", {"query": "water"}).status_code == 200


def test_a_body_that_comes_slowly_takes_no_place() -> None:
    with served(documents(), None, max_concurrency=2) as here, ExitStack() as opened:
        for _ in range(8):
            slow = opened.enter_context(socket.create_connection(("127.0.0.1", here.server.port)))
            slow.sendall(b"POST /v1/search HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n{")
        assert here.post("/v1/search", {"query": "water"}).status_code == 200


def test_bodies_that_are_being_read_have_room_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.query.http.places.BODIES_BYTES", 1000)
    with served(documents(), None) as here, ExitStack() as opened:
        slow = opened.enter_context(socket.create_connection(("127.0.0.1", here.server.port)))
        slow.sendall(b"POST /v1/search HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n{")
        wait_until(lambda: here.post("/v1/search", {"query": "water" * 50}).status_code == 503)
        slow.close()
        wait_until(lambda: here.post("/v1/search", {"query": "water" * 50}).status_code == 200)


def test_one_tenant_cannot_take_all_places() -> None:
    gated, keys = Gated(), {"greedy": ["greedy" * 3], "modest": ["modest" * 3]}
    store = stored(("hydro", "water drives the turbine"), tenant="greedy")
    with served(store, scorer(gated), keys=keys, max_concurrency=4) as here, ThreadPoolExecutor(4) as pool:

        def ask_as(tenant: str, rerank: bool) -> httpx.Response:
            body = {"query": "water", "rerank": rerank}
            return here.post("/v1/search", body, authorization=f"Bearer {tenant * 3}")

        slow = [pool.submit(ask_as, "greedy", True) for _ in range(2)]
        wait_until(lambda: here.service.metrics.under_way_now == 2)
        refused = ask_as("greedy", False)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "of this tenant" in refused.json()["error"]["message"]
        assert ask_as("modest", False).status_code == 200
        gated.gate.set()
        assert [one.result().status_code for one in slow] == [200, 200]


def test_a_modest_tenant_does_not_wait_for_all_that_a_greedy_one_asks() -> None:
    """In first come, first served both would wait as long: the ratio would be 1."""
    keys = {"greedy": ["greedy" * 3], "modest": ["modest" * 3]}
    store = MemoryStore()
    for tenant in keys:
        store.points |= stored(*((f"d{n}", "some words about water") for n in range(30)), tenant=tenant).points
    took: dict[str, list[float]] = {tenant: [] for tenant in keys}
    with served(store, scorer(Slow(0.01)), keys=keys, max_concurrency=64) as here, ThreadPoolExecutor(17) as pool:

        def ask_as(tenant: str, times: int) -> None:
            for _ in range(times):
                began = time.perf_counter()
                body = {
                    "query": "water",
                    "timeout_ms": 15_000,
                }  # that others wait is asked here, not how long a machine takes
                asked = here.post("/v1/search", body, authorization=f"Bearer {tenant * 3}")
                assert (asked.status_code, asked.json()["reranked"]) == (200, True)
                took[tenant].append(time.perf_counter() - began)

        greedy = [pool.submit(ask_as, "greedy", 4) for _ in range(16)]
        wait_until(lambda: here.service.metrics.under_way_now == 16)
        ask_as("modest", 4)
        for one in greedy:
            one.result()
    assert statistics.median(took["modest"]) < 0.5 * statistics.median(took["greedy"])


def test_a_client_that_goes_away_stops_its_work() -> None:
    gated = Gated()
    store = stored(*((f"d{n}", "some words about water") for n in range(60)))
    with served(store, scorer(gated)) as here:
        body = b'{"query": "water", "timeout_ms": 60000}'
        with socket.create_connection(("127.0.0.1", here.server.port)) as client:
            client.sendall(b"POST /v1/search HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            assert gated.begun.wait(10)
        wait_until(lambda: here.service.metrics.under_way_now == 0)
        gated.gate.set()
        assert here.post("/v1/search", {"query": "water", "rerank": False}).status_code == 200
        assert gated.batches == 1
        assert 'endpoint="search",status="499"} 1.0' in here.client.get("/metrics").text


def test_too_late_is_504() -> None:
    class Stuck(Recorder):
        def search(self, lookups: Sequence[Lookup]) -> list[list[Hit]]:
            time.sleep(0.4)
            return super().search(lookups)

    stuck: Any = Stuck(documents())
    with served(stuck, scorer()) as here:
        answer = here.post("/v1/search", {"query": "water", "timeout_ms": 100})
        assert (answer.status_code, answer.json()["error"]["type"]) == (504, "too_late")


def test_a_store_that_is_away_is_503_and_recovers_by_itself() -> None:
    store: Any = Recorder(documents())
    with served(store, scorer()) as here:
        store.away = True
        answer = here.post("/v1/search", {"query": "water"})
        assert (answer.status_code, answer.json()["error"], answer.headers["retry-after"]) == (
            503, {"message": "away", "type": "unavailable", "param": None, "code": "unavailable"}, "2")  # fmt: skip
        store.away = False
        assert here.post("/v1/search", {"query": "water"}).status_code == 200


def test_a_bug_is_told_as_such_and_ends_one_request_only() -> None:
    store: Any = Recorder(documents())
    with served(store, scorer()) as here:
        store.store = None
        answer = here.post("/v1/search", {"query": "water"})
        assert (answer.status_code, "NoneType" in answer.text, len(here.bugs)) == (500, False, 1)
        store.store = documents()
        assert here.post("/v1/search", {"query": "water"}).status_code == 200


def test_a_bug_in_reading_a_request_is_that_requests_own_error() -> None:
    broken: Any = None
    with served(Recorder(documents()), scorer()) as here:
        sound, here.service.limits = here.service.limits, Limits(most_characters=broken)
        answer = here.post("/v1/search", {"query": "water"})
        assert (answer.status_code, len(here.bugs)) == (400, 1)
        assert "cannot be read: TypeError" in answer.json()["error"]["message"]
        assert 'penstock_unforeseen_total{where="search"} 1.0' in here.client.get("/metrics").text
        here.service.limits = sound
        assert here.post("/v1/search", {"query": "water"}).status_code == 200


def test_before_the_collection_is_open_the_worker_is_alive_and_not_ready() -> None:
    with served(documents(), scorer(), opened=False) as here:
        assert here.client.get("/healthz").status_code == 200
        assert here.client.get("/readyz").status_code == 503
        assert here.post("/v1/search", {"query": "water"}).status_code == 503
        here.service.open(here.search, ModelApi(here.search, MODEL.reranker, dimension, 4, 8192, 5.0))
        assert here.client.get("/readyz").status_code == 200
        here.service.stopping = True
        assert here.client.get("/readyz").status_code == 503
        assert here.post("/v1/search", {"query": "water"}).status_code == 200  # until the port is closed


def test_concurrent_requests_share_batches_and_get_their_own_answers(here: ServedWorker) -> None:
    async def load() -> list[Any]:
        async with httpx.AsyncClient(base_url=here.client.base_url, timeout=20) as client:
            asked = [client.post("/v1/search", json={"id": str(n), "query": f"water {n}"}) for n in range(64)]
            return [answer.json() for answer in await asyncio.gather(*asked)]

    answers = asyncio.run(load())
    assert [answer["id"] for answer in answers] == [str(n) for n in range(64)]
    assert all(answer["hits"] for answer in answers)
    assert here.search.served.embed.items == 64
    assert here.search.served.embed.batches < 64


def test_metrics_count_requests_steps_and_batches(here: ServedWorker) -> None:
    here.post("/v1/search", {"query": "water"})
    here.post("/v1/search", {"query": ""})
    text = here.client.get("/metrics").text
    for line in (
        'penstock_query_requests_total{endpoint="search",status="200"} 1.0',
        'penstock_query_requests_total{endpoint="search",status="400"} 1.0',
        'penstock_query_step_seconds_count{step="rerank"} 1.0',
        'penstock_query_batches_total{step="embed"} 1.0',
        'penstock_query_batch_items_total{step="rerank"} 3.0',
        "penstock_query_under_way 0.0",
        'penstock_query_seconds_count{endpoint="search"} 1.0',  # what the client did wrong is no time of ours
    ):
        assert line in text


def test_the_api_is_described_by_what_is_in_schemas_and_every_reference_in_it_resolves(here: ServedWorker) -> None:
    description = here.client.get("/openapi.json").json()
    paths = {"/v1/search", "/v1/embeddings", "/v1/rerank", "/embed", "/healthz", "/startz", "/readyz", "/metrics"}
    assert paths <= set(description["paths"])
    for reference in {part.split('"')[0] for part in json.dumps(description).split('"$ref": "')[1:]}:
        part = description
        for step in reference.removeprefix("#/").split("/"):
            part = part[step]
    assert description["components"]["schemas"]["query.v1"]["properties"].keys() == QueryBody.model_fields.keys()
    for path, operations in description["paths"].items():
        for operation in operations.values():
            (answer,) = operation["responses"]["200"]["content"].values()
            assert answer["schema"], path


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_load_nothing_from_elsewhere(here: ServedWorker, path: str) -> None:
    answer = here.client.get(path)
    assert answer.status_code == 200
    for attribute in ('src="', 'href="'):
        for part in answer.text.split(attribute)[1:]:
            assert not part.startswith(("http:", "https:", "//"))


def test_the_commands_client_gets_the_answer_or_the_servers_words(here: ServedWorker) -> None:
    url = f"http://127.0.0.1:{here.server.port}/"
    assert QueryClient(url).ask(QueryBody(query="salt"), 5.0).hits[0].document == "sea"
    with pytest.raises(Misconfigured, match="400: top_k: 1000 is more than 100"):
        QueryClient(url).ask(QueryBody(query="water", top_k=1000), 5.0)
    here.service.search = None
    with pytest.raises(Unavailable, match="503: the worker is starting"):
        QueryClient(url).ask(QueryBody(query="water"), 5.0)
    with pytest.raises(Unavailable):
        QueryClient("http://127.0.0.1:1").ask(QueryBody(query="water"), 5.0)
    with pytest.raises(Misconfigured, match="--url"):
        QueryClient("nonsense").ask(QueryBody(query="water"), 5.0)


def test_a_port_that_is_taken_is_told_in_one_line(here: ServedWorker) -> None:
    event_loop = EventLoopThread()
    with pytest.raises(Misconfigured, match="cannot listen on 127"):
        HttpServer(event_loop, create_app(here.service), "127.0.0.1", here.server.port, 2.0)
    event_loop.close()


def test_a_body_that_does_not_come_frees_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.query.http.admission.BODY_S", 0.2)
    with served(documents(), scorer(), max_concurrency=1) as here:
        with socket.create_connection(("127.0.0.1", here.server.port)) as client:
            client.sendall(b"POST /v1/search HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{")
            answer = client.recv(4096)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert here.post("/v1/search", {"query": "water"}).status_code == 200


def test_a_task_that_only_the_reranker_takes_is_an_error_where_there_is_no_reranking() -> None:
    def prompt(task: str | None) -> str:
        if task is not None:
            raise InvalidEvent("instruction: takes none")
        return ""

    search = Search(Served(replace(encoder(), prompt=prompt, takes_task=False), documents()), scorer())
    event_loop = EventLoopThread()
    for body, said in (({}, ""), ({"rerank": False}, "instruction: takes none")):
        query = to_query(QueryBody(query="water", instruction="task", **body), LIMITS, "q", "")
        if said:
            with pytest.raises(InvalidEvent, match=said):
                event_loop.run(search.answer(query))
        else:
            assert event_loop.run(search.answer(query)).documents
    search.close()
    event_loop.close()


def test_readers_of_a_reply_ignore_what_they_do_not_know() -> None:
    reply = {"id": "1", "hits": [], "reranked": False, "timings_ms": {}, "new": 1,
             "model": {"embedding": "m", "dimension": 4, "newer": 2}}  # fmt: skip
    assert ReplyBody.model_validate_json(json.dumps(reply)).id == "1"
