"""Where a source stops that is to read only what its topic holds at the start."""

from collections.abc import Callable, Collection, Sequence

from kafka import KafkaConsumer, TopicPartition
from kafka import errors as kafka_errors

from penstock.adapters.kafka import internals
from penstock.adapters.kafka.connection import one_line
from penstock.core.errors import Unavailable
from penstock.settings import KafkaSettings

GROUP_CHECK_S = 0.5
GROUP_TIMEOUT_MS = 1000


class End:
    """The offsets where the topics' partitions end now, and how far the group is from there."""

    def __init__(self, consumer: KafkaConsumer, settings: KafkaSettings, clock: Callable[[], float]) -> None:
        """Raises Unavailable."""
        self._consumer, self._clock = consumer, clock
        self._checked = -GROUP_CHECK_S
        self._done: dict[TopicPartition, int] = {}
        self._ends = _ends(consumer, settings)

    def committed(self, owned: TopicPartition, offset: int) -> None:
        """The group has come so far."""
        self._done[owned] = max(self._done.get(owned, 0), offset)

    def remaining(self, mine: Collection[TopicPartition]) -> int:
        """Offsets still to be committed; of partitions that are not ``mine`` the group is asked."""
        others = [owned for owned in self._not_done() if owned not in mine]
        if others and self._clock() - self._checked >= GROUP_CHECK_S:
            self._checked = self._clock()
            self._learn_committed(others)
        return sum(self._not_done().values())

    def _not_done(self) -> dict[TopicPartition, int]:
        left = {owned: end - self._done.get(owned, 0) for owned, end in self._ends.items()}
        return {owned: count for owned, count in left.items() if count > 0}

    def _learn_committed(self, others: Sequence[TopicPartition]) -> None:
        """Ask what other members have committed; not for long, since polling waits meanwhile."""
        try:
            committed = internals.fetch_committed(self._consumer, others, GROUP_TIMEOUT_MS)
        except kafka_errors.KafkaError:
            return
        for owned, offset in committed.items():
            self.committed(owned, offset)


def _ends(consumer: KafkaConsumer, settings: KafkaSettings) -> dict[TopicPartition, int]:
    try:
        topics = settings.topics or tuple(filter(settings.follows, consumer.topics()))
        numbers = {topic: consumer.partitions_for_topic(topic) or () for topic in topics}
        ends = consumer.end_offsets([TopicPartition(topic, n) for topic, some in numbers.items() for n in some])
    except KeyError as error:  # the library's answer for a partition that has no leader
        raise Unavailable(f"Kafka: {error.args[0]} has no leader") from error
    except kafka_errors.KafkaError as error:
        raise Unavailable(f"Kafka: {one_line(error)}") from error
    return dict(ends)
