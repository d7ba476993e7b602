"""``penstock letters show``, put together: a letter, and what an index worker of these settings would make of it."""

from dataclasses import replace

from penstock.adapters.kafka.letters import existing, record_at
from penstock.assembly.index import open_registry, rules_for
from penstock.assembly.letters import letter_topics
from penstock.core.documents import EPOCH_SHIFT
from penstock.core.errors import Misconfigured
from penstock.core.letters import DeadLetter, read_letter
from penstock.core.records import Record
from penstock.operate.one_letter import Outlook, outlook
from penstock.settings import Settings


def look(
    settings: Settings, topic: str | None, partition: int | None, offset: int
) -> tuple[Record, DeadLetter, Outlook]:
    """One letter; with no ``partition`` of the only one. Raises Misconfigured where there is none."""
    topics = letter_topics(settings, topic)
    if not topics:
        raise Misconfigured("there are no dead letters, and no topic for them yet")
    if len(topics) > 1:
        raise Misconfigured(f"dead letters lie in {', '.join(topics)}: --topic says of which topic")
    if partition is None:
        partitions = existing(settings.kafka, topics)[topics[0]].partitions
        if partitions > 1:
            raise Misconfigured(f"topic {topics[0]!r} has {partitions} partitions: say PARTITION:OFFSET")
        partition = 0
    record = record_at(settings.kafka, topics[0], partition, offset)
    letter = read_letter(record)
    if topic is not None and topic == settings.query.topic:
        return record, replace(letter, first=None), Outlook()
    index = settings.index
    rules = rules_for(index, index.epoch << EPOCH_SHIFT, keyed=True, several=len(settings.kafka.topics) != 1)
    return record, letter, outlook(record, letter, rules.asking(open_registry(settings.registry)))
