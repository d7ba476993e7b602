"""A backfill beside a live topic, as commands over a real broker: live is newer, goes first, and outlives it."""

import json
import re
import signal
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from kafka import KafkaAdminClient

from penstock.adapters.kafka.connection import client_options
from penstock.adapters.kafka.topics import create_topic
from penstock.demo.corpus import EMBEDDING
from penstock.settings import KafkaSettings, QdrantSettings
from tests.conftest import own_qdrant, stored, wait_until
from tests.kafka_tools import committed, document, new_topic, produce, read_all
from tests.workers import environment, penstock, worker

Event = tuple[str, bytes | None]


class Site:
    """A live topic, one to be filled in from, and a store: a folder, or a server."""

    def __init__(self, broker: str, qdrant: QdrantSettings, folder: Path) -> None:
        self.live = new_topic(broker, 2)
        self.before = self.topic("before")
        self.qdrant = qdrant.model_copy(update={"collection": self.live.topic})
        self.folder = folder

    def topic(self, name: str) -> KafkaSettings:
        """Another one, with the group that a worker reads it by."""
        made = self.live.behind(f"{self.live.topic}-{name}")
        create_topic(made, 2)
        return made

    def variables(self, **more: object) -> dict[str, object]:
        store: dict[str, object] = (
            {"QDRANT__URL": self.qdrant.url, "QDRANT__GRPC_PORT": self.qdrant.grpc_port, "QDRANT__PATH": "",
             "QDRANT__API_KEY": self.qdrant.api_key.get_secret_value(), "QDRANT__ALLOW_INSECURE": "true"}
            if self.qdrant.path is None else {"QDRANT__PATH": self.qdrant.path}
        )  # fmt: skip
        return {
            "KAFKA__BOOTSTRAP_SERVERS": self.live.bootstrap_servers, "KAFKA__TOPIC": self.live.topic,
            "KAFKA__GROUP": self.live.group, "KAFKA__SESSION_TIMEOUT_S": 6, "MODEL__BUNDLE": EMBEDDING,
            "QDRANT__COLLECTION": self.qdrant.collection, "INDEX__BACKFILL": self.before.topic,
        } | store | more  # fmt: skip

    def once(self, *arguments: str, code: int = 0, **more: object) -> list[dict[str, Any]]:
        """The log of a worker that ends where both topics end."""
        done = penstock(self.folder, "index", "--once", *arguments, variables=self.variables(**more))
        lines = done.stderr.decode().splitlines()
        assert done.returncode == code, lines[-1]
        return [json.loads(line) if line.startswith("{") else {"event": "last", "said": line} for line in lines]

    def stored(self) -> dict[str, str]:
        return stored(self.qdrant, EMBEDDING)


