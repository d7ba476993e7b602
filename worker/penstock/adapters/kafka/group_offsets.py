"""A consumer group's offsets from outside: how far it is, and set to where somebody wants it to go on."""

from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

from kafka import IsolationLevel, KafkaAdminClient, OffsetSpec, TopicPartition
from kafka import errors as kafka_errors
from kafka.structs import OffsetAndMetadata

from penstock.adapters.kafka.connection import AdminConnection, failure, translate_errors
from penstock.adapters.kafka.topics import followed, identity_of, is_missing
from penstock.core.attempts import read_mark
from penstock.core.errors import Misconfigured, Unavailable
from penstock.core.identity import TopicIdentity
from penstock.core.offsets import GroupStanding, Reader, Standing
from penstock.core.records import Partition
from penstock.settings import KafkaSettings

RESTS = ("Empty", "Dead")
"""States of a group without members."""

JOINED = (
    kafka_errors.UnknownMemberIdError,
    kafka_errors.IllegalGenerationError,
    kafka_errors.RebalanceInProgressError,
)
"""What the broker says to offsets of no member, where there are members."""


class GroupOffsets:
    """Of the group and the topics of the settings. Connects at the first question; joins nothing.

    All methods raise Misconfigured or Unavailable.
    """

    def __init__(self, settings: KafkaSettings, variable: str = "PENSTOCK_KAFKA__TOPIC") -> None:
        """``variable`` is the setting that names the topics."""
        self._settings, self._variable = settings, variable
        self._admin = AdminConnection(settings)

    def look(self) -> GroupStanding:
        """The group as it is now, in every partition that there is."""
        places = self._places()
        begins, ends = (self._offsets(dict.fromkeys(places, spec)) for spec in (OffsetSpec.EARLIEST, OffsetSpec.LATEST))
        group = self._settings.group
        stored = self._admin.ask(lambda admin: admin.list_group_offsets(group))[group]
        found = {Partition(*owned): at for owned, at in stored.items() if at.offset >= 0}
        state, readers = self._described()
        return GroupStanding(
            group,
            state,
            readers,
            {
                owned: Standing(begins[owned], ends[owned], found[owned].offset, read_mark(found[owned].metadata))
                if owned in found
                else Standing(begins[owned], ends[owned])
                for owned in places
            },
        )

    def begins(self) -> dict[Partition, int]:
        """Where each partition begins now."""
        return self._offsets(dict.fromkeys(self._places(), OffsetSpec.EARLIEST))

    def since(self, moment_ms: int, partitions: Collection[Partition]) -> dict[Partition, int]:
        """The first offset in each whose record was produced then or later; those that have none are left out.

        ``moment_ms`` is in milliseconds since 1970, and not negative.
        """
        found = self._offsets(dict.fromkeys(partitions, moment_ms))
        return {owned: offset for owned, offset in found.items() if offset >= 0}

    def set(self, offsets: Mapping[Partition, int]) -> None:
        """Let the group go on at these offsets; what workers have left beside the former ones is gone.

        Raises Misconfigured while the group has members, whose next commit would undo it. One that joins between that
        look and the write is found by the broker, which then refuses.
        """
        self._require_rest()
        wanted = {TopicPartition(*owned): OffsetAndMetadata(offset, "", -1) for owned, offset in offsets.items()}
        group = self._settings.group
        done = self._admin.ask(lambda admin: admin.alter_group_offsets(group, wanted)) if wanted else {}
        for owned, error in done.items():
            if error in JOINED:
                self._require_rest()
            if error is not kafka_errors.NoError:
                told = f"Kafka: the offset of {owned.topic}/{owned.partition} in group {group!r} was not set"
                raise failure(error(), told, told)

    def close(self) -> None:
        """Release the connection."""
        self._admin.close()

    def _require_rest(self) -> None:
        state, readers = self._described()
        if state not in RESTS:
            raise Misconfigured(busy(self._settings, state, len(readers)))

    def identity(self) -> TopicIdentity:
        """Of the topic; several have none."""
        return identity_of(self._settings, self._there())

    def _places(self) -> list[Partition]:
        return [Partition(topic["name"], n) for topic in self._there() for n in range(len(topic["partitions"]))]

    def _there(self) -> list[Mapping[str, Any]]:
        described = self._admin.ask(self._topics)
        if gone := [
            topic["name"] for topic in described if translate_errors(partial(is_missing, topic), self._settings)
        ]:
            raise Misconfigured(f"topic {gone[0]!r} is gone; correct {self._variable}")
        if not described:
            raise Misconfigured(f"there is no topic that fits {self._variable}={self._settings.topic}")
        return described

    def _topics(self, admin: KafkaAdminClient) -> list[Mapping[str, Any]]:
        names = followed(admin, self._settings)
        described: list[Mapping[str, Any]] = admin.describe_topics(names) if names else []
        return described

    def _offsets(self, specs: Mapping[Partition, Any]) -> dict[Partition, int]:
        """As a worker finds them: what its producer has not committed is not there yet."""
        asked = {TopicPartition(*owned): spec for owned, spec in specs.items()}
        found = self._admin.ask(partial(_listed, asked)) if asked else {}
        return {Partition(*owned): int(at.offset) for owned, at in found.items()}

    def _described(self) -> tuple[str, tuple[Reader, ...]]:
        group = self._settings.group
        described = self._admin.ask(lambda admin: admin.describe_groups([group]))[group]
        if described["error"] and kafka_errors.GroupIdNotFoundError.__name__ not in described["error"]:
            raise Unavailable(f"Kafka: group {group!r}: {described['error']}")
        return str(described["group_state"]) or RESTS[-1], tuple(map(_reader, described["members"]))


def busy(settings: KafkaSettings, state: str, members: int) -> str:
    """Why the offsets of a group that has members stay as they are, and what to do; empty where it has none."""
    if state in RESTS:
        return ""
    return (
        f"group {settings.group!r} has {members} members ({state}): stop them first; after a crash wait "
        f"PENSTOCK_KAFKA__SESSION_TIMEOUT_S ({settings.session_timeout_s:g} s)"
    )


def _listed(asked: Mapping[TopicPartition, Any], admin: KafkaAdminClient) -> Any:
    return admin.list_partition_offsets(dict(asked), isolation_level=IsolationLevel.READ_COMMITTED)


def _reader(member: Mapping[str, Any]) -> Reader:
    """What a member has is not told while the group shares the partitions out."""
    assigned = (member["member_assignment"] or {}) if not isinstance(member["member_assignment"], bytes) else {}
    topics = assigned.get("assigned_partitions") or ()
    owned = [Partition(topic["topic"], number) for topic in topics for number in topic["partitions"]]
    return Reader(member["client_id"], member["client_host"], tuple(sorted(owned)))
