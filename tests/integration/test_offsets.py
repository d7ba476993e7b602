"""``penstock offsets`` against real Kafka, real workers and both stores: what it says, and what workers do then."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.structs import OffsetAndMetadata
from typer.testing import CliRunner

from penstock.adapters.kafka.connection import client_options, connect_producer
from penstock.adapters.kafka.group_offsets import GroupOffsets
from penstock.commands.offsets import offsets
from penstock.core.errors import Misconfigured, Unavailable
from penstock.core.records import Partition
from penstock.settings import KafkaSettings, QdrantSettings
from tests.conftest import wait_until
from tests.integration.test_cli import SHIPPED, ended, kafka_variables, one_line
from tests.integration.test_joined import DOCUMENTS, Site, restore, site
from tests.kafka_tools import committed, document, new_topic, produce, source
from tests.workers import environment, penstock, worker

__all__ = ["site"]  # the fixture

Json = dict[str, Any]

KILLED = """
import os, signal, sys
from penstock.stream import joined
joined.begin_again = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
from penstock.commands.main import main
main()
"""
"""The command, which dies when the group is set and the collection is not."""


class Place:
    """A topic with a group, and a store."""

    def __init__(self, kafka: KafkaSettings, folder: Path, store: Mapping[str, object]) -> None:
        self.kafka, self.folder = kafka, folder
        self.variables = {**kafka_variables(kafka, SHIPPED), "KAFKA__SESSION_TIMEOUT_S": 6, **store}

    def send(self, first: int, last: int, age_s: float = 0.0) -> None:
        """Documents of these numbers, produced so long ago."""
        with closing(connect_producer(self.kafka)) as producer:
            for n in range(first, last):
                key, value = document(f"d{n}", f"text {n}")
                at_ms = int((time.time() - age_s) * 1000)
                producer.send(self.kafka.topic, key=key.encode(), value=value, partition=0, timestamp_ms=at_ms)
            producer.flush()

    def index(self, *arguments: str, **more: object) -> "subprocess.CompletedProcess[bytes]":
        return penstock(self.folder, "index", "--once", *arguments, variables={**self.variables, **more})

    def read(self, **more: object) -> int:
        """How many records a worker reads until the topic's end."""
        return sum(ended(self.index(**more)).values())

    def offsets(self, *arguments: str, **more: object) -> "subprocess.CompletedProcess[bytes]":
        return penstock(self.folder, "offsets", *arguments, variables={**self.variables, **more})

    def reset(self, *arguments: str, **more: object) -> Json:
        """In this process, which is quicker."""
        done = CliRunner().invoke(offsets, ["reset", "--json", *arguments], env=self.env(**more))
        assert done.exit_code == 0, done.exception
        return dict(json.loads(done.stdout))

    def env(self, **more: object) -> dict[str, str]:
        return environment(self.folder, **{**self.variables, **more})

    def refused(self, *arguments: str, **more: object) -> str:
        before = committed(self.kafka)
        done = CliRunner().invoke(offsets, ["reset", *arguments], env=self.env(**more))
        assert isinstance(done.exception, Misconfigured), done.exception
        assert committed(self.kafka) == before
        return str(done.exception)


