"""Dead letters over a real broker and real index workers: counted, shown, and sent back without harm."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from rich.console import Console
from typer.testing import CliRunner

from penstock import settings as all_settings
from penstock.adapters.kafka.connection import client_options, connect_producer
from penstock.adapters.kafka.letters import Returns
from penstock.adapters.kafka.topics import create_topic, delete_topics
from penstock.adapters.kafka.whole import WholeTopic
from penstock.assembly.replay import Replay
from penstock.commands import main as _every_command  # noqa: F401
from penstock.commands.app import app
from penstock.core.errors import Misconfigured
from penstock.core.records import Partition, Place
from penstock.demo.corpus import EMBEDDING
from penstock.observe.live import steps
from penstock.operate.letters import Chosen
from penstock.operate.replay import Became, Told
from penstock.settings import KafkaSettings, QdrantSettings
from tests.conftest import stored, wait_until
from tests.integration.test_cli import one_line
from tests.integration.test_whole import produce_damaged
from tests.kafka_tools import document, ends, new_topic, produce, read_all
from tests.workers import PENSTOCK, environment, penstock, worker

LARGE, SMALL = "many words " * 40, {"INDEX__MAX_EVENT_BYTES": 300}
"""A text that workers of these settings give up, and others do not."""


class Stream:
    """A topic, a store, and commands that know both."""

    def __init__(self, kafka: KafkaSettings, store: QdrantSettings, folder: Path) -> None:
        self.kafka, self.folder = kafka, folder
        self.store = store.model_copy(update={"collection": kafka.group})
        self.variables: dict[str, object] = {
            "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "KAFKA__TOPIC": kafka.topic,
            "KAFKA__GROUP": kafka.group, "KAFKA__SESSION_TIMEOUT_S": 6, "QDRANT__COLLECTION": kafka.group,
            "QDRANT__PATH": store.path or "", "QDRANT__URL": store.url, "QDRANT__GRPC_PORT": store.grpc_port,
            "MODEL__BUNDLE": EMBEDDING,
        }  # fmt: skip

    @property
    def dlq(self) -> str:
        return self.kafka.dead_letters

    def run(self, *arguments: str, **variables: object) -> "subprocess.CompletedProcess[bytes]":
        return penstock(self.folder, *arguments, variables=self.variables | variables)

    def index(self, **variables: object) -> None:
        done = self.run("index", "--once", **variables)
        assert done.returncode == 0, done.stderr.decode()

    def letters(self, *arguments: str, **variables: object) -> list[dict[str, Any]]:
        """What it prints as JSON."""
        env = {f"PENSTOCK_{name}": str(value) for name, value in (self.variables | variables).items()}
        done = CliRunner().invoke(app, ["letters", *arguments, "--json"], env=env, catch_exceptions=False)
        assert done.exit_code == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def replay(self, *arguments: str, **variables: object) -> dict[str, tuple[str, str]]:
        """What became of letters, and why, by their keys."""
        keys = [(record.key or b"").decode() for record in read_all(self.kafka, self.dlq)]
        told = self.letters("replay", *arguments, **variables)
        return {keys[one["letter"]["offset"]]: (one["became"], one["why"] or "") for one in told}

    def texts(self) -> dict[str, str]:
        return {name: text[:5] for name, text in stored(self.store, EMBEDDING).items()}


@pytest.fixture(params=["folder", "server"])
def stream(request: pytest.FixtureRequest, broker: str, tmp_path: Path) -> Stream:
    """With an embedded store, and with one that is reached by gRPC."""
    if request.param == "folder":
        return Stream(new_topic(broker), QdrantSettings(path=tmp_path / "qdrant"), tmp_path)
    return Stream(new_topic(broker), request.getfixturevalue("qdrant_process"), tmp_path)


@pytest.fixture
def simple(broker: str, tmp_path: Path) -> Stream:
    return Stream(new_topic(broker), QdrantSettings(path=tmp_path / "qdrant"), tmp_path)


def became(told: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    return {name: what for name, (what, _) in told.items()}


def test_what_was_given_up_is_counted_shown_and_sent_back_after_a_fix(stream: Stream) -> None:
    """By offset: what a newer event has superseded stays, and a second run sends nothing again."""
    produce(stream.kafka, [document("kept", LARGE), document("gone", LARGE), document("fixed", LARGE), ("bad", b"{no")])
    produce(stream.kafka, [document("kept", "newer"), ("gone", None), document("other", "fine")])
    stream.index(**SMALL)
    (counted,) = stream.letters("list")
    groups = {group["reason"]: group["letters"] for group in counted["groups"]}
    assert (counted["letters"], counted["topics"], sorted(groups.values())) == (4, [stream.dlq], [1, 3])
    assert "InvalidEvent: the value has # bytes; index.max_event_bytes is #" in groups
    (found,) = stream.letters("list", "--by", "key", "--reason", "MAX_EVENT", "--key", "fixed")
    assert [group["key"] for group in found["groups"]] == ["fixed"]
    (shown,) = stream.letters("show", f"0:{found['groups'][0]['example']['offset']}")
    assert json.loads(shown["value"])["text"] == LARGE
    assert shown["origin"] | {"delivered": ""} == {
        "topic": stream.kafka.topic,
        "partition": 0,
        "offset": 2,
        "delivered": "",
    }
    assert (shown["stage"], shown["now"].split(":")[0]) == ("decode", "indexed")

    planned = {"kept": "superseded", "gone": "superseded", "fixed": "ready", "bad": "ready"}
    assert became(stream.replay("--dry-run")) == planned
    assert ends(stream.kafka, 1) == {0: 7}, "nothing was sent"
    assert became(stream.replay()) == planned | {"fixed": "sent", "bad": "sent"}
    assert ends(stream.kafka, 1) == {0: 9}
    stream.index()
    assert stream.texts() == {"kept": "newer", "fixed": "many ", "other": "fine"}

    again = stream.letters("replay", "--dry-run")
    assert [one["became"] for one in again].count("ready") == 1, "only what came again"
    assert {one["became"] for one in again if one["letter"]["offset"] < 4} == {"superseded", "sent_before", "repeated"}
    (copy,) = [record for record in read_all(stream.kafka, stream.kafka.topic) if record.offset == 7]
    assert {name for name, _ in copy.headers} == {"__connect.errors.topic", "penstock.sequence", "penstock.timestamp"}


def test_by_version_an_old_event_beats_no_newer_one_and_a_delete_does_not_come_undone(stream: Stream) -> None:
    by_version = {"INDEX__ORDER": "event"}
    produce(stream.kafka, [document(name, LARGE, version=5) for name in ("kept", "gone", "fixed", "newest")])
    produce(stream.kafka, [document("kept", "newer", version=6), document("newest", "older", version=4)])
    produce(stream.kafka, [("gone", b'{"id": "gone", "op": "delete", "version": 6}')])
    stream.index(**SMALL, **by_version)
    assert set(became(stream.replay(**by_version)).values()) == {"sent"}
    stream.index(**by_version)
    assert stream.texts() == {"kept": "newer", "fixed": "many ", "newest": "many "}


def test_an_event_that_comes_just_before_the_letter_is_sent_wins_all_the_same(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By offset: the index knows that what is sent back later is older, be it an update or a delete."""
    produce(stream.kafka, [document("kept", LARGE), document("gone", LARGE)])
    stream.index(**SMALL)
    for name, value in stream.variables.items():
        monkeypatch.setenv(f"PENSTOCK_{name}", str(value))
    told: list[Told] = []
    newer: Iterator[list[tuple[str, bytes | None]]] = iter([[document("kept", "newer")], [("gone", None)]])
    replay = Replay(
        all_settings.load(), Chosen(), told.append, steps(Console(quiet=True)),
        sleep=lambda _: produce(stream.kafka, next(newer)),
    )  # fmt: skip
    replay.run(0, dry_run=False)
    assert [one.became for one in told] == [Became.SENT] * 2
    assert [(one.copy or one.letter).offset for one in told] == [3, 5]
    stream.index()
    assert stream.texts() == {"kept": "newer"}


