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
class Opened:
    """A source of 25 records of one partition, and how to come back to it after a restart."""

    source: Source
    reopen: Callable[[], Source] | None


@pytest.fixture(params=["memory", "file", pytest.param("kafka", marks=pytest.mark.broker)])
def opened(request: pytest.FixtureRequest) -> Iterator[Opened]:
    values = [f"value {n}".encode() for n in range(COUNT)]
    if request.param == "memory":
        memory = MemorySource(most=10)
        for value in values:
            memory.append(b"key", value)

        def reopen() -> MemorySource:
            (partition,) = memory.committed or {Partition("documents", 0): 0}
            memory.assign(partition)
            return memory

        yield Opened(memory, reopen)
    elif request.param == "file":
        yield Opened(FileSource(io.BytesIO(b"\n".join(values) + b"\n"), "events.jsonl"), None)
    else:
        settings = new_topic(request.getfixturevalue("broker"), max_poll_records=10)
        produce(settings, [("key", value) for value in values])
        opened = [source(settings)]

        def again() -> Source:
            opened[-1].close(5)
            opened.append(source(settings))
            return opened[-1]

        yield Opened(opened[0], again)
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


def test_records_come_once_and_in_order_with_the_position_that_follows(opened: Opened) -> None:
    batches = read(opened.source, COUNT)
    assert [record.value for record in records(batches)] == [f"value {n}".encode() for n in range(COUNT)]
    assert [record.offset for record in records(batches)] == list(range(COUNT))
    done = 0
    for batch in (batch for batch in batches if batch.records):
        done += len(batch.records)
        ((partition, position),) = batch.positions.items()
        assert (partition, position.offset) == (batch.records[0].partition, done)


def test_a_held_poll_returns_nothing_and_loses_nothing(opened: Opened) -> None:
    first = read(opened.source, 1)
    for _ in range(5):
        assert opened.source.poll(0.1, hold=True) is None
    rest = read(opened.source, COUNT - len(records(first)))
    assert [record.offset for record in records(first + rest)] == list(range(COUNT))


def test_nothing_remains_when_all_is_committed(opened: Opened) -> None:
    batches = read(opened.source, COUNT)
    for batch in batches:
        opened.source.commit(batch.positions)
    while opened.source.remaining() is None:  # a file knows its end only by reading it
        if last := opened.source.poll(0.1):
            opened.source.commit(last.positions)
    settle(opened.source, 0)


def test_what_was_not_committed_comes_again(opened: Opened) -> None:
    if opened.reopen is None:
        pytest.skip("a file is read from its beginning")
    first = read(opened.source, COUNT)[0]
    assert 0 < len(first.records) < COUNT
    opened.source.commit(first.positions)
    settle(opened.source, COUNT - len(first.records))
    again = read(opened.reopen(), COUNT - len(first.records))
    assert [record.offset for record in records(again)] == list(range(len(first.records), COUNT))


def test_a_position_of_another_generation_is_not_committed(opened: Opened) -> None:
    if opened.reopen is None:
        pytest.skip("a file has no group")
    batches = read(opened.source, COUNT)
    ((partition, position),) = batches[-1].positions.items()
    opened.source.commit({partition: Position(position.offset, position.generation + 1)})
    opened.source.poll(0.0, hold=True)
    opened.source.commit(batches[0].positions)
    settle(opened.source, COUNT - len(batches[0].records))


def test_a_file_that_has_ended_is_not_asked_over_and_over() -> None:
    """Whoever polls it would otherwise spin, and keep the stages from their work."""
    source = FileSource(io.BytesIO(b"line\n"), "events.jsonl")
    read(source, 1)
    while source.remaining() is None:
        source.poll(0.1)
    started = time.monotonic()
    assert source.poll(0.2) is None
    assert time.monotonic() - started >= 0.2
    assert source.poll(10.0, hold=True) is None
    assert time.monotonic() - started < 5.0


def test_closing_twice_is_closing_once(opened: Opened) -> None:
    opened.source.close(5)
    opened.source.close(5)
