"""``penstock letters replay``, put together: letters are read, judged, sent back, and followed to their end."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field

from penstock.adapters.kafka.letters import Returns, topics_now, whole
from penstock.adapters.kafka.retention import kept_now
from penstock.adapters.kafka.upstream import KafkaUpstream
from penstock.adapters.kafka.whole import Extent
from penstock.assembly.letters import Steps, letter_topics
from penstock.core.errors import Misconfigured, Unavailable
from penstock.core.letters import read_letter, sent_back
from penstock.core.records import Partition, Place, Record
from penstock.core.retention import Kept
from penstock.operate.letters import Chosen, refuse_ambiguous
from penstock.operate.replay import (
    Became,
    Candidate,
    Gathered,
    Rate,
    Sightings,
    StreamNow,
    Told,
    TopicNow,
    judge,
    refusal,
    time_to_send,
)
from penstock.settings import Settings

ASK_S = 0.5
"""How often the group is asked how far it is."""

KEYED_BY = ("key", "fixed", "none")
"""Where tenants come from for a record's key to name its document."""


@dataclass(slots=True)
class Replay:
    """Of the letters that are chosen. ``tell`` hears of each once; ``steps`` shows how far it is.

    ``per_s`` is the most that are sent in a second, where there is a most. With ``wait_s`` those that were sent are
    followed for so long.
    """

    settings: Settings
    chosen: Chosen
    tell: Callable[[Told], None]
    steps: Steps
    per_s: float | None = None
    wait_s: float | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    counts: Counter[Became] = field(default_factory=Counter)
    _ends: Mapping[Partition, int] = field(default_factory=dict)
    _kept: Mapping[str, Kept] = field(default_factory=dict)

    def run(self, now_ms: int, *, dry_run: bool) -> Counter[Became]:
        """How many letters became what. Raises Misconfigured; and Unavailable, also where the time is up."""
        if self.chosen.topic is not None and self.chosen.topic == self.settings.query.topic:
            raise Misconfigured("queries are not sent back: whoever waits for an answer asks again")
        if not (topics := letter_topics(self.settings, self.chosen.topic)):
            return self.counts
        refuse_ambiguous(self.chosen, topics)
        gathered = self._gather(topics, now_ms)
        ready = self._judge(gathered)
        if dry_run:
            for place in ready:
                self._told(Told(place, Became.READY))
            return self.counts
        sent = self._send(topics, ready, now_ms)
        if self.wait_s is None:
            self._told_sent(sent)
        else:
            self._follow(topics, sent, self.wait_s)
        return self.counts

    def _told(self, told: Told) -> None:
        self.counts[told.became] += 1
        self.tell(told)

    def _gather(self, topics: list[str], now_ms: int) -> Gathered:
        """The letters that may go back, by what can be said without the topics that they came from."""
        kafka, gathered = self.settings.kafka, Gathered()
        with whole(kafka, topics) as opened, self.steps("reading letters", opened.offsets) as advance:
            self._ends = {owned: at.end for owned, at in opened.extents.items()}
            stream = self._stream(now_ms)
            for records in opened.read(passed=advance):
                for letter in map(read_letter, records):
                    gathered.add(letter)
                    if letter not in self.chosen:
                        continue
                    if (why := refusal(letter, stream, kafka.follows)) or letter.first is None:
                        self._told(Told(letter.place, Became.REFUSED, why))
                        continue
                    if (former := gathered.candidates.get(letter.first)) is not None:
                        self._told(Told(former.place, Became.REPEATED, _later(letter.place)))
                    gathered.candidates[letter.first] = Candidate(letter.place, letter.first, letter.key)
        for first, one in list(gathered.candidates.items()):
            if (last := gathered.last_of(first)) != one.place:
                self._told(Told(one.place, Became.REPEATED, _later(last)))
                del gathered.candidates[first]
        return gathered

    def _stream(self, now_ms: int) -> StreamNow:
        """The topics that are followed, as they are. Asked after the letters: none of these is ahead of its topic."""
        index, kafka = self.settings.index, self.settings.kafka
        found = topics_now(kafka)
        ends: dict[str, dict[int, int]] = {name: {} for name in found}
        if found:
            with whole(kafka, list(found)) as opened:
                for (topic, number), at in opened.extents.items():
                    ends[topic][number] = at.end
        topics = {name: TopicNow(found[name].id, ends[name]) for name in found}
        return StreamNow(topics, index.epoch, self.settings.purge.tombstones_s, now_ms)

    def _judge(self, gathered: Gathered) -> set[Place]:
        """The letters that are to go, once the topics that they came from have been read from there on."""
        sightings = Sightings(gathered, self.settings.index.epoch)
        if starts := sightings.starts():
            self._kept = kept_now(self.settings.kafka, sorted({owned.topic for owned in starts}))
            with whole(self.settings.kafka, sorted({owned.topic for owned in starts})) as opened:
                opened.extents = {
                    owned: Extent(max(at.begin, starts[owned]), at.end)
                    for owned, at in opened.extents.items()
                    if owned in starts
                }
                with self.steps("reading what came since", opened.offsets) as advance:
                    for records in opened.read(passed=advance):
                        sightings.see(records)
        ready = set()
        for place, verdict in judge(sightings, self._keyed, self._compacted).items():
            if verdict.became is Became.READY:
                ready.add(place)
            else:
                self._told(Told(place, verdict.became, verdict.why))
        return ready

    def _keyed(self, topic: str) -> bool:
        index = self.settings.index.of_topic(topic)
        return index.order == "offset" and index.key == "id" and index.tenant_from in KEYED_BY

    def _compacted(self, topic: str) -> bool:
        """Whether it is, or may be for all that the brokers tell."""
        policies = self._kept[topic].policies
        return "compact" in policies or not (policies or self.settings.index.needs(topic).compacted)

    def _send(self, topics: list[str], ready: set[Place], now_ms: int) -> dict[Place, Place]:
        """Where each lies now, by its letter."""
        sent: dict[Place, Place] = {}
        if not ready:
            return sent
        kafka = self.settings.kafka
        rate = Rate(self.per_s or math.inf, self.clock)
        with (
            whole(kafka, topics) as opened,
            closing(Returns(kafka)) as returns,
            self.steps("sending", len(ready)) as advance,
        ):
            opened.extents = _around(ready)
            try:
                for records in opened.read():
                    for record in records:
                        if Place(*record.partition, record.offset) in ready:
                            self.sleep(rate.pause_s())
                            self._send_back(returns, record, now_ms)
                            advance(1)
                    self._settled(returns.settle(), sent)
            except Unavailable as error:
                self._told_sent(sent)
                raise Unavailable(f"{error}; {len(sent)} letters are sent: run it again for the others") from error
        return sent

    def _send_back(self, returns: Returns, record: Record, now_ms: int) -> None:
        letter = read_letter(record)
        if letter.first is not None:
            to = Partition(letter.first.topic, letter.first.partition)
            time_ms = time_to_send(letter, self._kept.get(to.topic), now_ms)
            returns.send(letter.place, to, *sent_back(record, letter), time_ms)

    def _settled(self, settled: Mapping[Place, Place | str], sent: dict[Place, Place]) -> None:
        for letter, became in settled.items():
            if isinstance(became, str):
                self._told(Told(letter, Became.REFUSED, became))
            else:
                sent[letter] = became

    def _told_sent(self, sent: Mapping[Place, Place]) -> None:
        for letter, copy in sent.items():
            self._told(Told(letter, Became.SENT, copy=copy))

    def _follow(self, topics: list[str], sent: Mapping[Place, Place], wait_s: float) -> None:
        """Until the index workers have committed what was sent, or the time is up; then a letter tells of a failure."""
        try:
            done = self._committed(sent, wait_s)
            again = self._again(topics, set(sent.values())) if sent else {}
        except Unavailable:
            self._told_sent(sent)
            raise
        left = 0
        for letter, copy in sent.items():
            if copy in again:
                self._told(Told(letter, Became.AGAIN, again[copy], copy))
            elif done.get(Partition(copy.topic, copy.partition), 0) > copy.offset:
                self._told(Told(letter, Became.DONE, copy=copy))
            else:
                left += 1
                self._told(Told(letter, Became.SENT, copy=copy))
        if left:
            raise Unavailable(f"after {wait_s:g} s the index workers have not come to {left} of {len(sent)} letters")

    def _committed(self, sent: Mapping[Place, Place], wait_s: float) -> Mapping[Partition, int]:
        """What the group has committed when it has passed all of them, or at the end of the time."""
        deadline = self.clock() + wait_s
        with (
            closing(KafkaUpstream(self.settings.kafka)) as upstream,
            self.steps("waiting for the index workers", len(sent)) as advance,
        ):
            passed = 0
            while True:
                done = upstream.committed()
                now = sum(done.get(Partition(copy.topic, copy.partition), 0) > copy.offset for copy in sent.values())
                advance(now - passed)
                passed = now
                if passed == len(sent) or self.clock() >= deadline:
                    return done
                self.sleep(ASK_S)

    def _again(self, topics: list[str], copies: set[Place]) -> dict[Place, str]:
        """Which of them have a letter by now, and why: a worker writes it before it commits."""
        found: dict[Place, str] = {}
        with whole(self.settings.kafka, topics) as opened:
            for records in opened.read(self._ends):
                for letter in map(read_letter, records):
                    if letter.origin in copies:
                        found[letter.origin] = letter.reason
        return found


def _later(place: Place) -> str:
    return f"letter {place.partition}:{place.offset} is a later one of the same record"


def _around(places: Iterable[Place]) -> dict[Partition, Extent]:
    """From the first of a partition to its last."""
    found: dict[Partition, Extent] = {}
    for topic, partition, offset in places:
        known = found.get(Partition(topic, partition), Extent(offset, offset + 1))
        found[Partition(topic, partition)] = Extent(min(known.begin, offset), max(known.end, offset + 1))
    return found
