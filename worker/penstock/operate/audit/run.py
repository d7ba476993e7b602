"""An audit from its beginning to its end: the topic, the collection, and each document that is not beyond doubt."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor
from concurrent.futures import wait as futures
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from penstock.core.documents import ChunkKey, DocumentKey
from penstock.core.errors import Misconfigured
from penstock.core.inventory import Held, Sought
from penstock.core.ports import Inventory
from penstock.operate.audit.compare import Situation, Suspects, suspects
from penstock.operate.audit.holdings import DEAD, Holdings
from penstock.operate.audit.judge import Kind
from penstock.operate.audit.look import Finding, Look
from penstock.operate.audit.report import Example, Report, asked_for, found, record_of
from penstock.operate.audit.table import key_of
from penstock.operate.audit.topic import Topics

AT_ONCE, PAGE = 2000, 1000
"""Documents that are looked at together, and points that are counted together."""

Step = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


class Mender(Protocol):
    """What repairs."""

    @property
    def dry_run(self) -> bool:
        """Whether it only says what it would do."""

    def mend(self, findings: Sequence[Finding]) -> dict[DocumentKey, str]:
        """Repair what can be, and what became of it; with ``dry_run`` what would. What is left alone is not in it."""


@dataclass(slots=True)
class Audit:
    """One run. ``expired_s`` is how long a document may stay that has expired; ``step`` shows progress.

    ``sampled`` are chunks by chance, at most ``sample``, for whoever compares their vectors.
    """

    topics: Topics
    inventory: Inventory
    epoch: int
    by_offset: bool
    expired_s: float
    report: Report
    step: Step
    parts: int = 1
    sample: int = 0
    mender: Mender | None = None
    clock: Callable[[], float] = time.time
    wait: Callable[[float], object] = time.sleep
    held: Holdings = field(default_factory=Holdings)
    sampled: list[ChunkKey] = field(default_factory=list)
    _seen: int = 0
    _unread: int = 0
    _too_many: bool = False

    def run(self) -> None:
        """Into the report; raises Misconfigured and Unavailable."""
        self._read()
        self._scan()
        self.topics.catch_up()  # what was written while the collection was read is of records that are known then
        doubtful = suspects(self.topics.expected, self.held, self.situation())
        report = self.report
        report.documents, report.unjudged, report.points = doubtful.documents, doubtful.unjudged, self.held.points
        report.looked_at = len(doubtful.keys)
        self._too_many = doubtful.too_many(self.alive())
        with self.step("looking again", len(doubtful.keys)) as passed:
            for documents in self._named(doubtful.keys):
                self._judge(documents)
                passed(len(documents))
        report.notes += self._not_judged(doubtful)

    def _not_judged(self, doubtful: Suspects) -> Iterator[str]:
        """Which orphans were left alone, and why."""
        if doubtful.earlier:
            yield (
                f"{doubtful.earlier:,} documents are of an earlier epoch, and the topic has nothing of them yet: not "
                "judged"
            )
        if self._unread:
            places = ", ".join(f"{owned.topic}/{owned.number}" for owned in sorted(self.topics.unread))
            records = sum(self.topics.unread.values())
            yield (
                f"{self._unread:,} documents of which the topic has nothing are not judged: {records:,} "
                f"records of {places} name no document, and may be theirs"
            )
        if self._too_many and self.report.damaged[Kind.ORPHAN]:
            yield (
                "orphans are not removed: they are more than a fifth of the documents, too many to be true: are the "
                "settings those of the workers?"
            )

    def _read(self) -> None:
        with self.step("reading the topic", 0) as passed:
            self.topics.read(lambda _: passed)
        report, topics = self.report, self.topics
        report.records, report.invalid, report.not_yet = topics.records, topics.invalid, topics.beyond
        if not topics.committed and topics.records and self.inventory.count(Sought()):
            raise Misconfigured(
                f"group {topics.kafka.group!r} has committed nothing, and the collection holds documents: is "
                "PENSTOCK_KAFKA__GROUP that of its index workers?"
            )
        if topics.lost_letters:
            report.notes.append(
                "old dead letters were removed for their age: a document that ended in one of them counts as missing"
            )
        if not (topics.kept.first or topics.kept.compacted):
            report.notes.append(
                "orphans are not judged: the topic is not compacted, and its first records were removed for their age"
            )
        if topics.kept.mixed:
            report.notes.append(
                "orphans are not judged: keys do not tell the tenant (PENSTOCK_INDEX__TENANT_FROM), and the topic is "
                "compacted, or nobody says whether it is: one tenant's record may have gone for another's"
            )

    def _scan(self) -> None:
        chance = random.Random()  # noqa: S311  # no secret
        with self.step("reading the collection", self.inventory.count(Sought())) as passed:
            for points in scanned(self.inventory, self.parts):
                self.held.add(points)
                passed(len(points))
                for point in points if self.sample else ():
                    self._draw(point, chance)

    def _draw(self, point: Held, chance: random.Random) -> None:
        """Each chunk with the same chance, whatever comes."""
        if point.tombstone:
            return
        self._seen += 1
        if len(self.sampled) < self.sample:
            self.sampled.append(point.key)
        elif (place := chance.randrange(self._seen)) < self.sample:
            self.sampled[place] = point.key

    def alive(self) -> int:
        """How many documents readers may find."""
        return sum(int(((part["anchors"] > 0) & (part["flags"] & DEAD == 0)).sum()) for part in self.held.table)

    def situation(self) -> Situation:
        """As it is at the moment."""
        kept, now_s = self.topics.kept, self.clock()
        return Situation(
            self.epoch, dict(self.topics.ends), kept.whole, kept.first, self.by_offset, now_s, now_s - self.expired_s,
            frozenset(self.topics.unread), self._too_many,
        )  # fmt: skip

    def _named(self, keys: list[bytes]) -> Iterator[list[DocumentKey]]:
        """The documents with these keys: by their records, or by what is there where the topic has none."""
        nameless = set(keys)
        left = iter(keys)
        while some := list(islice(left, AT_ONCE)):
            named = []
            for key, record in self.topics.records_of(some):
                event = self.topics.event_of(record)
                if event is not None and key_of(event.key) == key:
                    named.append(event.key)
                    nameless.discard(key)
            if named:
                yield named
        if nameless:
            yield from self._named_by_points(nameless)

    def _named_by_points(self, nameless: set[bytes]) -> Iterator[list[DocumentKey]]:
        named = []
        for points in scanned(self.inventory, self.parts):
            for document in {DocumentKey(point.key.tenant, point.key.document) for point in points}:
                if (key := key_of(document)) in nameless:
                    nameless.discard(key)
                    named.append(document)
            if len(named) >= AT_ONCE:
                yield named
                named = []
        if named:
            yield named

    def _judge(self, documents: Sequence[DocumentKey]) -> None:
        look = Look(self.topics, self.inventory, self.situation, self.wait)
        findings = look.at(documents)
        self.report.given_up += sum(finding.verdict.waits == "given up" for finding in findings)
        self._unread += sum(finding.verdict.waits == "unread" for finding in findings)
        damaged = [finding for finding in findings if finding.verdict.kinds]
        became = self.mender.mend(damaged) if self.mender is not None and damaged else {}
        after: dict[DocumentKey, tuple[Kind, ...]] = {}
        if self.mender is not None and not self.mender.dry_run and became:
            after = {finding.document: finding.verdict.kinds for finding in look.at(list(became))}
        for finding in damaged:
            self._tell(finding, became.get(finding.document), after.get(finding.document))

    def _tell(self, finding: Finding, became: str | None, after: tuple[Kind, ...] | None) -> None:
        newest = finding.known.newest
        dry = self.mender is not None and self.mender.dry_run
        for kind in finding.verdict.kinds:
            said = became or ""
            if became is not None and (dry or (after is not None and kind not in after)):
                self.report.repaired[kind] += 1
            elif became is not None:
                said = f"{became}, and yet it is so still"
            told = (asked_for(newest), found(finding.points), record_of(newest))
            self.report.add(Example(kind, finding.document, *told, said))


def scanned(inventory: Inventory, parts: int) -> Iterator[list[Held]]:
    """All points, page by page; ``parts`` scans at once."""
    if parts == 1:
        yield from _pages(inventory, 0, 1)
        return
    with ThreadPoolExecutor(parts, thread_name_prefix="audit") as pool:
        begun = [_pages(inventory, part, parts) for part in range(parts)]
        waiting = {pool.submit(next, pages, None): pages for pages in begun}
        while waiting:
            done, _ = futures(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                pages = waiting.pop(future)
                if (page := future.result()) is not None:
                    waiting[pool.submit(next, pages, None)] = pages
                    yield page


def _pages(inventory: Inventory, part: int, parts: int) -> Iterator[list[Held]]:
    points = inventory.scan(Sought(), part, parts)
    while page := list(islice(points, PAGE)):
        yield page
