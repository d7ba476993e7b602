"""How a worker joins a stream and a collection, and goes on asking whether they are still the same."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from penstock.adapters.kafka.group_offsets import GroupOffsets
from penstock.adapters.kafka.upstream import KafkaUpstream
from penstock.assembly.stream import Retries
from penstock.core.around import around_calls
from penstock.core.documents import Event
from penstock.core.errors import Misconfigured, Missing, Unavailable
from penstock.core.identity import CollectionState, Origin
from penstock.core.ports import DeadLetters, Ledger, Membership, Source, Upstream
from penstock.core.records import Record
from penstock.events.document import decode
from penstock.events.rules import DocumentRules
from penstock.observe.log import log
from penstock.stream import joined
from penstock.stream.doubts import OnGap
from penstock.stream.joined import OfFile, OfTopic
from penstock.stream.retry import Retry

ASK_S = 5.0
"""While nothing comes: is it still the same topic and collection?"""


class Stream(NamedTuple):
    """A stream that is open: where records come from and dead letters go, how records are read, what orders them.

    ``read`` makes an event of a record, by the rules.
    """

    source: Source
    dead_letters: DeadLetters
    rules: DocumentRules
    origin: Origin | None = None
    upstream: KafkaUpstream | None = None
    read: Callable[[Record, DocumentRules], Event] = decode

    @property
    def name(self) -> str:
        """What it is called in logs and metrics."""
        return self.origin.topic if self.origin else "file"

    def close(self) -> None:
        """At once, what is still open of it: the worker closes it in time."""
        self.source.close(0.0)
        self.dead_letters.close(0.0)
        if self.upstream is not None:
            self.upstream.close()


@dataclass(frozen=True, slots=True)
class Joining:
    """Outages of a service are waited out by the retries that are given."""

    stream: Stream
    ledger: Ledger
    on_gap: OnGap

    def begin_again(self, group: GroupOffsets, retries: Retries) -> None:
        """The group back to where the topic begins; raises Misconfigured while it has members."""
        if self.stream.upstream is None or self.stream.origin is None:
            raise Misconfigured("--from-beginning is about a topic: a file is always read from its beginning")
        joined.fitting(self._ledger(retries), self.stream.origin)
        starts = retries.of("kafka").call(group.begins)
        retries.of("kafka").call(partial(group.set, starts))
        joined.begin_again(self._ledger(retries), self.stream.origin, starts)
        log.info("from_beginning", offsets={f"{owned.topic}/{owned.number}": at for owned, at in starts.items()})

    def join(self, retries: Retries) -> Callable[[Retries], Membership]:
        """What makes the membership for the retries of a pipeline; raises Misconfigured where they do not fit."""
        ledger = self._ledger(retries)
        if self.stream.upstream is None or self.stream.origin is None:
            return partial(self._of_file, joined.opened(ledger))
        upstream, origin = self.stream.upstream, self.stream.origin
        collection = joined.join(around_calls(upstream, retries.of("kafka").around), ledger, origin)
        return partial(self._of_topic, upstream, collection, origin)

    def _of_file(self, collection: CollectionState, retries: Retries) -> Membership:
        return OfFile(self._ledger(retries), collection, retries.ended.wait)

    def _of_topic(
        self, upstream: Upstream, collection: CollectionState, origin: Origin, retries: Retries
    ) -> Membership:
        asked = around_calls(upstream, retries.of("kafka").around)
        return OfTopic(asked, self._ledger(retries), origin, collection, self.on_gap, retries.ended.wait)

    def _ledger(self, retries: Retries) -> Ledger:
        return around_calls(self.ledger, retries.of("qdrant").around)


def ending_with(retry: Retry, membership: Membership) -> Retry:
    """A collection that is not there is waited for only as long as that may be an outage."""

    def report(error: Unavailable, failures: int, pause_s: float) -> None:
        if isinstance(error, Missing):
            membership.verify_collection()
        retry.report(error, failures, pause_s)

    return replace(retry, report=report)
