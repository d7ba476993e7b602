"""The side of the topic: what its records ask for, up to what the group has committed, and beyond."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from penstock.adapters.kafka.places import RecordsAt
from penstock.adapters.kafka.policies import cleanup_policies, documents_and_letters
from penstock.adapters.kafka.whole import Extent, WholeTopic
from penstock.core.documents import EPOCH_SHIFT, Event
from penstock.core.errors import InvalidEvent
from penstock.core.ports import Upstream
from penstock.core.records import Partition, Record
from penstock.events.document import decode
from penstock.events.redriven import SEQUENCE
from penstock.events.rules import DocumentRules
from penstock.operate.audit.compare import Expected
from penstock.operate.audit.expectation import Expectation, following
from penstock.operate.audit.judge import Known
from penstock.settings import KafkaSettings

OF_LETTER = tuple(f"__connect.errors.{name}" for name in ("topic", "partition", "offset"))


class Kept(NamedTuple):
    """What the topics still have. ``first``: no record was removed for its age; ``compacted``: none ever is.

    ``latest`` says that compaction keeps the latest record of each document; ``mixed`` that it may keep but one of two
    tenants' records, since keys do not tell the tenant.
    """

    first: bool = False
    compacted: bool = False
    latest: bool = False
    mixed: bool = False

    @property
    def whole(self) -> bool:
        """Whether a document without a record has never had one, or has been deleted."""
        return (self.first or self.compacted) and not self.mixed


@dataclass(slots=True)
class Topics:
    """The documents' topics and their dead letters, read once whole, and again from where that ended.

    Letters are read before the topics and after the commit: those of all records that are committed are there by then.
    ``invalid`` counts records that no worker can read, ``unread`` by partition those of them that name no document.
    ``letters`` says where given-up records lie, in some 100 bytes each; ``lost_letters`` that some were removed for
    their age. ``committed`` is what it was when reading began.
    """

    kafka: KafkaSettings
    rules: DocumentRules
    upstream: Upstream
    expected: Expected = field(default_factory=lambda: Expected(Expectation(), Expectation(), Expectation()))
    committed: Mapping[Partition, int] = field(default_factory=dict)
    ends: dict[Partition, int] = field(default_factory=dict)
    letters: dict[Partition, set[int]] = field(default_factory=dict)
    lost_letters: bool = False
    records: int = 0
    invalid: int = 0
    unread: dict[Partition, int] = field(default_factory=dict)
    beyond: int = 0
    kept: Kept = field(default_factory=Kept)
    _letter_ends: dict[Partition, int] = field(default_factory=dict)

    def read(self, step: Callable[[int], Callable[[int], None]]) -> None:
        """All of it; ``step`` is told how many offsets there are, and what it returns, of how many have gone by."""
        self.committed = dict(self.upstream.committed())
        names, _ = self._read_letters()
        with closing(WholeTopic(self.kafka, names)) as whole:
            begins = dict(whole.extents)
            for records in whole.read(passed=step(whole.offsets)):
                self._take(records)
            self._end(whole.extents, self.ends)
        self._look_what_is_kept(names, begins)

    def catch_up(self) -> None:
        """What has come since."""
        names, _ = self._read_letters()
        with closing(WholeTopic(self.kafka, names)) as whole:
            for records in whole.read(self.ends):
                self._take(records)
            self._end(whole.extents, self.ends)

    def known(self, key: bytes, committed: Mapping[Partition, int]) -> Known:
        """What is known of a document, when the group has committed so far."""
        done, coming, given_up = (one.find(key) for one in self.expected)
        newest = following(done, coming)
        if coming is not None:
            partition, offset = coming.place
            if offset >= committed.get(partition, 0):
                return Known(newest, given_up, in_flight=True)
            if offset in self.letters.get(partition, ()):
                return Known(done, coming)
        return Known(newest, given_up)

    def records_of(self, keys: Iterable[bytes]) -> Iterator[tuple[bytes, Record]]:
        """The newest record of each document, by its key in the tables, where there still is one."""
        wanted: dict[Partition, dict[int, bytes]] = {}
        for key in keys:
            rows = [one.find(key) for one in self.expected]
            newest = following(rows[0], rows[1]) or rows[2]
            if newest is not None:
                wanted.setdefault(newest.place[0], {})[newest.place[1]] = key
        if not wanted:
            return
        with closing(RecordsAt(self.kafka)) as reader:
            for record in reader.read({owned: list(some) for owned, some in wanted.items()}):
                yield wanted[record.partition][record.offset], record

    def event_of(self, record: Record) -> Event | None:
        """As workers read it; of a record that they cannot read, a delete of what its key names, if that much is known.

        Compaction has removed what was before it, and the document is still there.
        """
        try:
            return decode(record, self.rules)
        except InvalidEvent:
            try:
                return decode(replace(record, value=None, damage=""), self.rules)
            except InvalidEvent:
                return None

    def _take(self, records: list[Record]) -> None:
        done: list[Event] = []
        coming: list[Event] = []
        given_up: list[Event] = []
        self.records += len(records)
        for record in records:
            is_done = record.offset < self.committed.get(record.partition, 0)
            self.beyond += not is_done
            try:
                event = decode(record, self.rules)
            except InvalidEvent:
                self.invalid += 1
                if (told := self.event_of(record)) is not None:
                    given_up.append(told)
                else:
                    self.unread[record.partition] = self.unread.get(record.partition, 0) + 1
                continue
            if record.offset in self.letters.get(record.partition, ()):
                given_up.append(event)
            else:
                (done if is_done else coming).append(event)
        for expectation, events in zip(self.expected, (done, coming, given_up), strict=True):
            expectation.add(events)

    def _read_letters(self) -> tuple[list[str], list[str]]:
        names, letters = documents_and_letters(self.kafka)
        if letters:
            with closing(WholeTopic(self.kafka, letters)) as whole:
                if not self._letter_ends:
                    self.lost_letters = any(at.begin for at in whole.extents.values())
                for records in whole.read(self._letter_ends):
                    for record in records:
                        self._note(record)
                self._end(whole.extents, self._letter_ends)
        return names, letters

    def _note(self, letter: Record) -> None:
        """Of this epoch only: offsets of another one are those of a topic that was before this one."""
        told = dict(letter.headers)
        topic, number, offset = (told.get(name) or b"" for name in OF_LETTER)
        sequence = told.get(SEQUENCE) or b""
        ours = sequence.isdigit() and int(sequence) >> EPOCH_SHIFT == self.rules.sequence_base >> EPOCH_SHIFT
        if ours and number.isdigit() and offset.isdigit():
            self.letters.setdefault(Partition(topic.decode("utf-8", "replace"), int(number)), set()).add(int(offset))

    @staticmethod
    def _end(extents: Mapping[Partition, Extent], ends: dict[Partition, int]) -> None:
        for owned, at in extents.items():
            ends[owned] = max(at.end, ends.get(owned, 0))

    def _look_what_is_kept(self, names: list[str], before: Mapping[Partition, Extent]) -> None:
        """Asked after reading: nothing may have been removed meanwhile."""
        policies = cleanup_policies(self.kafka, names)
        with closing(WholeTopic(self.kafka, names)) as whole:
            begins = [at.begin for at in (*before.values(), *whole.extents.values())]
        compacted = bool(policies) and all(policy == {"compact"} for policy in policies.values())
        latest = bool(policies) and all("compact" in policy for policy in policies.values())
        self.kept = Kept(not any(begins), compacted, latest, mixed(self.rules, names, policies))


def mixed(rules: DocumentRules, names: Iterable[str], policies: Mapping[str, AbstractSet[str]]) -> bool:
    """Whether compaction may take a tenant's record for the sake of another's; of no policy it is not known."""
    without = [name for name in names if rules.of(name).tenant_from in ("header", "field")]
    return any("compact" in policies.get(name, ()) or not policies.get(name) for name in without)
