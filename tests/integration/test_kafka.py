"""What a real broker adds: codecs, transactions, rebalances, outages."""

import base64
import json
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.errors import KafkaTimeoutError

from penstock.adapters.kafka.configs import cleanup
from penstock.adapters.kafka.connection import connect_consumer, connect_producer
from penstock.adapters.kafka.dead_letters import KafkaDeadLetters
from penstock.adapters.kafka.decompression import MOST_BYTES
from penstock.adapters.kafka.source import KafkaSource
from penstock.adapters.kafka.topics import TopicSpec, check_topics, create_topic, ensure
from penstock.assembly.index import IndexWorker
from penstock.assembly.membership import Stream
from penstock.core.documents import Chunk, ChunkKey, Point, Stored, epoch_base
from penstock.core.errors import InvalidEvent, Misconfigured, Unavailable
from penstock.core.records import Letter, Outcome, Partition, Record
from penstock.core.vectors import Vector
from penstock.events.rules import DocumentRules
from penstock.fakes import HashEmbedder, MemoryDeadLetters, MemoryStore, WordTokenizer, unchanging
from penstock.index.chunking import Chunker, ChunkRules
from penstock.observe.live import Reporter
from penstock.observe.watch import Watch
from penstock.settings import IndexSettings, KafkaSettings
from tests.broker import Broker
from tests.conftest import wait_until
from tests.kafka_tools import committed, document, ends, new_topic, produce, read_all, source

CHUNKS = Chunker(WordTokenizer(), ChunkRules(64, 8, title=True, prompt="", most=50))
SECONDS = 60.0


class Gate:
    """Lets calls through until it is shut; knows whether someone waits."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.waiting = threading.Event()

    def __call__(self) -> None:
        if not self.open.is_set():
            self.waiting.set()
            assert self.open.wait(SECONDS)


class GatedStore(MemoryStore):
    """A store with a gate before recall and one before writing."""

    def __init__(self) -> None:
        super().__init__()
        self.recall, self.write = Gate(), Gate()

    def read(self, keys: Sequence[ChunkKey]) -> dict[ChunkKey, Stored]:
        self.recall()
        return super().read(keys)

    def upsert(self, points: Sequence[Point]) -> None:
        self.write()
        super().upsert(points)

    def texts(self) -> dict[str, str]:
        """Text per living document."""
        return {p.key.document: p.chunk.text for p in self.points.values() if isinstance(p.chunk, Chunk)}


class GatedEmbedder(HashEmbedder):
    """An embedder with a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

    def embed(self, texts: Sequence[Sequence[int]]) -> Vector:
        self.gate()
        return super().embed(texts)


class Running:
    """A worker in a thread."""

    def __init__(self, settings: KafkaSettings, store: MemoryStore, embedder: HashEmbedder | None = None) -> None:
        self.stop = threading.Event()
        self.report: Reporter | None = None
        self.failure: BaseException | None = None
        self.source: KafkaSource = source(settings)
        stream = Stream(self.source, MemoryDeadLetters(), DocumentRules())

        def run() -> None:
            try:
                index = IndexSettings(drain_timeout_s=10.0, batch_bytes=2000)
                self.report = IndexWorker(index, stream, unchanging, store, CHUNKS, 1, embedder or HashEmbedder()).run(
                    self.stop
                )
            except BaseException as error:  # noqa: BLE001  # told by join
                self.failure = error

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def join(self) -> Reporter:
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "the worker does not end"
        if self.failure:
            raise self.failure
        assert self.report is not None
        return self.report


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_every_codec_is_read(broker: str, codec: str | None) -> None:
    settings = new_topic(broker)
    produce(settings, [document(f"doc/{n}") for n in range(50)], compression_type=codec)
    store = MemoryStore()
    assert Running(settings, store).join().totals == Counter({Outcome.INDEXED: 50})
    assert committed(settings) == {0: 50}


def test_a_record_of_900_kb_is_indexed(broker: str) -> None:
    settings = new_topic(broker)
    text = "word " * 180_000
    produce(settings, [document("large", text), document("small")])
    store = MemoryStore()
    rules = ChunkRules(4096, 0, title=True, prompt="", most=100)
    stream = Stream(source(settings), MemoryDeadLetters(), DocumentRules())
    chunker = Chunker(WordTokenizer(), rules)
    report = IndexWorker(IndexSettings(), stream, unchanging, store, chunker, 1, HashEmbedder()).run(threading.Event())
    assert report.totals == Counter({Outcome.INDEXED: 2})
    assert len([key for key in store.points if key.document == "large"]) == 44


