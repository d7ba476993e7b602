"""Dead letters that are sent back to the topic they came from: their order is that of their first delivery.

Else an old event that was mended would beat what has come since. Whoever writes to the topic can write these headers,
too, so they can only lower the order of a record, never raise it.
"""

from penstock.core.documents import EPOCH_SHIFT
from penstock.core.errors import InvalidEvent
from penstock.core.records import Record

SEQUENCE, TOPIC = "penstock.sequence", "__connect.errors.topic"
DROPPED = ("penstock.value.dropped", "penstock.key.dropped")
DIGITS = 16


def first_sequence(record: Record, own: int) -> int:
    """The sequence of the first delivery, where the record is a letter of its own topic and epoch; else its own."""
    if not record.headers:
        return own
    topics = {value for name, value in record.headers if name == TOPIC}
    if record.partition.topic.encode() not in topics:
        return own
    told = [value for name, value in record.headers if name == SEQUENCE and value and value.isdigit()]
    sequences = [int(value) for value in told if len(value) <= DIGITS]
    return min([own, *(sequence for sequence in sequences if sequence >> EPOCH_SHIFT == own >> EPOCH_SHIFT)])


def refuse_shortened(record: Record) -> None:
    """A letter that went without its value must not delete the document that its key names: raises InvalidEvent."""
    if not record.headers:
        return
    names = {name for name, _ in record.headers}
    if missing := [name for name in DROPPED if name in names]:
        raise InvalidEvent(
            f"header {missing[0]}: a dead letter that was too large for its topic and went without that; send the "
            "document itself again"
        )
