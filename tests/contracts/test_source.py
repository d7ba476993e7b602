"""One suite for every source: the fake, a file, and a topic of a real Kafka."""

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from penstock.adapters.files import FileSource
from penstock.core.ports import Source
from penstock.core.records import Batch, Partition, Position, Record
from penstock.fakes import MemorySource
from tests.kafka_tools import new_topic, produce, source

COUNT = 25
SECONDS = 20.0


@dataclass
class Feed:
    """A source of 25 records of one partition, and how to come back to it after a restart."""

    source: Source
    reopen: Callable[[], Source] | None


@pytest.fixture(params=["memory", "file", pytest.param("kafka", marks=pytest.mark.broker)])
def feed(request: pytest.FixtureRequest) -> Iterator[Feed]:
    values = [f"value {n}".encode() for n in range(COUNT)]
    if request.param == "memory":
        memory = MemorySource(most=10)
        for value in values:
            memory.append(b"key", value)

        def reopen() -> MemorySource:
            (partition,) = memory.committed or {Partition("documents", 0): 0}
            memory.assign(partition)
            return memory

        yield Feed(memory, reopen)
    elif request.param == "file":
        yield Feed(FileSource(io.BytesIO(b"\n".join(values) + b"\n"), "events.jsonl"), None)
    else:
        settings = new_topic(request.getfixturevalue("broker"), max_poll_records=10)
        produce(settings, [("key", value) for value in values])
        opened = [source(settings)]

        def again() -> Source:
            opened[-1].close(5)
            opened.append(source(settings))
            return opened[-1]

        yield Feed(opened[0], again)
        for one in opened:
            one.close(5)


def read(source: Source, count: int) -> list[Batch]:
    """Polls until so many records have come."""
    batches: list[Batch] = []
    deadline = time.monotonic() + SECONDS
    while sum(len(batch.records) for batch in batches) < count:
        assert time.monotonic() < deadline, "the records do not come"
        if batch := source.poll(0.2):
            batches.append(batch)
    return batches


def records(batches: list[Batch]) -> list[Record]:
    return [record for batch in batches for record in batch.records]


def settle(source: Source, remaining: int) -> None:
    """Polls until the source has taken notice of the commits."""
    deadline = time.monotonic() + SECONDS
    while source.remaining() != remaining:
        assert time.monotonic() < deadline, f"{source.remaining()} remain, not {remaining}"
        source.poll(0.05, hold=True)


def test_records_come_once_and_in_order_with_the_position_that_follows(feed: Feed) -> None:
    batches = read(feed.source, COUNT)
    assert [record.value for record in records(batches)] == [f"value {n}".encode() for n in range(COUNT)]
    assert [record.offset for record in records(batches)] == list(range(COUNT))
    done = 0
    for batch in (batch for batch in batches if batch.records):
        done += len(batch.records)
        ((partition, position),) = batch.positions.items()
        assert (partition, position.offset) == (batch.records[0].partition, done)


def test_a_held_poll_returns_nothing_and_loses_nothing(feed: Feed) -> None:
    first = read(feed.source, 1)
    for _ in range(5):
        assert feed.source.poll(0.1, hold=True) is None
    rest = read(feed.source, COUNT - len(records(first)))
    assert [record.offset for record in records(first + rest)] == list(range(COUNT))


def test_nothing_remains_when_all_is_committed(feed: Feed) -> None:
    batches = read(feed.source, COUNT)
    for batch in batches:
        feed.source.commit(batch.positions)
    while feed.source.remaining() is None:  # a file knows its end only by reading it
        if last := feed.source.poll(0.1):
            feed.source.commit(last.positions)
    settle(feed.source, 0)


def test_what_was_not_committed_comes_again(feed: Feed) -> None:
    if feed.reopen is None:
        pytest.skip("a file is read from its beginning")
    first = read(feed.source, COUNT)[0]
    assert 0 < len(first.records) < COUNT
    feed.source.commit(first.positions)
    settle(feed.source, COUNT - len(first.records))
    again = read(feed.reopen(), COUNT - len(first.records))
    assert [record.offset for record in records(again)] == list(range(len(first.records), COUNT))


def test_a_position_of_another_generation_is_not_committed(feed: Feed) -> None:
    if feed.reopen is None:
        pytest.skip("a file has no group")
    batches = read(feed.source, COUNT)
    ((partition, position),) = batches[-1].positions.items()
    feed.source.commit({partition: Position(position.offset, position.generation + 1)})
    feed.source.poll(0.0, hold=True)
    feed.source.commit(batches[0].positions)
    settle(feed.source, COUNT - len(batches[0].records))


def test_closing_twice_is_closing_once(feed: Feed) -> None:
    feed.source.close(5)
    feed.source.close(5)
