"""The stream as it is now: asked of the brokers by a connection of its own, beside the consumer's."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from kafka import KafkaAdminClient
from typing_extensions import override

from penstock.adapters.kafka.connection import AdminConnection, translate_errors
from penstock.adapters.kafka.topics import BY_BROKER, followed, identity_of, is_missing, look_at
from penstock.core.attempts import read_mark
from penstock.core.identity import TopicIdentity
from penstock.core.ports import Upstream
from penstock.core.records import Partition
from penstock.observe.log import log
from penstock.settings import KafkaSettings, LettersKept, Needs


class KafkaUpstream(Upstream):
    """``ports.Upstream`` of the topic and group of the settings. Connects at the first question."""

    def __init__(
        self,
        settings: KafkaSettings,
        needs: Callable[[str], Needs] = lambda _: Needs(),
        kept: LettersKept = BY_BROKER,
        *,
        make: bool = True,
    ) -> None:
        """``needs``, ``kept`` and ``make`` are those of ``check_topics``: topics of a pattern may come later."""
        self._make = make
        self._settings, self._admin, self._needs, self._kept = settings, AdminConnection(settings), needs, kept
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
            kept = self._kept if self._seen else self._kept._replace(most_s=None)  # the start has looked at the first
            look_at(admin, self._settings, sorted(new), needs=self._needs, kept=kept, make=self._make)
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

    def close(self) -> None:
        """Release the connection."""
        self._admin.close()