def test_whoever_waits_hears_what_became_of_each(stream: Stream) -> None:
    produce(stream.kafka, [document("fixed", LARGE), ("bad", b"{no")])
    stream.index(**SMALL)
    with worker("index", env=environment(stream.folder, **stream.variables)) as running:
        told = stream.replay("--wait", "--timeout-s", "50")
        assert became(told) == {"fixed": "done", "bad": "dead_letter_again"}
        assert told["bad"][1].startswith("InvalidEvent: ")
        assert running.stop() == 0
    assert stream.texts() == {"fixed": "many "}


def test_where_nobody_indexes_whoever_waits_is_told_so(simple: Stream) -> None:
    produce(simple.kafka, [document("fixed", LARGE)])
    simple.index(**SMALL)
    done = simple.run("letters", "replay", "--wait", "--timeout-s", "0.1")
    assert done.returncode == 75
    assert b"       1  sent\n" in done.stdout
    assert b"penstock: after 0.1 s the index workers have not come to 1 of 1 letters" in done.stderr


def test_a_run_that_was_killed_half_way_is_finished_by_the_next_one(simple: Stream) -> None:
    names = [f"doc/{n}" for n in range(8)]
    produce(simple.kafka, [document(name, LARGE) for name in names])
    simple.index(**SMALL)
    env = environment(simple.folder, **simple.variables)
    command = [*PENSTOCK, "letters", "replay", "--rate", "2"]
    with subprocess.Popen(command, env=env, cwd=simple.folder, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: ends(simple.kafka, 1)[0] >= 10)
        process.send_signal(signal.SIGKILL)
    sent = ends(simple.kafka, 1)[0] - 8
    assert 2 <= sent < 8
    told = simple.letters("replay")
    assert [one["became"] for one in told].count("sent_before") == sent
    assert [one["became"] for one in told].count("sent") == 8 - sent
    assert ends(simple.kafka, 1) == {0: 16}
    simple.index()
    assert set(simple.texts()) == set(names)