@pytest.fixture(params=["folder", "server"])
def site(broker: str, request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    if request.param == "folder":
        return Site(broker, QdrantSettings(path=tmp_path / "qdrant"), tmp_path)
    return Site(broker, request.getfixturevalue("qdrant_process"), tmp_path)


@pytest.fixture
def served(broker: str, qdrant_process: QdrantSettings, tmp_path: Path) -> Site:
    return Site(broker, qdrant_process, tmp_path)


def of(lines: Sequence[dict[str, Any]], event: str) -> dict[str, Any]:
    return next(line for line in reversed(lines) if line["event"] == event)


def value(client: httpx.Client, series: str) -> float:
    """The sum of the series that the pattern fits."""
    return sum(map(float, re.findall(rf"^{series} (\S+)$", client.get("/metrics").text, re.MULTILINE)))


def test_a_live_event_is_newer_whatever_comes_first_and_a_delete_is_not_undone(site: Site) -> None:
    produce(site.live, [document("changed", "now"), ("deleted", None), ("deleted later", None)])
    produce(site.before, [document("changed", "before"), document("deleted", "before"), document("old", "first")])
    lines = site.once()
    assert (of(lines, "ended")["deleted_unknown"], of(lines, "backfill_ended")["superseded"]) == (2, 2)
    assert site.stored() == {"changed": "now", "old": "first"}
    produce(site.before, [document("deleted later", "before"), document("old", "second"), document("new", "filled in")])
    site.once()
    assert site.stored() == {"changed": "now", "old": "second", "new": "filled in"}
    produce(site.live, [document("new", "live"), ("old", None)])
    site.once()
    assert site.stored() == {"changed": "now", "new": "live"}
    assert committed(site.before).keys() <= {0, 1}
    assert sum(committed(site.before).values()) == 6


def test_a_later_backfill_wins_over_an_earlier_one_though_its_offsets_are_lower(site: Site) -> None:
    """Also where the topic was made anew under its name; what a worker finds of the former one it does not mix up."""
    produce(site.before, [document(f"d{n}", "first") for n in range(30)])
    site.once()
    later = site.topic("later")
    produce(later, [document(f"d{n}", "second") for n in range(10)])
    site.once("--backfill", later.topic)
    produce(site.before, [document("d1", "first once more")])
    site.once()
    texts = site.stored()
    assert {texts[f"d{n}"] for n in range(10)} == {"second"}
    assert {texts[f"d{n}"] for n in range(10, 30)} == {"first"}
    with closing(KafkaAdminClient(**client_options(site.before))) as admin:
        admin.delete_topics([site.before.topic])
    wait_until(lambda: _made(site.before))
    produce(site.before, [document("d1", "third")])
    site.once()
    assert site.stored()["d1"] == "third"


def _made(topic: KafkaSettings) -> bool:
    """Once the former one of that name is gone."""
    create_topic(topic, 2)
    with closing(KafkaAdminClient(**client_options(topic))) as admin:
        (described,) = admin.describe_topics([topic.topic])
        if described["error_code"]:
            return False
        ends = admin.list_partition_offsets({_place(topic, n): -1 for n in range(2)})
    return all(at.offset == 0 for at in ends.values())


def _place(topic: KafkaSettings, number: int) -> Any:
    from kafka import TopicPartition

    return TopicPartition(topic.topic, number)


def test_versions_decide_where_they_order_the_events(site: Site) -> None:
    produce(site.live, [document("a", "five", version=5), document("b", "five", version=5)])
    produce(site.before, [document("a", "four", version=4), document("b", "six", version=6)])
    site.once(INDEX__ORDER="event")
    assert site.stored() == {"a": "five", "b": "six"}


def test_a_worker_that_is_killed_in_a_backfill_is_followed_by_one_that_ends_it(served: Site) -> None:
    produce(served.before, [document(f"d{n}", f"before {n}") for n in range(400)])
    produce(served.live, [document(f"d{n}", f"live {n}") for n in range(0, 400, 40)])
    with worker("index", env=environment(None, **served.variables()), cwd=served.folder) as first:
        first.until("backfill_started")
        wait_until(lambda: 0 < sum(committed(served.before).values()) < 400, most_pause_s=0.02)
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    done = sum(committed(served.before).values())
    produce(served.live, [(f"d{n}", None) for n in range(1, 400, 40)])
    lines = served.once()
    assert 0 < done < 400
    assert sum(of(lines, "backfill_ended")[name] for name in ("indexed", "unchanged", "superseded")) <= 400 - done + 100
    expected = {f"d{n}": f"live {n}" if n % 40 == 0 else f"before {n}" for n in range(400) if n % 40 != 1}
    assert served.stored() == expected
    assert sum(committed(served.before).values()) == 400


def test_two_workers_share_a_backfill_and_its_dead_letters_go_to_a_topic_of_its_own(served: Site) -> None:
    env = environment(None, **served.variables())
    with worker("index", env=env, cwd=served.folder) as first, worker("index", env=env, cwd=served.folder) as second:
        for one in (first, second):
            one.until("backfill_started")
        produce(served.before, [*(document(f"d{n}", f"before {n}") for n in range(60)), ("bad", b"no json")])
        wait_until(lambda: sum(committed(served.before).values()) == 61)
        assert (first.stop(), second.stop()) == (0, 0)
    done = [of(one.lines, "backfill_ended") for one in (first, second)]
    assert sum(one["dead_lettered"] for one in done) == 1
    assert len(served.stored()) == 60
    (letter,) = read_all(served.before, f"{served.before.topic}.dlq")
    assert (letter.key, read_all(served.live, f"{served.live.topic}.dlq")) == (b"bad", [])


def test_after_a_file_the_worker_goes_on_and_how_fresh_it_was_is_not_told(served: Site) -> None:
    """Its share is; live documents are told apart, and counted as ever."""
    lines = b"".join(value + b"\n" for _, value in (document(f"f{n}", f"of the file {n}") for n in range(20)))
    (served.folder / "events.jsonl").write_bytes(lines)
    env = environment(None, **served.variables(INDEX__BACKFILL="", MONITOR__PORT=0))
    with worker("index", "--backfill-from", "events.jsonl", env=env, cwd=served.folder) as running:
        with running.client("monitored") as client:
            ended = running.until("backfill_ended")
            assert ended["indexed"] == 20
            assert value(client, "penstock_index_backfill_running") == 0
            produce(served.live, [document("f3", "live")])
            wait_until(lambda: served.stored().get("f3") == "live")
            wait_until(lambda: sum(committed(served.live).values()) == 1)
            fresh = rf'penstock_index_freshness_seconds_count\{{kind="\w+",topic="{served.live.topic}"\}}'
            assert value(client, fresh) == 1
            assert "events.jsonl" not in "".join(re.findall(r"penstock_index_freshness.*", client.get("/metrics").text))
            assert value(client, r'penstock_index_backfill_records_total\{outcome="indexed"\}') == 20
            assert value(client, r'penstock_index_records_total\{outcome="indexed",topic="events.jsonl"\}') == 20
            assert (
                0
                < value(client, "penstock_index_backfill_tokens_total")
                < value(client, r'penstock_model_tokens_total\{task="embedding"\}')
            )
            assert client.get("/healthz").status_code == 200
        assert running.stop() == 0
    assert of(running.lines, "ended")["indexed"] == 1


def test_the_lag_of_a_backfill_is_told_apart(served: Site) -> None:
    produce(served.before, [document("a", "before")])
    env = environment(None, **served.variables(MONITOR__PORT=0))
    place = r'partition="\d",topic="{}"'
    with worker("index", env=env, cwd=served.folder) as running, running.client("monitored") as client:
        running.until("backfill_started")
        name = rf"penstock_index_backfill_lag_records\{{{place.format(served.before.topic)}\}}"
        wait_until(lambda: bool(re.search(name, client.get("/metrics").text)))
        wait_until(lambda: sum(committed(served.before).values()) == 1)
        text = client.get("/metrics").text
        assert served.before.topic not in "".join(re.findall(r"^penstock_index_lag_.*$", text, re.MULTILINE))
        assert value(client, "penstock_index_backfill_running") == 1
        assert running.stop() == 0


def test_a_backfill_whose_topic_goes_stops_alone_and_the_exit_code_tells(served: Site) -> None:
    produce(served.before, [document("a", "before")])
    with worker("index", env=environment(None, **served.variables()), cwd=served.folder) as running:
        running.until("backfill_started")
        wait_until(lambda: sum(committed(served.before).values()) == 1)
        with closing(KafkaAdminClient(**client_options(served.before))) as admin:
            admin.delete_topics([served.before.topic])
        assert "is gone: correct PENSTOCK_INDEX__BACKFILL" in running.until("backfill_stopped")["reason"]
        produce(served.live, [document("b", "live")])
        wait_until(lambda: sum(committed(served.live).values()) == 1)
        running.process.send_signal(signal.SIGTERM)
        last = [line.decode() for line in running.process.stderr or []][-1]
        assert (running.process.wait(60), "is gone" in last) == (2, True)
    assert served.stored() == {"a": "before", "b": "live"}


def test_a_collection_that_lost_what_the_group_has_committed_is_told_and_filled_again(
    broker: str, tmp_path: Path
) -> None:
    with own_qdrant() as (_, qdrant):
        site = Site(broker, qdrant, tmp_path)
        produce(site.before, [document("a", "before")])
        site.once()
    with own_qdrant() as (_, qdrant):
        site.qdrant = qdrant.model_copy(update={"collection": site.live.topic})
        said = site.once(code=2)[-1]["said"]
        assert f"the collection holds the backfill {site.before.topic}/" in said
        assert "up to offset 0" in said
        site.once("--from-beginning")
        assert site.stored() == {"a": "before"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "a.jsonl", "--backfill", "before"], "one of them"),
        (["--backfill", "documents"], "index.backfill: 'documents'"),
        (["--backfill", "documents.dlq"], "index.backfill: 'documents.dlq'"),
        (["--backfill", "a/b"], "the name of a topic has"),
    ],
)
def test_what_cannot_be_is_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = penstock(tmp_path, "index", *arguments)
    assert (done.returncode, said in done.stderr.decode()) == (2, True), done.stderr


def test_a_topic_that_is_not_there_is_told_at_the_start(served: Site) -> None:
    said = served.once(code=2, INDEX__BACKFILL="not-there")[-1]["said"]
    assert "topic 'not-there' does not exist" in said
    assert "PENSTOCK_INDEX__BACKFILL" in said
