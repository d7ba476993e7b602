"""``penstock audit`` on a real broker and both kinds of store: what is planted is found, and repaired where it may."""

import json
import shutil
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition
from qdrant_client import grpc

from penstock.adapters.kafka.connection import client_options
from penstock.adapters.kafka.topics import TopicSpec, ensure
from penstock.adapters.qdrant import points as convert
from penstock.adapters.qdrant.collection import find_collection
from penstock.adapters.qdrant.connection import Connection
from penstock.core.documents import ChunkKey, epoch_base
from penstock.core.inventory import Held, Sought
from penstock.demo.corpus import EMBEDDING
from penstock.models.bundle import load
from penstock.settings import KafkaSettings, QdrantSettings
from tests.conftest import stored, unavailable, wait_until
from tests.kafka_tools import committed, document, ends, produce
from tests.workers import environment, penstock, worker

LONG = " ".join(f"Turbine {n} turns the fall of water into rotation, and gate {n} lets it through." for n in range(40))
DAMAGED = 4
pytestmark = pytest.mark.timeout(600)
PAST, FUTURE = "2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z"


Change = Callable[[Connection, str], object]


class Site:
    """A compacted topic, a collection, and the raw API to both."""

    def __init__(self, kafka: KafkaSettings, qdrant: QdrantSettings, folder: Path) -> None:
        self.kafka, self.folder = kafka, folder
        self.qdrant = qdrant.model_copy(update={"collection": kafka.topic})

    def variables(self, **more: object) -> dict[str, object]:
        kafka, qdrant = self.kafka, self.qdrant
        return {
            "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "KAFKA__TOPIC": kafka.topic,
            "KAFKA__GROUP": kafka.group, "KAFKA__SESSION_TIMEOUT_S": 6, "QDRANT__URL": qdrant.url,
            "QDRANT__GRPC_PORT": qdrant.grpc_port, "QDRANT__COLLECTION": qdrant.collection,
            "QDRANT__API_KEY": qdrant.api_key.get_secret_value(), "QDRANT__ALLOW_INSECURE": "true",
            "QDRANT__PATH": qdrant.path or "", "MODEL__BUNDLE": EMBEDDING, "INDEX__CHUNK_TOKENS": 64,
            "INDEX__CHUNK_OVERLAP": 8,
        } | more  # fmt: skip

    def run(self, *arguments: str, **more: object) -> "subprocess.CompletedProcess[bytes]":
        return penstock(self.folder, *arguments, variables=self.variables(**more), seconds=170)

    def index(self, *events: tuple[str, bytes | None], **more: object) -> None:
        produce(self.kafka, events)
        done = self.run("index", "--once", **more)
        assert done.returncode == 0, done.stderr.decode()

    def audit(self, *arguments: str, code: int = 0, **more: object) -> dict[str, Any]:
        done = self.run("audit", "--json", *arguments, **more)
        assert done.returncode == code, (done.stdout + done.stderr).decode()
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    @contextmanager
    def connection(self) -> Iterator[tuple[Connection, str]]:
        bundle = load(EMBEDDING)
        with closing(Connection(self.qdrant)) as connection:
            identity = bundle.identity(bundle.dimension(None))
            yield connection, find_collection(connection, self.qdrant.collection, identity).name

    def held(self) -> dict[ChunkKey, Held]:
        with self.connection() as (connection, name):
            return {point.key: point for point in connection.inventory(name).scan(Sought())}

    def change(self, *actions: Change) -> None:
        with self.connection() as (connection, name):
            for action in actions:
                action(connection, name)


def key(name: str, chunk: int = 0) -> ChunkKey:
    return ChunkKey("", name, chunk)


def delete(*keys: ChunkKey) -> Change:
    ids = grpc.PointsIdsList(ids=[convert.point_id(one) for one in keys])
    return lambda connection, name: connection.points.Delete(
        grpc.DeletePoints(collection_name=name, wait=True, points=grpc.PointsSelector(points=ids))
    )


def put(one: ChunkKey, payload: Mapping[str, Any], dimension: int) -> Change:
    """A whole point, whatever is there."""
    unit = [1.0] + [0.0] * (dimension - 1)
    vectors = grpc.Vectors(vectors=grpc.NamedVectors(vectors={"dense": grpc.Vector(data=unit)}))
    point = grpc.PointStruct(id=convert.point_id(one), payload=convert.to_payload(dict(payload)), vectors=vectors)
    return lambda connection, name: connection.points.Upsert(
        grpc.UpsertPoints(collection_name=name, wait=True, points=[point])
    )


def payload(point: Held, **changed: object) -> dict[str, Any]:
    return {
        "tenant": point.key.tenant, "document": point.key.document, "chunk": point.key.chunk,
        "version": point.stored.order.version, "sequence": point.stored.order.sequence,
        "recipe": point.stored.recipe, "hash": point.stored.hash, "hashes": list(point.stored.hashes),
        "source": point.source, "deleted": False, "text": "…", "title": "", "indexed_at": point.indexed_at,
    } | changed  # fmt: skip