def test_tombstones_delete_and_stay_deleted(broker: str) -> None:
    settings = new_topic(broker)
    produce(settings, [document("a"), document("b"), ("a", None), ("unknown", None)])
    store = MemoryStore()
    report = Running(settings, store).join()
    assert report.totals == Counter(
        {Outcome.INDEXED: 1, Outcome.SUPERSEDED: 1, Outcome.DELETED: 1, Outcome.DELETED_UNKNOWN: 1}
    )
    assert set(GatedStore.texts(store)) == {"b"}  # type: ignore[arg-type]
    assert store.read([ChunkKey("", "unknown", 0)])[ChunkKey("", "unknown", 0)].deleted


def test_deletes_that_are_none_are_dead_letters_and_what_they_meant_lives(broker: str) -> None:
    settings = new_topic(broker)
    produce(settings, [document(f"memo/{n}") for n in range(5)])
    store = MemoryStore()
    assert Running(settings, store).join().totals == Counter({Outcome.INDEXED: 5})
    deletes = [
        ("memo/0", b"null"),
        ("memo/1", b""),
        ('"memo/2"', None),
        ("\0\0\0\0\x07memo/3", None),
        ("memo/4\n", None),
    ]
    produce(settings, [*deletes, ("memo/4", None), ("memo/4", None), ("memo/9", None)])
    report = Running(settings, store).join()
    assert report.totals == Counter(
        {Outcome.DEAD_LETTERED: 5, Outcome.SUPERSEDED: 1, Outcome.DELETED: 1, Outcome.DELETED_UNKNOWN: 1}
    )
    assert set(GatedStore.texts(store)) == {f"memo/{n}" for n in range(4)}  # type: ignore[arg-type]
    assert store.read([ChunkKey("", "memo/9", 0)])[ChunkKey("", "memo/9", 0)].deleted


@pytest.mark.parametrize(
    ("policy", "compacted"), [("compact", True), ("compact,delete", True), ("delete", False), (None, False)]
)
def test_a_topic_whose_events_are_ordered_by_versions_may_not_be_compacted(
    broker: str, policy: str | None, compacted: bool
) -> None:
    """Without a policy of its own it has the broker's, which is delete."""
    settings = KafkaSettings(bootstrap_servers=broker, topic=f"documents-{uuid.uuid4().hex[:8]}")
    config = {} if policy is None else {"cleanup.policy": policy}
    ensure(settings, [TopicSpec(settings.topic, 1, -1, config)])
    check_topics(settings)
    with pytest.raises(Misconfigured, match=r"is compacted.*cleanup\.policy = delete") if compacted else nullcontext():
        check_topics(settings, needs=IndexSettings(order="event").needs)


def test_where_the_broker_does_not_tell_its_policy_nothing_is_concluded() -> None:
    assert cleanup({}) == set()
    assert cleanup({"cleanup.policy": "delete, compact"}) == {"delete", "compact"}
    assert cleanup({"cleanup.policy": "delete"}) == {"delete"}


def transactional(settings: KafkaSettings) -> KafkaProducer:
    return connect_producer(settings, transactional_id=settings.topic, enable_idempotence=True)


def test_aborted_transactions_are_not_seen_and_their_markers_do_not_hold_up_the_end(broker: str) -> None:
    settings = new_topic(broker)
    with closing(transactional(settings)) as producer:
        producer.init_transactions()
        for name, commit in (("first", True), ("aborted", False), ("second", True), ("aborted too", False)):
            producer.begin_transaction()
            key, value = document(name)
            producer.send(settings.topic, key=key.encode(), value=value)
            producer.flush()
            producer.commit_transaction() if commit else producer.abort_transaction()
    store = MemoryStore()
    Running(settings, store).join()
    assert set(GatedStore.texts(store)) == {"first", "second"}  # type: ignore[arg-type]
    assert committed(settings) == ends(settings, 1) == {0: 8}


def test_a_restart_goes_on_at_the_committed_offset(broker: str) -> None:
    settings = new_topic(broker, 2)
    store = MemoryStore()
    produce(settings, [document(f"doc/{n}") for n in range(40)])
    assert Running(settings, store).join().totals.total() == 40
    produce(settings, [document(f"doc/{n}") for n in range(40, 50)])
    assert Running(settings, store).join().totals.total() == 10
    assert len(store.points) == 50


