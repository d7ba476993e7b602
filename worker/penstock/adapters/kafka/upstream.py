"""The stream as it is now: asked of the brokers by a connection of its own, beside the consumer's."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka import errors as kafka_errors
from kafka.admin import OffsetSpec
from typing_extensions import override

from penstock.adapters.kafka.connection import AdminConnection, translate_errors
from penstock.adapters.kafka.topics import followed, identity_of, is_missing, look_at
from penstock.core.attempts import read_mark
from penstock.core.errors import Misconfigured, Unavailable
from penstock.core.identity import TopicIdentity
from penstock.core.ports import Upstream
from penstock.core.records import Partition
from penstock.observe.log import log
from penstock.settings import KafkaSettings, Needs

RESTS = ("Empty", "Dead")
"""States of a group without members."""


class KafkaUpstream(Upstream):
    """``ports.Upstream`` of the topic and group of the settings. Connects at the first question."""

    def __init__(self, settings: KafkaSettings, needs: Callable[[str], Needs] = lambda _: Needs()) -> None:
        """``needs`` says what each topic may not be: those of a pattern may come later."""
        self._settings, self._admin, self._needs = settings, AdminConnection(settings), needs
        self._seen: set[str] = set()

    @override
    def identity(self) -> TopicIdentity | None:
        described = self._admin.ask(self._described)
        if any(translate_errors(partial(is_missing, topic), self._settings) for topic in described):
            return None
        return identity_of(self._settings, described)

    def _described(self, admin: KafkaAdminClient) -> list[Mapping[str, Any]]:
        names = followed(admin, self._settings)
        if self._settings.pattern and (new := set(names) - self._seen):
            look_at(admin, self._settings, sorted(new), needs=self._needs)
            self._seen |= new
            log.info("topics", found=sorted(new))
        described: list[Mapping[str, Any]] = admin.describe_topics(names)
        return described

    @override
    def committed(self) -> Mapping[Partition, int]:
        group, follows = self._settings.group, self._settings.follows
        offsets = self._admin.ask(lambda admin: admin.list_group_offsets(group))[group]
        mine = {owned: at for owned, at in offsets.items() if follows(owned.topic) and at.offset >= 0}
        return {Partition(*owned): at.offset for owned, at in mine.items() if not read_mark(at.metadata).first}

    def rewind(self) -> dict[Partition, int]:
        """Set the group's offsets to where each partition begins now; what they are.

        Raises Misconfigured while the group has members, whose next commit would undo it.
        """
        group = self._settings.group
        described = self._admin.ask(lambda admin: admin.describe_topics(followed(admin, self._settings)))
        if gone := [topic["name"] for topic in described if is_missing(topic)]:
            raise Misconfigured(f"topic {gone[0]!r} is gone; correct PENSTOCK_KAFKA__TOPIC")
        self._require_rest()
        places = [TopicPartition(topic["name"], n) for topic in described for n in range(len(topic["partitions"]))]
        first = dict.fromkeys(places, OffsetSpec.EARLIEST)
        done = self._admin.ask(lambda admin: admin.reset_group_offsets(group, dict(first)))
        for owned, answer in done.items():
            if answer["error"] is kafka_errors.UnknownMemberIdError:
                self._require_rest()
            if answer["error"] is not kafka_errors.NoError:
                raise Unavailable(f"Kafka: offset of {owned} in group {group!r}: {answer['error'].__name__}")
        return {Partition(*owned): answer["offset"] for owned, answer in done.items()}

    def close(self) -> None:
        """Release the connection."""
        self._admin.close()

    def _require_rest(self) -> None:
        group = self._settings.group
        described = self._admin.ask(lambda admin: admin.describe_groups([group]))[group]
        if described["group_state"] not in RESTS:
            raise Misconfigured(
                f"group {group!r} has {len(described['members'])} members ({described['group_state']}): stop them "
                f"first; after a crash wait PENSTOCK_KAFKA__SESSION_TIMEOUT_S ({self._settings.session_timeout_s:g} s)"
            )
