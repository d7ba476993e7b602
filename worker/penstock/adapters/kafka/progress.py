"""How far the index workers are: what their consumer group has committed is searchable."""

from collections.abc import Sequence
from functools import partial

from kafka import KafkaAdminClient
from typing_extensions import override

from penstock.adapters.kafka.connection import AdminConnection
from penstock.adapters.kafka.topics import is_missing
from penstock.core.errors import InvalidEvent, Misconfigured
from penstock.core.ports import Progress
from penstock.core.records import Place
from penstock.settings import KafkaSettings


class KafkaProgress(Progress):
    """``ports.Progress`` by the committed offsets of the index workers' group. Connects at the first question."""

    def __init__(self, settings: KafkaSettings) -> None:
        """``settings`` are those of the index workers."""
        self._settings, self._admin = settings, AdminConnection(settings)
        self._partitions = 0

    @override
    def searchable(self, places: Sequence[Place]) -> list[bool]:
        for place in places:
            if not self._settings.follows(place.topic):
                raise InvalidEvent(f"after: the index follows topic {self._settings.topic!r}, not {place.topic!r}")
        offsets = self._admin.ask(lambda admin: admin.list_group_offsets(self._settings.group))[self._settings.group]
        done = {(owned.topic, owned.partition): stored.offset for owned, stored in offsets.items()}
        for place in places:
            if (place.topic, place.partition) not in done and place.partition >= self._count(place.topic):
                raise InvalidEvent(
                    f"after: topic {place.topic!r} has {self._partitions} partitions, no number {place.partition}"
                )
        return [done.get((place.topic, place.partition), 0) > place.offset for place in places]

    def close(self) -> None:
        """Release the connection."""
        self._admin.close()

    def _count(self, topic: str) -> int:
        """The topic's partitions, looked up again where the number is beyond those known."""
        self._partitions = self._admin.ask(partial(self._described, topic))
        return self._partitions

    def _described(self, topic: str, admin: KafkaAdminClient) -> int:
        (described,) = admin.describe_topics([topic])
        if is_missing(described):
            raise Misconfigured(f"after: topic {topic!r} does not exist; correct PENSTOCK_KAFKA__TOPIC")
        return len(described["partitions"])