@pytest.fixture
def compacted(broker: str) -> KafkaSettings:
    name = f"documents-{uuid.uuid4().hex[:8]}"
    kafka = KafkaSettings(bootstrap_servers=broker, topic=name, group=name, session_timeout_s=6.0)
    ensure(kafka, [TopicSpec(name, 2, -1, {"cleanup.policy": "compact"})])
    return kafka


@pytest.fixture(params=["folder", "server"])
def site(compacted: KafkaSettings, request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    if request.param == "folder":
        return Site(compacted, QdrantSettings(path=tmp_path / "qdrant"), tmp_path)
    return Site(compacted, request.getfixturevalue("qdrant_process"), tmp_path)


@pytest.fixture
def served(compacted: KafkaSettings, qdrant_process: QdrantSettings, tmp_path: Path) -> Site:
    return Site(compacted, qdrant_process, tmp_path)


NAMES = ("sound", "missing", "no anchor", "stale", "undead", "half", "tampered", "left", "ahead")


def plant(site: Site) -> dict[str, set[str]]:
    """Each kind, by hand; the names of the documents of each kind."""
    site.index(*(document(name, LONG) for name in NAMES), document("expired", LONG, expires_at=FUTURE))
    old = {one: point for one, point in site.held().items() if one.document in ("stale", "undead")}
    site.index(document("stale", f"New. {LONG}"), ("undead", None), document("late", "short", expires_at=PAST))
    there, dimension = site.held(), load(EMBEDDING).manifest.dimension
    half, left = there[key("half")], there[key("left")]
    assert len(half.stored.hashes) > 3
    doomed = [one for one in there if one.document in ("missing", "stale", "undead")]
    order = left.stored.order
    behind = payload(left, chunk=99, version=order.version - 1, sequence=order.sequence - 1, hashes=[])
    newer = {"version": epoch_base(1) + 10**6, "sequence": epoch_base(1) + 10**6}
    site.change(
        delete(*doomed, key("no anchor"), key("half", 2)),
        *(put(one, payload(point), dimension) for one, point in old.items()),  # as of a snapshot from before
        put(key("left", 99), behind, dimension),
        put(key("tampered", 1), payload(there[key("tampered", 1)], hash="0" * 32), dimension),
        put(key("orphan"), payload(there[key("late")], document="orphan"), dimension),
        *(put(one, payload(there[one], **newer), dimension) for one in there if one.document == "ahead"),
    )
    return {
        "missing": {"missing", "no anchor"}, "stale": {"stale"}, "undead": {"undead"}, "orphan": {"orphan"},
        "half_written": {"half", "tampered"}, "left_over": {"left"}, "ahead": {"ahead"}, "expired": {"late"},
    }  # fmt: skip


def kinds(report: Mapping[str, Any]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for example in report["examples"]:
        found.setdefault(example["kind"], set()).add(example["document"])
    return found


def test_each_kind_is_found_and_what_may_be_is_repaired(site: Site) -> None:
    planted = plant(site)
    before = site.held()
    report = site.audit("--repair", "--dry-run", code=DAMAGED)
    assert site.held() == before
    assert kinds(report) == planted
    assert {kind: n for kind, n in report["damaged"].items() if n} == {
        kind: len(some) for kind, some in planted.items()
    }
    told = {(one["kind"], one["document"]): one for one in report["examples"]}
    stale = told["stale", "stale"]
    topic, _, offset = stale["record"].split("/")
    assert topic == site.kafka.topic
    assert stale["expected"] == f"the document at version {epoch_base(1) + int(offset)}"
    assert "chunks at version" in stale["there"]
    assert told["missing", "missing"]["there"] == "nothing"
    assert "chunks without an anchor" in told["missing", "no anchor"]["there"]
    assert told["undead", "undead"]["expected"].startswith("a delete")
    repairable = {kind: len(some) for kind, some in planted.items() if kind not in ("ahead", "expired")}
    assert {kind: n for kind, n in report["repaired"].items() if n} == repairable
    assert report["left"] == repairable | {"ahead": 1}
    mended = site.audit("--repair", code=DAMAGED)
    assert mended["left"] == {"ahead": 1}
    assert {kind: n for kind, n in mended["repaired"].items() if n} == repairable
    again = site.audit(code=DAMAGED)
    assert kinds(again) == {"ahead": {"ahead"}, "expired": {"late"}}
    after = site.held()
    assert key("orphan") not in after
    assert key("left", 99) not in after
    assert after[key("undead")].tombstone
    assert {one.stored.order for k, one in after.items() if k.document == "stale"} == {after[key("stale")].stored.order}
    assert sum(k.document == "half" for k in after) == len(after[key("half")].stored.hashes)


def test_nothing_wrong_is_exit_0_and_cron_hears_of_it(served: Site) -> None:
    served.index(*(document(f"d{n}") for n in range(7)), ("d0", None), ("bad", b"no json"))
    textfile = served.folder / "penstock.prom"
    with gateway() as (url, pushed):
        report = served.audit("--textfile", str(textfile), "--pushgateway", url, "--sample", "5")
    assert (report["documents"], report["invalid"], report["sampled"]) == (6, 1, 5)
    assert report["left"] == {}
    text = textfile.read_text()
    name = report["collection"]
    assert f'penstock_audit_documents{{collection="{name}"}} 6.0' in text
    assert f'penstock_audit_damaged{{collection="{name}",kind="missing"}} 0.0' in text
    assert "penstock_audit_timestamp_seconds" in text
    (method, path, body) = pushed[0]
    assert method == "PUT"
    assert path == f"/metrics/job/penstock_audit/collection/{name}"
    assert b"penstock_audit_damaged" in body
    if (promtool := shutil.which("promtool")) is None:
        unavailable("no promtool: it comes with Debian's prometheus")
    checked = subprocess.run(
        [str(promtool), "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    served.change(delete(key("d3")))
    done = served.run("audit", "--textfile", str(textfile))
    assert done.returncode == DAMAGED
    assert "missing: 1 (" in done.stdout.decode()
    assert 'kind="missing"} 1.0' in textfile.read_text()


@contextmanager
def gateway() -> Iterator[tuple[str, list[tuple[str, str, bytes]]]]:
    """Takes what a Pushgateway would."""
    pushed: list[tuple[str, str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            pushed.append((self.command, self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", pushed
        server.shutdown()
        thread.join()


def test_what_is_not_committed_or_ended_in_a_dead_letter_is_not_missing(served: Site) -> None:
    served.index(document("one"), document("large", LONG), document("large", LONG * 3), INDEX__MAX_CHUNKS=20)
    produce(served.kafka, [document("new"), document("one", "changed")])
    report = served.audit()
    assert (report["not_yet"], report["left"], report["documents"]) == (2, {}, 2)
    served.index()
    assert served.audit()["documents"] == 3


def test_vectors_of_another_model_are_found(served: Site) -> None:
    served.index(document("one"), document("two"))
    dimension = load(EMBEDDING).manifest.dimension
    served.change(put(key("two"), payload(served.held()[key("two")], text="other words"), dimension))
    assert served.audit()["left"] == {}
    report = served.audit("--sample", "9", code=DAMAGED)
    assert kinds(report) == {"wrong_model": {"two"}}
    report = served.audit(code=DAMAGED, MODEL__DIMENSION=64)
    assert report["damaged"]["wrong_model"] == 2
    assert "dimension" in report["examples"][0]["there"]


def test_orphans_are_not_judged_where_the_topic_has_lost_its_first_records(served: Site) -> None:
    name = f"documents-{uuid.uuid4().hex[:8]}"
    kafka = served.kafka.model_copy(update={"topic": name, "group": name})
    ensure(kafka, [TopicSpec(name, 1, -1, {"cleanup.policy": "delete"})])
    here = Site(kafka, served.qdrant, served.folder)
    here.index(document("old"), document("kept"))
    with closing(KafkaAdminClient(**client_options(kafka))) as admin:
        admin.delete_records({TopicPartition(name, 0): 1})
    report = here.audit("--repair")
    assert (report["unjudged"], report["left"]) == (1, {})
    assert any("orphans are not judged" in note for note in report["notes"])
    assert set(stored(here.qdrant, EMBEDDING)) == {"old", "kept"}


def test_a_group_that_never_committed_is_not_taken_for_one_that_is_behind(served: Site) -> None:
    served.index(document("one"))
    done = served.run("audit", KAFKA__GROUP="misspelt")
    assert done.returncode == 2
    assert "PENSTOCK_KAFKA__GROUP" in done.stderr.decode()


def test_beside_a_worker_at_work_there_is_no_false_alarm(served: Site) -> None:
    """Documents change, shrink, go and come back while the audit reads; all that it names is wrong."""
    done = threading.Event()

    def events() -> Iterator[tuple[str, bytes | None]]:
        for n in range(12):
            for d in range(20):
                cut = LONG[: (n * 7 + d * 13) % 5 * 700 + 40]
                yield (f"d{d}", None) if (n + d) % 9 == 0 else document(f"d{d}", f"{n}. {cut}")

    env = environment(**served.variables(KAFKA__MAX_POLL_RECORDS=20))
    with worker("index", env=env, cwd=served.folder) as running:
        running.until("started")
        produce(served.kafka, [document(f"d{d}", LONG) for d in range(20)])
        wait_until(lambda: sum(committed(served.kafka).values()) >= 20)

        def feed() -> None:
            produce(served.kafka, events())
            done.set()

        feeding = threading.Thread(target=feed)
        feeding.start()
        audits = 0
        while not done.is_set() or sum(committed(served.kafka).values()) < sum(ends(served.kafka, 2).values()):
            assert served.audit()["left"] == {}
            audits += 1
        feeding.join()
        assert audits
        assert running.stop() == 0
    assert served.audit()["left"] == {}
