"""Record batches that cannot be decoded, fed to the library's own fetcher as a broker would send them."""

import struct
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from kafka.consumer.fetcher import CompletedFetch, Fetcher
from kafka.consumer.subscription_state import SubscriptionState
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.record.util import calc_crc32c
from kafka.structs import TopicPartition

from penstock.adapters.kafka.damaged import tolerate
from penstock.adapters.kafka.source import _record
from penstock.core.errors import InvalidEvent
from penstock.events.document import Rules, decode

TOPIC = TopicPartition("documents", 0)


def batch(base: int, count: int, *, damage: str = "") -> bytes:
    """A batch of records that begins at an offset; damaged in its checksum, its codec or a header's name."""
    builder = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=1 << 20)
    for n in range(count):
        name = "ZZZZ" if damage == "header" and n == 2 else "name"
        builder.append(timestamp=1000, key=b"k", value=f"value {base + n}".encode(), headers=[(name, b"v")])
    builder.close()
    data = bytearray(builder.buffer())
    struct.pack_into(">q", data, 0, base)
    if damage == "header":
        at = data.index(b"ZZZZ")
        data[at : at + 4] = b"\xff\xfe\xfd\xfc"
    if damage == "codec":
        data[DefaultRecordBatch.ATTRIBUTES_OFFSET + 1] |= 7
    checked = memoryview(data)[DefaultRecordBatch.ATTRIBUTES_OFFSET :]
    checksum = calc_crc32c(checked) ^ (damage == "checksum")
    struct.pack_into(">I", data, DefaultRecordBatch.CRC_OFFSET, checksum)
    return bytes(data)


def fetcher(data: bytes, start: int = 0) -> Fetcher:
    subscriptions = SubscriptionState("earliest")
    subscriptions.assign_from_user([TOPIC])
    subscriptions.seek(TOPIC, start)
    made = Fetcher(mock.MagicMock(), subscriptions, metrics=None)
    tolerate(SimpleNamespace(_fetcher=made))
    answer: dict[str, Any] = {"error_code": 0, "high_watermark": 99, "records": data, "aborted_transactions": None}
    answer |= {"diverging_epoch": None, "preferred_read_replica": -1}
    made._completed_fetches.append(CompletedFetch(TOPIC, start, 11, SimpleNamespace(**answer), None))
    return made


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("damage", "lost", "said"),
    [("checksum", [3, 4, 5, 6], "crc"), ("codec", [3, 4, 5, 6], ""), ("header", [5, 6], "UnicodeDecodeError")],
)
def test_a_damaged_batch_is_one_dead_letter_and_reading_goes_on(damage: str, lost: list[int], said: str) -> None:
    reading = fetcher(batch(0, 3) + batch(3, 4, damage=damage) + batch(7, 2))
    records = []
    for _ in range(4):
        polled, _ = reading.fetched_records(500)
        records += [_record(raw) for found in polled.values() for raw in found]
    whole = [record.offset for record in records if not record.damage]
    assert whole == [n for n in range(9) if n not in lost]
    (damaged,) = [record for record in records if record.damage]
    assert damaged.offset == lost[0]
    assert damaged.value
    with pytest.raises(InvalidEvent, match=f"offsets {lost[0]} to 6 cannot be decoded.*{said}"):
        decode(damaged, Rules())
    assert reading._subscriptions.position(TOPIC).offset == 9


def test_reading_from_within_a_batch_starts_there() -> None:
    reading = fetcher(batch(0, 6) + batch(6, 2), start=4)
    polled, _ = reading.fetched_records(500)
    assert [raw.offset for raw in polled[TOPIC]] == [4, 5, 6, 7]