@pytest.fixture(params=["folder", "server"])
def place(broker: str, request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    store: dict[str, object] = {}
    if request.param == "server":
        known: QdrantSettings = request.getfixturevalue("qdrant_process")
        store = {"QDRANT__PATH": "", "QDRANT__URL": known.url, "QDRANT__GRPC_PORT": known.grpc_port}
    kafka = new_topic(broker)
    return Place(kafka, tmp_path, {**store, "QDRANT__COLLECTION": kafka.topic})


def marks(kafka: KafkaSettings) -> dict[int, str]:
    with closing(KafkaAdminClient(**client_options(kafka))) as admin:
        found = admin.list_group_offsets(kafka.group)[kafka.group]
    return {owned.partition: at.metadata for owned, at in found.items()}


def commit(kafka: KafkaSettings, offset: int, mark: str = "", partition: int = 0) -> None:
    at = {TopicPartition(kafka.topic, partition): OffsetAndMetadata(offset, mark, -1)}
    with closing(KafkaAdminClient(**client_options(kafka))) as admin:
        admin.alter_group_offsets(kafka.group, at)


def test_a_worker_that_runs_is_shown_and_its_group_stays_where_it_is(place: Place) -> None:
    place.send(0, 40)
    with worker("index", env=place.env(), cwd=place.folder) as running:
        running.until("started")
        wait_until(lambda: committed(place.kafka) == {0: 40})
        shown = json.loads(place.offsets("show", "--json").stdout)
        assert (shown["group"], shown["state"], shown["lag"]) == (place.kafka.group, "Stable", 0)
        here = {"topic": place.kafka.topic, "partition": 0}
        assert shown["partitions"] == [here | {"begin": 0, "committed": 40, "end": 40, "lag": 0, "missed": 0}]
        (member,) = shown["members"]
        assert (member["client"], member["partitions"]) == ("penstock", [here])
        assert (shown["pace"], shown["why_no_pace"]) == (None, "nothing is behind")
        said = place.offsets("show").stdout.decode()
        assert "Stable, 1 members" in said
        assert "penstock /127.0.0.1" in said
        refusal = place.refused("--to", "beginning")
        assert "has 1 members (Stable): stop them first" in refusal
        assert "PENSTOCK_KAFKA__SESSION_TIMEOUT_S (6 s)" in refusal
        assert running.stop() == 0


def test_a_group_is_set_to_where_it_is_to_go_on_and_a_worker_reads_from_there(place: Place) -> None:
    place.send(0, 30, age_s=3 * 3600)
    place.send(30, 40)
    assert place.read() == 40
    plan = place.reset("--to", "beginning", "--dry-run", "--rate", "8")
    (move,) = plan["partitions"]
    assert (move["from"], move["to"], move["again"], move["skipped"], move["to_read"]) == (40, 0, 40, 0, 40)
    assert (plan["seconds"], plan["against"], plan["dry_run"]) == (5.0, [], True)
    assert committed(place.kafka) == {0: 40}
    done = place.offsets("reset", "--to", "beginning")
    assert (done.returncode, committed(place.kafka)) == (0, {0: 0}), done.stderr
    assert place.read() == 40
    for to, left in (("35", 5), ("4h", 40), ("end", 0), ("2h", 10)):
        assert place.reset("--to", to)["to_read"] == left
        assert committed(place.kafka) == {0: 40 - left}
    assert place.read() == 10
    said = place.offsets("reset", "--to", "35", "--dry-run").stdout.decode()
    assert "35, instead of 40: 5 read again" in said
    assert "give --rate" in said


def test_what_was_never_indexed_is_skipped_only_on_demand_and_the_collection_knows_it(place: Place) -> None:
    place.send(0, 10)
    assert place.read() == 10
    place.send(10, 30)
    assert "20 records that the collection does not hold would be skipped" in place.refused("--to", "end")
    assert "5 records" in place.refused("--to", "15")
    dry = place.reset("--to", "end", "--dry-run")
    assert (dry["skipped"], len(dry["against"])) == (20, 1)
    assert place.reset("--to", "end", "--skip")["skipped"] == 20
    assert committed(place.kafka) == {0: 30}
    place.send(30, 35)
    assert place.read() == 5, "a worker goes on there, though the collection never held what was skipped"
    assert place.reset("--to", "12")["skipped"] == 0
    assert place.read() == 23


def test_one_that_is_killed_between_group_and_collection_harms_nothing_and_is_run_again(place: Place) -> None:
    place.send(0, 10)
    assert place.read() == 10
    place.send(10, 30)
    arguments = ("offsets", "reset", "--to", "25", "--skip")
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], env=place.env(), cwd=place.folder, check=False)
    assert killed.returncode == -9
    assert committed(place.kafka) == {0: 25}
    assert "up to offset 10" in one_line(place.index(), 2)
    assert place.reset(*arguments[2:])["skipped"] == 15
    assert place.read() == 5


@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_what_is_remembered_of_records_that_killed_workers_is_forgotten(place: Place) -> None:
    place.send(0, 10)
    assert place.read() == 10
    alone = "penstock attempts=2 alone_until=5000"
    commit(place.kafka, 10, alone)
    assert "2 workers began here and came no further; records go one by one" in place.offsets("show").stdout.decode()
    place.reset("--to", "4", "--dry-run")
    assert marks(place.kafka) == {0: alone}
    place.reset("--to", "4")
    assert (committed(place.kafka), marks(place.kafka)) == ({0: 4}, {0: ""})
    commit(place.kafka, 10, alone)
    assert sum(ended_after_start(place.index("--from-beginning")).values()) == 10
    assert marks(place.kafka) == {0: ""}


def ended_after_start(done: "subprocess.CompletedProcess[bytes]") -> dict[str, int]:
    assert b'"from_beginning"' in done.stderr
    return ended(done)


@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_a_raised_epoch_begins_in_the_whole_topic(place: Place) -> None:
    place.send(0, 10)
    assert place.read() == 10
    assert "of which" not in place.refused("--to", "5", "--skip", "--partition", "1")
    assert place.reset("--to", "beginning", INDEX__EPOCH=2)["skipped"] == 0
    assert place.read(INDEX__EPOCH=2) == 10
    assert "raise PENSTOCK_INDEX__EPOCH to 2" in place.refused("--to", "beginning")


