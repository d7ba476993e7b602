"""Dead letters that are sent back: they keep the order of their first delivery, and nobody gains by that."""

import json

import pytest

from penstock.adapters.kafka.dead_letters import bare, error_headers, whole, without_value
from penstock.core.documents import Order, epoch_base
from penstock.core.errors import InvalidEvent
from penstock.core.records import Headers, Letter, Partition, Record
from penstock.events.document import decode
from penstock.events.rules import DocumentRules

BASE = epoch_base(2)
RULES = DocumentRules(sequence_base=BASE)
VALUE = json.dumps({"id": "a", "text": "words"}).encode()


def record(offset: int, value: bytes | None = VALUE, headers: Headers = (), topic: str = "documents") -> Record:
    return Record(Partition(topic, 0), offset, b"a", value, headers)


def sent_back(letter: Record, offset: int, base: int = BASE) -> Record:
    """What whoever copies the letter from its topic to ours makes of it."""
    key, value, headers = whole(
        Letter(letter, InvalidEvent("no"), "write"), error_headers(Letter(letter, InvalidEvent("no"), "write"), base)
    )
    return Record(Partition("documents", 0), offset, key, value, tuple(headers))


@pytest.mark.parametrize("value", [VALUE, None], ids=["upsert", "tombstone"])
def test_a_letter_that_is_sent_back_has_the_order_of_its_first_delivery(value: bytes | None) -> None:
    assert decode(sent_back(record(5, value), 900), RULES).order == Order(BASE + 5, BASE + 5)
    twice = sent_back(sent_back(record(5, value), 900), 1900)
    assert decode(twice, RULES).order.sequence == BASE + 5
    by_version = DocumentRules(order="event", sequence_base=BASE)
    versioned = json.dumps({"id": "a", "text": "words", "version": 7}).encode()
    assert decode(sent_back(record(5, versioned), 900), by_version).order == Order(7, BASE + 5)


@pytest.mark.parametrize(
    "headers",
    [
        (("penstock.sequence", str(BASE + 5).encode()),),
        (("penstock.sequence", str(BASE + 5).encode()), ("__connect.errors.topic", b"other")),
        (("penstock.sequence", str(BASE + 901).encode()), ("__connect.errors.topic", b"documents")),
        (("penstock.sequence", str(epoch_base(1) + 5).encode()), ("__connect.errors.topic", b"documents")),
        (("penstock.sequence", b"-5"), ("__connect.errors.topic", b"documents")),
        (("penstock.sequence", b"9" * 5000), ("__connect.errors.topic", b"documents")),
        (("penstock.sequence", None), ("__connect.errors.topic", None)),
        (("penstock.sequence", "\u0665".encode()), ("__connect.errors.topic", b"documents")),
    ],
)
def test_headers_of_another_topic_or_epoch_or_above_the_records_own_order_say_nothing(headers: Headers) -> None:
    assert decode(record(900, headers=headers), RULES).order.sequence == BASE + 900


@pytest.mark.parametrize("form", [without_value, bare])
def test_a_letter_that_went_without_its_value_deletes_nothing_when_it_is_sent_back(form: object) -> None:
    letter = Letter(record(5), InvalidEvent("no"), "write")
    _, value, headers = form(letter, error_headers(letter, BASE))  # type: ignore[operator]
    with pytest.raises(InvalidEvent, match="dropped"):
        decode(Record(Partition("documents", 0), 900, b"a", value, tuple(headers)), RULES)


def test_what_every_chunk_repeats_is_bounded() -> None:
    """One event of a megabyte of text and three of metadata was a request of 700."""
    large = json.dumps({"id": "a", "text": "words", "metadata": {"m": "x" * 70_000}}).encode()
    with pytest.raises(InvalidEvent, match=r"metadata has 70\d\d\d bytes, .* index.max_metadata_bytes is 65536"):
        decode(record(1, large), RULES)
    assert decode(record(1, large), DocumentRules(max_metadata_bytes=80_000)).metadata
    long = json.dumps({"id": "a", "text": "x" * 100_000, "metadata": {"m": 1}}).encode()
    assert decode(record(1, long), RULES).metadata == {"m": 1}
    with pytest.raises(InvalidEvent, match="title has 2001 characters"):
        decode(record(1, json.dumps({"id": "a", "text": "x", "title": "t" * 2001}).encode()), RULES)