def put(kafka: KafkaSettings, to: str, key: bytes, **errors: object) -> None:
    """A letter that somebody else has made."""
    headers = [(name.replace("__", "."), str(value).encode()) for name, value in errors.items()]
    named = [(name if name.startswith("penstock") else f"__connect.errors.{name}", value) for name, value in headers]
    with closing(connect_producer(kafka)) as producer:
        producer.send(to, key=key, value=b'{"id": "x", "text": "x"}', headers=named)
        producer.flush()


def test_what_must_not_go_back_is_refused_with_its_reason(simple: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = simple.kafka
    with closing(KafkaAdminClient(**client_options(kafka))) as admin:
        admin.create_topics([NewTopic(simple.dlq, 1, 1, topic_configs={"max.message.bytes": "2000"})])
    produce(kafka, [("large", b"{" + b"x" * 3000), ("bad", b"{no")])
    produce_damaged(kafka, monkeypatch)
    simple.index()
    put(kafka, simple.dlq, b"connect", topic=kafka.topic, partition=0, offset=1, stage="VALUE_CONVERTER")
    put(kafka, simple.dlq, b"split", topic=kafka.topic, partition=7, offset=1, penstock__sequence=(1 << 48) + 1)
    put(kafka, simple.dlq, b"alien", topic="elsewhere", partition=0, offset=1, penstock__sequence=(1 << 48) + 1)
    put(kafka, simple.dlq, b"no letter")
    told = simple.replay()
    said = {
        "large": "too large for its topic and went without its value",
        "": "the bytes of a batch that could not be decoded",
        "connect": "no header penstock.sequence",
        "split": "has 1 partitions, no number 7 any more",
        "alien": "topic 'elsewhere', which the index does not follow",
        "no letter": "do not say where it came from",
    }
    assert became(told) == dict.fromkeys(said, "refused") | {"bad": "sent"}
    for name, why in said.items():
        assert why in told[name][1]
    (counted,) = simple.letters("list", "--by", "partition")
    assert {group["partition"]: group["letters"] for group in counted["groups"]} == {
        f"{kafka.topic}/0": 4, f"{kafka.topic}/7": 1, "elsewhere/0": 1, "(none)": 1,
    }  # fmt: skip
    assert "is of epoch 1, PENSTOCK_INDEX__EPOCH is 2" in simple.replay(INDEX__EPOCH=2)["bad"][1]
    old = simple.replay(PURGE__TOMBSTONES_S=0.001, SETUP__LETTERS_S=0.001)["bad"]
    assert old[0] == "refused"
    assert "(its header penstock.timestamp), longer ago than PENSTOCK_PURGE__TOMBSTONES_S" in old[1]
    delete_topics(kafka.model_copy(update={"dead_letter_topic": "not-this-one"}))
    wait_until(lambda: simple.replay("--dry-run")["bad"][1].endswith(" is gone"))
    with closing(KafkaAdminClient(**client_options(kafka))) as admin:
        admin.create_topics([NewTopic(kafka.topic, 1, 1)])
    produce(kafka, [document(f"doc/{n}") for n in range(5)])
    assert "was made anew since" in simple.replay()["bad"][1]
    assert ends(kafka, 1) == {0: 5}


def test_nulls_go_back_as_they_were_to_the_partition_that_they_came_from(broker: str, tmp_path: Path) -> None:
    """Tombstones, and a record that has neither key nor value; whoever made them chose partitions by other rules."""
    kafka = new_topic(broker, 4)
    several = Stream(kafka, QdrantSettings(path=tmp_path / "qdrant"), tmp_path)
    with closing(Returns(kafka)) as returns:
        for n in range(4):
            returns.send(Place("", 0, n), Partition(kafka.topic, n), b"acme", None, (("trace", b"1"),))
        returns.send(Place("", 0, 4), Partition(kafka.topic, 2), None, None, ())
        assert len(returns.settle()) == 5
    several.index(INDEX__TENANT_FROM="key")
    values = [record.value for record in read_all(kafka, several.dlq)]
    assert sorted(values, key=str) == [None, None, None, None, b""]
    assert [one["became"] for one in several.letters("replay")] == ["sent"] * 5
    assert ends(kafka, 4) == {0: 2, 1: 2, 2: 4, 3: 2}
    with closing(WholeTopic(kafka, [kafka.topic])) as whole:
        records = [record for some in whole.read() for record in some]
    assert {record.value for record in records} == {None}
    copies = [record for record in records if record.offset >= ends(kafka, 4)[record.partition.number] // 2]
    assert sorted(copy.key or b"" for copy in copies) == [b"", b"acme", b"acme", b"acme", b"acme"]
    assert all(("trace", b"1") in copy.headers for copy in copies if copy.key)


def test_a_time_that_the_topic_takes_is_kept_and_one_that_it_does_not_take_is_left_out(broker: str) -> None:
    kafka = new_topic(broker)
    with closing(KafkaAdminClient(**client_options(kafka))) as admin:
        config = {"message.timestamp.before.max.ms": str(48 * 3_600_000)}
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, kafka.topic, config)])
    now_ms = int(time.time() * 1000)
    young, old = now_ms - 3_600_000, now_ms - 72 * 3_600_000
    with closing(Returns(kafka)) as returns:
        returns.send(Place("", 0, 9), Partition(kafka.topic, 0), b"alone", b"x", (), young)
        assert len(returns.settle()) == 1
        for n, time_ms in enumerate((young, old, young)):
            returns.send(Place("", 0, n), Partition(kafka.topic, 0), b"a%d" % n, b"x", (), time_ms)
        assert all(isinstance(place, Place) for place in returns.settle().values())
    times = {record.key: record.timestamp for record in read_all(kafka, kafka.topic)}
    assert (len(times), times[b"alone"]) == (4, young)
    assert times[b"a1"] >= now_ms


