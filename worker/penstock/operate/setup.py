"""``penstock setup``: topics and collection, made or verified before a worker starts, any number of times."""

from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

from penstock.adapters.kafka.topics import BY_BROKER, TopicSpec, check_topics, ensure
from penstock.adapters.qdrant.collection import exists, open_collection
from penstock.adapters.qdrant.connection import Connection
from penstock.adapters.qdrant.ledger import QdrantLedger
from penstock.core.errors import Misconfigured, Unavailable
from penstock.core.identity import Origin
from penstock.models.bundle import load
from penstock.settings import (
    IndexSettings,
    KafkaSettings,
    LettersKept,
    ModelSettings,
    QdrantSettings,
    QuerySettings,
    SetupSettings,
)
from penstock.stream.joined import fitting


class SetupStep(NamedTuple):
    """A topic or a collection, and whether it was made now."""

    kind: str
    name: str
    made: bool


def topic_specs(
    kafka: KafkaSettings, query: QuerySettings, setup: SetupSettings, index: IndexSettings
) -> list[TopicSpec]:
    """The topics that workers with these settings read and write, those of the documents first.

    Of documents whose topics a pattern finds none: others make them.
    """
    exact = len(kafka.topics) == 1
    topics = []
    for name in kafka.topics:
        cleanup = setup.cleanup_for(index.needs(name))
        kept: dict[str, str] = {"cleanup.policy": cleanup}
        if "compact" in cleanup:  # a tombstone must outlive the longest outage of a worker
            kept["delete.retention.ms"] = str(7 * 24 * 3600 * 1000)
        partitions = 1 if index.needs(name).split else setup.partitions
        topics.append(TopicSpec(name, partitions, setup.replication_factor, kept, exact=exact))
    letters = dict.fromkeys(kafka.dead_letters_of(name) for name in kafka.topics)
    kept_letters = LettersKept(setup.letters_s).config
    topics += [TopicSpec(name, 1, setup.replication_factor, kept_letters) for name in letters]
    if query.topic:
        topics.append(TopicSpec(query.topic, setup.partitions, setup.replication_factor, {}))
        topics += [TopicSpec(name, 1, setup.replication_factor, {}) for name in query.replies]
        topics.append(TopicSpec(query.dead_letters, 1, setup.replication_factor, kept_letters))
    return topics


def ensure_topics(kafka: KafkaSettings, topics: Sequence[TopicSpec]) -> list[SetupStep]:
    """Make or verify them; raises Misconfigured or Unavailable."""
    return [SetupStep("topic", topic.name, made) for topic, made in ensure(kafka, topics)]


def ensure_collection(
    kafka: KafkaSettings,
    qdrant: QdrantSettings,
    model: ModelSettings,
    index: IndexSettings,
    kept: LettersKept = BY_BROKER,
    *,
    fresh: bool,
) -> SetupStep:
    """Make or verify the collection of the model that is set; raises Misconfigured or Unavailable.

    Not every broker may have heard yet of a topic that is ``fresh``. ``kept`` says how long dead letters stay.
    """
    try:
        topic = check_topics(kafka, needs=index.needs, kept=kept)
    except Misconfigured as error:
        raise (Unavailable(str(error)) if fresh else error) from None
    bundle = load(model.bundle)
    bundle.expect("embedding")
    identity = bundle.identity(bundle.dimension(model.dimension))
    origin = Origin.of(kafka.topic, topic, index.epoch, index.order)
    with closing(Connection(qdrant)) as connection:
        before = exists(connection, qdrant.collection)
        collection = open_collection(connection, qdrant.collection, identity, model.full_dimension or 0, kafka.group)
        fitting(QdrantLedger(connection, qdrant.collection, collection), origin)
    return SetupStep("collection", collection.name, not before)