def test_a_collection_that_was_set_back_is_filled_from_where_it_is(site: Site) -> None:
    """Less is read again than by --from-beginning."""
    site.send("old")
    assert site.once()[0] == 0
    restore(site)
    variables = {**site.variables(), "QDRANT__PATH": ""}
    half = str(DOCUMENTS // 2)
    done = penstock(site.folder, "offsets", "reset", "--to", str(DOCUMENTS), variables=variables)
    assert f"{half} records that the collection does not hold" in one_line(done, 2)
    done = penstock(site.folder, "offsets", "reset", "--to", half, variables=variables)
    assert done.returncode == 0, done.stderr
    code, log, said = site.once()
    assert code == 0, said
    assert log[-1]["unchanged"] == DOCUMENTS // 2


def test_what_does_not_fit_is_told_in_one_line(broker: str, tmp_path: Path) -> None:
    kafka = new_topic(broker, 2)
    produce(kafka, [document(f"d{n}") for n in range(20)])
    here = Place(kafka, tmp_path, {})
    for arguments, said in (
        (("--to", "21"), "has the offsets 0 to"),
        (("--to", "yesterday"), "an age like 30m, 2h or 3d"),
        (("--to", "end", "--partition", "2"), "has the partitions 0 to 1"),
        (("--to", "end", "--topic", "wiki"), f"the group follows {kafka.topic}"),
        (("--to", "beginning"), "there is no collection 'documents': penstock setup makes it"),
        (("--to", "beginning", "--queries"), "set PENSTOCK_QUERY__TOPIC"),
    ):
        assert said in here.refused(*arguments)
    missing = one_line(here.offsets("show", KAFKA__TOPIC="nothing-here"), 2)
    assert "topic 'nothing-here' is gone; correct PENSTOCK_KAFKA__TOPIC" in missing
    nobody = one_line(here.offsets("show", KAFKA__TOPIC="^nothing-.*", INDEX__ORDER="event"), 2)
    assert "there is no topic that fits PENSTOCK_KAFKA__TOPIC=^nothing-.*" in nobody


def test_the_query_workers_group_has_no_collection(broker: str, tmp_path: Path) -> None:
    queries = new_topic(broker, 2)
    produce(queries, [(f"q{n}", b"{}") for n in range(20)])
    of_queries = {"QUERY__TOPIC": queries.topic, "QUERY__GROUP": queries.group, "QDRANT__PATH": "",
                  "QDRANT__URL": "http://127.0.0.1:1", "KAFKA__BOOTSTRAP_SERVERS": broker}  # fmt: skip
    here = Place(queries, tmp_path, {**of_queries, "KAFKA__TOPIC": "nothing-here"})
    with closing(GroupOffsets(queries)) as known:
        first, second = (at.end for _, at in sorted(known.look().partitions.items()))
    commit(queries, 1)
    shown = json.loads(here.offsets("show", "--queries", "--json").stdout)
    assert ([at["committed"] for at in shown["partitions"]], shown["lag"]) == ([1, None], 19)
    assert shown["why_no_pace"] == "nobody reads"
    assert "19 records that were never answered" in here.refused("--queries", "--to", "end")
    only = here.reset("--queries", "--to", "end", "--partition", "1", "--skip")
    assert (committed(queries), only["skipped"]) == ({0: 1, 1: second}, second)
    assert here.reset("--queries", "--to", "beginning")["to_read"] == first + second
    assert committed(queries) == {0: 0, 1: 0}


def test_a_pace_is_measured_while_a_group_reads(broker: str, tmp_path: Path) -> None:
    kafka = new_topic(broker)
    produce(kafka, [document(f"d{n}") for n in range(20000)])
    member = source(kafka.model_copy(update={"max_poll_records": 10}), once=False)
    env = environment(tmp_path, **kafka_variables(kafka, SHIPPED))
    command = [sys.executable, "-m", "penstock", "offsets", "show", "--over-s", "1", "--json"]
    try:
        wait_until(lambda: (batch := member.poll(0.2)) is not None and not member.commit(batch.positions))
        with subprocess.Popen(
            command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as asked:
            while asked.poll() is None:
                if (batch := member.poll(0.05)) is not None:
                    member.commit(batch.positions)
                time.sleep(0.05)  # so that it is not done before it is watched
            assert asked.stdout is not None
            shown = json.loads(asked.stdout.read())
    finally:
        member.close(5)
    assert shown["lag"] > 0
    assert shown["pace"]["over_s"] >= 1
    assert shown["pace"]["read_per_s"] > 0
    assert shown["pace"]["seconds_left"] == pytest.approx(shown["lag"] / shown["pace"]["read_per_s"])


def test_a_member_that_joins_between_look_and_write_is_found_by_the_broker(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = new_topic(broker)
    produce(kafka, [document("one")])
    with closing(GroupOffsets(kafka)) as group:
        group.set({Partition(kafka.topic, 0): 1})
        looked = group._require_rest
        member = source(kafka, once=False)
        try:
            wait_until(lambda: (member.poll(0.1), bool(group.look().readers))[1])
            monkeypatch.setattr(group, "_require_rest", lambda: monkeypatch.setattr(group, "_require_rest", looked))
            with pytest.raises(Misconfigured, match="has 1 members"):
                group.set({Partition(kafka.topic, 0): 0})
            monkeypatch.setattr(group, "_require_rest", lambda: None)
            with pytest.raises(Unavailable, match="UnknownMemberIdError"):
                group.set({Partition(kafka.topic, 0): 0})
        finally:
            member.close(5)
    assert committed(kafka)[0] == 1