def test_of_several_topics_one_can_be_chosen(broker: str, tmp_path: Path) -> None:
    """Of a pattern's, each with its dead letters; and of the queries' topic, which are not sent back."""
    a, b = new_topic(broker), new_topic(broker)
    together = a.model_copy(update={"topic": f"^({a.topic}|{b.topic})"})
    simple = Stream(together, QdrantSettings(path=tmp_path / "qdrant"), tmp_path)
    by_version = {"INDEX__ORDER": "event", "QUERY__TOPIC": f"{a.topic}-queries"}
    produce(a, [("bad", b"{no")])
    produce(b, [("bad", b"{no"), ("worse", b"{no")])
    simple.index(**by_version)
    (counted,) = simple.letters("list", **by_version)
    assert (counted["letters"], set(counted["topics"])) == (3, {a.dead_letters, b.dead_letters})
    (counted,) = simple.letters("list", "--topic", b.topic, **by_version)
    assert (counted["letters"], counted["topics"]) == (2, [b.dead_letters])
    with pytest.raises(Misconfigured, match="--topic says of which topic"):
        simple.letters("show", "0:0", **by_version)
    with pytest.raises(Misconfigured, match="--topic says of which topic"):
        simple.letters("replay", "--offset", "0:0", **by_version)
    assert simple.letters("show", "0", "--topic", a.topic, **by_version)[0]["origin"]["topic"] == a.topic
    assert [one["became"] for one in simple.letters("replay", "--topic", b.topic, **by_version)] == ["sent", "sent"]
    assert (ends(a, 1), ends(b, 1)) == ({0: 1}, {0: 4})
    create_topic(a.model_copy(update={"topic": f"{a.topic}-queries.dlq"}), 1)
    put(a, f"{a.topic}-queries.dlq", b"q", topic=f"{a.topic}-queries", partition=0, offset=3)
    (counted,) = simple.letters("list", "--topic", f"{a.topic}-queries", **by_version)
    assert counted["letters"] == 1
    with pytest.raises(Misconfigured, match="queries are not sent back"):
        simple.letters("replay", "--topic", f"{a.topic}-queries", **by_version)