def test_lag_is_known_where_everything_was_done_before(broker: str) -> None:
    settings = new_topic(broker)
    produce(settings, [document("doc/1")])
    Running(settings, MemoryStore()).join()
    watch = Watch()
    later = KafkaSource(connect_consumer(settings), settings, watch=watch)
    wait_until(lambda: later.poll(0.1) is None and watch.behind(0.0) != {})
    assert watch.behind(0.0) == {Partition(settings.topic, 0): (0, 0.0)}
    later.close(5)


def test_lag_grows_while_nothing_is_fetched(broker: str) -> None:
    settings, watch = new_topic(broker), Watch()
    member = KafkaSource(connect_consumer(settings), settings, watch=watch)
    wait_until(lambda: member.poll(0.1) is None and watch.behind(0.0) != {})
    wait_until(lambda: member.poll(0.0, hold=True) is None)
    time.sleep(1)  # a fetch that was under way would tell of what comes now
    produce(settings, [document(f"doc/{n}") for n in range(7)])
    wait_until(lambda: member.poll(0.0, hold=True) is None and watch.lag() == 7)
    member.close(5)


def test_a_partition_whose_end_nobody_knows_ends_no_worker(broker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, asked = new_topic(broker), list[object]()

    async def unanswered(*given: object) -> None:
        asked.append(given)
        raise KafkaTimeoutError

    member = source(settings, once=False)
    monkeypatch.setattr(member._consumer._fetcher, "_fetch_offsets_by_times_async", unanswered)
    wait_until(lambda: member.poll(0.1) is not None)
    wait_until(lambda: member.poll(0.0, hold=True) is None and len(asked) == 2)
    member.close(5)


@pytest.mark.parametrize("stage", ["prepare", "embed", "write"])
def test_a_rebalance_while_a_batch_is_in_a_stage_loses_nothing(broker: str, stage: str) -> None:
    settings = new_topic(broker, 4, max_poll_records=20)
    produce(settings, [document(f"doc/{n}", f"text {n}") for n in range(400)])
    store, embedder = GatedStore(), GatedEmbedder()
    gate = {"prepare": store.recall, "embed": embedder.gate, "write": store.write}[stage]
    gate.open.clear()
    first = Running(settings, store, embedder)
    wait_until(gate.waiting.is_set)
    second = Running(settings, MemoryStoreView(store))
    wait_until(lambda: len(second.source._generations) == 2 and len(first.source._generations) == 2)
    gate.open.set()
    reports = [first.join(), second.join()]
    assert store.texts() == {f"doc/{n}": f"text {n}" for n in range(400)}
    assert committed(settings) == ends(settings, 4)
    assert sum(report.totals.total() for report in reports) >= 400


class MemoryStoreView(MemoryStore):
    """Another worker's view of the same store, past its gates."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__()
        self.points = store.points
        self._lock = store._lock


def test_a_worker_that_stops_hands_its_partitions_over(broker: str) -> None:
    settings = new_topic(broker, 4, max_poll_records=20)
    store = MemoryStore()
    first, second = Running(settings, store), Running(settings, store)
    produce(settings, [document(f"doc/{n}", f"text {n}") for n in range(200)])
    first.stop.set()
    first.join()
    second.join()
    last = Running(settings, store)
    last.join()
    assert len(store.points) == 200
    assert committed(settings) == ends(settings, 4)


def test_a_dead_letter_keeps_the_record_and_says_where_it_was(broker: str) -> None:
    settings = new_topic(broker)
    check_topics(settings)
    record = Record(Partition(settings.topic, 3), 7, b"\xff\x00", b"not json", (("h", b"\x01"), ("n", None)))
    letters = KafkaDeadLetters(connect_producer(settings), settings, epoch_base(1))
    letters.put([Letter(record, InvalidEvent("what was wrong"), "decode")])
    letters.close(5)
    (found,) = read_all(settings, settings.dead_letters)
    assert (found.key, found.value) == (record.key, record.value)
    headers = dict(found.headers)
    assert list(found.headers)[:2] == [("h", b"\x01"), ("n", b"")]  # the library sends no null headers
    assert headers["__connect.errors.topic"] == settings.topic.encode()
    assert headers["__connect.errors.partition"] == b"3"
    assert headers["__connect.errors.offset"] == b"7"
    assert headers["__connect.errors.stage"] == b"decode"
    assert headers["__connect.errors.exception.class.name"] == b"InvalidEvent"
    assert headers["__connect.errors.exception.message"] == b"what was wrong"
    assert headers["penstock.sequence"] == str((1 << 48) + 7).encode()


def test_a_dead_letter_too_large_for_its_topic_goes_without_its_value(broker: str) -> None:
    settings = new_topic(broker)
    check_topics(settings)
    letters = KafkaDeadLetters(connect_producer(settings), settings, epoch_base(1))
    record = Record(Partition(settings.topic, 0), 0, b"key", b"x" * 3_000_000)
    letters.put([Letter(record, InvalidEvent("too large"), "decode")])
    letters.close(5)
    (found,) = read_all(settings, settings.dead_letters)
    assert found.value is None
    assert dict(found.headers)["penstock.value.dropped"] == b"3000000"


MUCH = 1_500_000
LARGE = {
    "headers": Record(Partition("t", 0), 4, b"key", b"value", (("h", b"x" * MUCH), ("none", None))),
    "key": Record(Partition("t", 0), 4, b"k" * MUCH, b"value"),
    "everything": Record(Partition("t", 0), 4, b"k" * MUCH, b"v" * MUCH, (("h", b"x" * MUCH),)),
    "no key": Record(Partition("t", 0), 4, None, b"v", (("h", b"x" * MUCH),)),
}


@pytest.mark.parametrize("part", LARGE)
def test_the_last_resort_is_a_letter_of_our_own_headers_with_sizes_and_hashes(broker: str, part: str) -> None:
    """A worker that could not place its letter would crash at it for ever."""
    settings = new_topic(broker)
    record = replace(LARGE[part], partition=Partition(settings.topic, 0))
    check_topics(settings)
    letters = KafkaDeadLetters(connect_producer(settings), settings, epoch_base(1))
    letters.put([Letter(record, InvalidEvent("whatever"), "decode")])
    letters.close(5)
    (found,) = read_all(settings, settings.dead_letters)
    headers = dict(found.headers)
    assert (found.key, found.value) == (None, b"")
    assert headers["__connect.errors.offset"] == b"4"
    for name, content in (("key", record.key), ("value", record.value)):
        told = headers.get(f"penstock.{name}.dropped"), headers.get(f"penstock.{name}.sha256")
        wanted = None if content is None else (str(len(content)).encode(), sha256(content).hexdigest().encode())
        assert told == (wanted or (None, None))
    assert int(headers["penstock.headers.dropped"]) >= sum(len(value or b"") for _, value in record.headers)


def test_a_compacted_topic_takes_no_letter_without_a_key_and_that_is_told(broker: str) -> None:
    settings = new_topic(broker)
    with closing(KafkaAdminClient(bootstrap_servers=broker)) as admin:
        admin.create_topics([NewTopic(settings.dead_letters, 1, 1, topic_configs={"cleanup.policy": "compact"})])
    letters = KafkaDeadLetters(connect_producer(settings), settings, epoch_base(1))
    with pytest.raises(Misconfigured, match="takes no record without a key"):
        letters.put([Letter(Record(Partition(settings.topic, 0), 0, None, b"x"), InvalidEvent("no"), "decode")])
    letters.close(5)


def test_what_is_sent_counts_only_when_every_replica_in_sync_has_it(broker: str) -> None:
    """As the client is told: a broker alone has nobody to wait for."""
    with closing(connect_producer(new_topic(broker))) as producer:
        assert (producer.config["acks"], producer.config["enable_idempotence"]) == (-1, False)


def test_nothing_is_committed_but_what_is_given_to_commit(broker: str) -> None:
    """The client's own commits, every five seconds, would be of what nobody has written."""
    settings = new_topic(broker)
    produce(settings, [document("a")])
    reading = source(settings, once=False)
    wait_until(lambda: reading.poll(0.2) is not None)
    deadline = time.monotonic() + 6
    while time.monotonic() < deadline:
        reading.poll(0.2)
    assert set(committed(settings).values()) <= {0}
    reading.close(5)
    assert set(committed(settings).values()) <= {0}


def test_a_session_that_the_broker_finds_too_short_ends_the_worker(broker: str) -> None:
    settings = new_topic(broker, session_timeout_s=0.2)
    produce(settings, [document("a")])
    with pytest.raises(Misconfigured, match="PENSTOCK_KAFKA__SESSION_TIMEOUT_S"):
        Running(settings, MemoryStore()).join()


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_a_batch_that_would_unpack_to_too_much_is_a_letter_and_the_stream_goes_on(broker: str, codec: str) -> None:
    """Some kilobytes on the topic may stand for a gigabyte of memory in the worker."""
    settings = new_topic(broker)
    bomb = b"{" + b" " * (MOST_BYTES + 1000)
    produce(settings, [document("a")])
    if codec == "snappy":
        with closing(KafkaAdminClient(bootstrap_servers=broker)) as admin:
            resource = ConfigResource(ConfigResourceType.TOPIC, settings.topic, {"max.message.bytes": str(90 << 20)})
            admin.alter_configs([resource])
    produce(settings, [("b", bomb)], compression_type=codec, max_request_size=200 << 20)
    produce(settings, [document("c")])
    letters = MemoryDeadLetters()
    stream = Stream(source(settings), letters, DocumentRules())
    store = MemoryStore()
    report = IndexWorker(IndexSettings(), stream, unchanging, store, CHUNKS, 1, HashEmbedder()).run(threading.Event())
    assert report.totals == Counter({Outcome.INDEXED: 2, Outcome.DEAD_LETTERED: 1})
    assert "larger than 67108864 bytes when it is unpacked" in str(letters.letters[0].error)
    assert len(letters.letters[0].record.value or b"") < len(bomb)


def test_a_missing_topic_is_named(broker: str) -> None:
    with pytest.raises(Misconfigured, match="topic 'nowhere' does not exist"):
        check_topics(KafkaSettings(bootstrap_servers=broker, topic="nowhere"))


def test_a_missing_topic_is_named_when_its_dead_letters_are_there(broker: str) -> None:
    create_topic(KafkaSettings(bootstrap_servers=broker, topic="gone.dlq"), 1)
    with pytest.raises(Misconfigured, match="topic 'gone' does not exist"):
        check_topics(KafkaSettings(bootstrap_servers=broker, topic="gone"))


def test_a_dead_letter_without_key_and_value_is_stored(broker: str) -> None:
    settings = new_topic(broker)
    check_topics(settings)
    letters = KafkaDeadLetters(connect_producer(settings), settings, epoch_base(1))
    record = Record(Partition(settings.topic, 0), 0, None, None)
    large = Record(Partition(settings.topic, 0), 1, None, b"x" * 70_000_000)
    letters.put([Letter(one, InvalidEvent("nothing there"), "decode") for one in (record, large)])
    letters.close(5)
    first, second = read_all(settings, settings.dead_letters)
    assert (first.key, first.value, dict(first.headers)["penstock.value.null"]) == (None, b"", b"true")
    assert dict(second.headers)["penstock.value.dropped"] == b"70000000"


def test_once_ends_though_the_topic_grows(broker: str) -> None:
    settings = new_topic(broker, max_poll_records=10)
    produce(settings, [document(f"doc/{n}") for n in range(30)])
    grown = threading.Event()

    def grow() -> None:
        for n in range(2000):
            produce(settings, [document(f"more/{n}")])
            if grown.is_set():
                return

    growing = threading.Thread(target=grow)
    running = Running(settings, MemoryStore())
    growing.start()
    try:
        report = running.join()
    finally:
        grown.set()
        growing.join()
    assert report.totals[Outcome.INDEXED] >= 30
    assert committed(settings)[0] < ends(settings, 1)[0]


def test_a_broker_that_does_not_answer_is_an_outage() -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        check_topics(KafkaSettings(bootstrap_servers="127.0.0.1:1"))


def test_an_outage_of_kafka_is_waited_out(own_broker: Broker) -> None:
    settings = new_topic(own_broker.bootstrap_servers, max_poll_records=20)
    produce(settings, [document(f"doc/{n}") for n in range(200)])
    store = GatedStore()
    store.write.open.clear()
    running = Running(settings, store)
    wait_until(store.write.waiting.is_set)
    own_broker.stop()
    store.write.open.set()
    wait_until(lambda: len(store.points) >= 20)
    own_broker.start()
    assert running.join().totals.total() >= 200
    assert len(store.points) == 200
    assert committed(settings) == {0: 200}


def secure(own_broker: Broker, **fields: object) -> dict[str, object]:
    return {
        "bootstrap_servers": own_broker.secure_servers,
        "security_protocol": "SASL_SSL",
        "sasl_username": "alice",
        "sasl_password": "wonder-land",
        "ssl_ca_file": own_broker.ca_file,
    } | fields


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_password_over_tls_opens_the_broker(own_broker: Broker, mechanism: str) -> None:
    open_ = new_topic(own_broker.bootstrap_servers)
    fields = secure(own_broker, sasl_mechanism=mechanism, topic=open_.topic, group=open_.group)
    settings = KafkaSettings.model_validate(fields)
    check_topics(settings)
    produce(settings, [document("a")])
    store = MemoryStore()
    assert Running(settings, store).join().totals == Counter({Outcome.INDEXED: 1})


def token(seconds: float) -> str:
    """Without a signature, as Kafka's own example login takes it."""
    claims = {"sub": "alice", "iat": time.time() - 7200, "exp": time.time() + seconds}
    parts = (json.dumps(part).encode() for part in ({"alg": "none"}, claims))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


def test_a_token_is_read_anew_at_each_login(own_broker: Broker, tmp_path: Path) -> None:
    open_, file = new_topic(own_broker.bootstrap_servers), tmp_path / "token"
    fields = secure(
        own_broker, sasl_mechanism="OAUTHBEARER", sasl_token_file=file, topic=open_.topic, group=open_.group
    )
    settings = KafkaSettings.model_validate(fields)
    file.write_text(token(3600) + "\n")
    check_topics(settings)
    produce(settings, [document("a")])
    assert Running(settings, MemoryStore()).join().totals == Counter({Outcome.INDEXED: 1})
    file.write_text(token(-60))
    with pytest.raises((Misconfigured, Unavailable)) as caught:
        check_topics(settings)
    assert file.read_text() not in str(caught.value)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password_is_told_and_not_repeated(own_broker: Broker, mechanism: str) -> None:
    fields = secure(own_broker, sasl_mechanism=mechanism) | {"sasl_password": "wrong"}
    with pytest.raises(Misconfigured, match="refuses: SaslAuthenticationFailedError") as caught:
        check_topics(KafkaSettings.model_validate(fields))
    assert "wrong" not in str(caught.value)


@contextmanager
def forwarded(servers: str) -> Iterator[str]:
    """The same port under an address that no certificate is for."""
    port = int(servers.rsplit(":", 1)[1])

    def pass_on(near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while sent := near.recv(4096):
                far.sendall(sent)

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, far = listener.accept()[0], socket.create_connection(("127.0.0.1", port))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=pass_on, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.2", 0)) as listener:
        threading.Thread(target=accept, args=[listener], daemon=True).start()
        yield f"127.0.0.2:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def test_a_certificate_for_another_host_is_not_accepted_unless_that_is_asked_for(own_broker: Broker) -> None:
    topic = new_topic(own_broker.bootstrap_servers).topic
    with forwarded(own_broker.secure_servers) as servers:
        fields = secure(own_broker, bootstrap_servers=servers, topic=topic)
        with pytest.raises(Misconfigured, match=r"refuses: CERTIFICATE_VERIFY_FAILED.*IP address mismatch"):
            check_topics(KafkaSettings.model_validate(fields))
        check_topics(KafkaSettings.model_validate(fields | {"ssl_check_hostname": False, "allow_insecure": True}))


def test_a_certificate_that_has_expired_is_not_accepted(own_broker: Broker) -> None:
    fields = {"bootstrap_servers": own_broker.expired_servers, "security_protocol": "SSL"}
    settings = KafkaSettings.model_validate(fields | {"ssl_ca_file": own_broker.ca_file})
    with pytest.raises(Misconfigured, match=r"refuses: CERTIFICATE_VERIFY_FAILED.*certificate has expired"):
        check_topics(settings)


def test_a_certificate_of_an_unknown_authority_is_not_accepted(own_broker: Broker) -> None:
    fields = secure(own_broker, ssl_ca_file=None)
    with pytest.raises(Misconfigured, match=r"refuses: CERTIFICATE_VERIFY_FAILED.*self-signed certificate"):
        check_topics(KafkaSettings.model_validate(fields))
