"""``penstock setup``: topics and collection, made or verified before a worker starts, any number of times."""

from typing import NamedTuple

from penstock.adapters.kafka.topics import Wanted, check_topic, ensure
from penstock.adapters.qdrant.collection import exists, open_collection
from penstock.adapters.qdrant.connection import Connection
from penstock.core.errors import Misconfigured, Unavailable
from penstock.core.identity import Origin
from penstock.models.bundle import load
from penstock.settings import Settings
from penstock.stream.patience import Patience


class Done(NamedTuple):
    """A topic or a collection, and whether it was made now."""

    kind: str
    name: str
    made: bool


def wanted(settings: Settings) -> list[Wanted]:
    """The topics that workers with these settings read and write."""
    setup, query = settings.setup, settings.query
    kept: dict[str, str] = {"cleanup.policy": setup.cleanup}
    if "compact" in setup.cleanup:  # a tombstone must outlive the longest outage of a worker
        kept["delete.retention.ms"] = str(7 * 24 * 3600 * 1000)
    topics = [
        Wanted(settings.kafka.topic, setup.partitions, setup.replication_factor, kept, exact=True),
        Wanted(settings.kafka.dead_letters, 1, setup.replication_factor, {}),
    ]
    if query.topic:
        topics.append(Wanted(query.topic, setup.partitions, setup.replication_factor, {}))
        topics += [Wanted(name, 1, setup.replication_factor, {}) for name in (*query.replies, query.dead_letters)]
    return topics


def topics(settings: Settings) -> list[Done]:
    """Make or verify them; raises Misconfigured or Unavailable."""
    return [Done("topic", topic.name, made) for topic, made in ensure(settings.kafka, wanted(settings))]


def collection(settings: Settings, *, fresh: bool) -> Done:
    """Make or verify the collection of the model that is set; raises Misconfigured or Unavailable.

    Not every broker may have heard yet of a topic that is ``fresh``.
    """
    try:
        topic = check_topic(settings.kafka)
    except Misconfigured as error:
        raise (Unavailable(str(error)) if fresh else error) from None
    model = settings.model
    bundle = load(model.bundle)
    bundle.expect("embedding")
    identity = bundle.identity(bundle.dimension(model.dimension))
    origin = Origin(settings.kafka.topic, topic.id, topic.partitions, settings.index.epoch)
    connection = Connection(settings.qdrant)
    try:
        before = exists(connection, settings.qdrant.collection)
        found = open_collection(connection, settings.qdrant.collection, identity, origin, model.full_dimension or 0)
        return Done("collection", found.name, not before)
    finally:
        connection.close()


def set_up(settings: Settings, waiting: Patience) -> list[Done]:
    """Everything, waiting for services that are away; raises Misconfigured."""
    made = waiting.call(lambda: topics(settings))
    fresh = made[0].made
    return [*made, waiting.call(lambda: collection(settings, fresh=fresh))]