def test_wrong_input_by_hand_is_one_line(simple: Stream) -> None:
    nothing = simple.run("letters", "list")
    assert (nothing.returncode, nothing.stdout) == (0, b"no dead letters, and no topic for them yet\n")
    assert simple.run("letters", "replay").stdout == b"no dead letters to send back\n"
    produce(simple.kafka, [("bad", b"{no")])
    simple.index()
    assert b"no dead letters in " in simple.run("letters", "list", "--stage", "write").stdout
    wrong = {
        ("list", "--topic", "nowhere"): "--topic nowhere: the index follows",
        ("list", "--by", "colour"): "--by colour: choose of reason, stage, hour, partition, key",
        ("list", "--since", "yesterday"): "--since: not RFC 3339",
        ("show", "first"): "PARTITION:OFFSET first: is the partition and the offset of a letter, like 0:41",
        ("show", "0:7"): f"there is no offset 7 in {simple.dlq}/0, which has offsets 0 to 0",
        ("show", "3:0"): f"topic {simple.dlq!r} has 1 partitions, no number 3",
        ("replay", "--offset", "0:x"): "--offset 0:x: is the partition and the offset of a letter",
    }
    for arguments, said in wrong.items():
        with pytest.raises(Misconfigured) as caught:
            simple.letters(*arguments)
        assert said in str(caught.value)
    missing = one_line(simple.run("letters", "list", KAFKA__TOPIC="nowhere"), 2)
    assert "topic 'nowhere' does not exist" in missing
    away = one_line(simple.run("letters", "replay", KAFKA__BOOTSTRAP_SERVERS="127.0.0.1:1"), 75)
    assert "Kafka at 127.0.0.1:1" in away


def retention(kafka: KafkaSettings, topic: str) -> dict[str, str]:
    asked = ConfigResource(ConfigResourceType.TOPIC, topic)
    with closing(KafkaAdminClient(**client_options(kafka))) as admin:
        told = admin.describe_configs([asked], config_filter="all")["topic"][topic]
    return {name: told[name]["value"] for name in ("retention.ms", "cleanup.policy")}


def test_a_worker_makes_topics_that_forget_letters_and_warns_once_of_those_that_do_not(
    broker: str, tmp_path: Path
) -> None:
    """Of a pattern's topics, and of one that appears later."""
    a, b, c, late = (new_topic(broker) for _ in range(4))
    forgetful, unlimited = {"cleanup.policy": "delete", "retention.ms": "3600000"}, {"retention.ms": "-1"}
    with closing(KafkaAdminClient(**client_options(a))) as admin:
        made = [
            NewTopic(one.dead_letters, 1, 1, topic_configs=config) for one, config in ((b, unlimited), (c, forgetful))
        ]
        admin.create_topics(made)
        together = a.model_copy(update={"topic": f"^({a.topic}|{b.topic}|{c.topic}|{late.topic}-new)"})
        simple = Stream(together, QdrantSettings(path=tmp_path / "qdrant"), tmp_path)
        simple.variables |= {"INDEX__ORDER": "event", "SETUP__LETTERS_S": 7200, "PURGE__TOMBSTONES_S": 7200}
        produce(a, [document("one", version=1)])
        with worker("index", env=environment(simple.folder, **simple.variables)) as running:
            running.until("topics")
            later = late.model_copy(update={"topic": f"{late.topic}-new"})
            admin.create_topics([NewTopic(later.dead_letters, 1, 1, topic_configs=unlimited)])
            admin.create_topics([NewTopic(later.topic, 1, 1)])
            running.until("topics")
            assert running.stop() == 0
    lines = [line for line in running.lines if line["event"] == "letters_kept_too_long"]
    assert [(line["topic"], line["kept"], line["level"]) for line in lines] == [
        (b.dead_letters, "for ever", "warning"), (later.dead_letters, "for ever", "warning"),
    ]  # fmt: skip
    assert "retention.ms of at most PENSTOCK_PURGE__TOMBSTONES_S" in lines[0]["remedy"]
    assert retention(a, a.dead_letters) == {"cleanup.policy": "delete", "retention.ms": "7200000"}
    assert retention(a, c.dead_letters) == forgetful
