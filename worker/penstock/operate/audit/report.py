"""What an audit found, as it is told: to people, to programs, and to Prometheus. Pure."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from penstock.core.documents import DocumentKey
from penstock.core.inventory import Held
from penstock.operate.audit.expectation import Newest
from penstock.operate.audit.judge import HARMLESS, MEANING, Kind

NUMBERS = ("documents", "points", "records", "invalid", "not_yet", "given_up", "unjudged", "looked_at", "sampled")


@dataclass(frozen=True, slots=True)
class Example:
    """A document with damage: what its newest record asks for, where that lies, and what is there instead."""

    kind: Kind
    document: DocumentKey
    expected: str
    there: str
    record: str = ""
    became: str = ""

    def as_json(self) -> dict[str, str]:
        """By its names."""
        return {
            "kind": self.kind,
            "tenant": self.document.tenant,
            "document": self.document.document,
            "expected": self.expected,
            "there": self.there,
            "record": self.record,
            "became": self.became,
        }


@dataclass(slots=True)
class Report:
    """Counts of documents, but for ``points`` and ``records``. ``most`` examples are kept of each kind.

    ``documents`` should be there; ``looked_at`` were looked at twice; ``not_yet`` are records that are not committed;
    documents that are ``given_up`` end in a dead letter, of those ``unjudged`` the topic no longer tells. ``repaired``
    counts by kind what a repair has mended, or with ``dry_run`` would try to.
    """

    collection: str = ""
    most: int = 5
    documents: int = 0
    points: int = 0
    records: int = 0
    invalid: int = 0
    looked_at: int = 0
    not_yet: int = 0
    given_up: int = 0
    unjudged: int = 0
    sampled: int = 0
    damaged: Counter[Kind] = field(default_factory=Counter)
    repaired: Counter[Kind] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    dry_run: bool = False
    seconds: float = 0.0

    def add(self, example: Example, count: int = 1) -> None:
        """A finding."""
        self.damaged[example.kind] += count
        if sum(one.kind is example.kind for one in self.examples) < self.most:
            self.examples.append(example)

    @property
    def left(self) -> dict[Kind, int]:
        """Damage of each kind that is not repaired; what is harmless is left out."""
        mended = Counter[Kind]() if self.dry_run else self.repaired
        return {kind: n for kind in Kind if kind not in HARMLESS and (n := self.damaged[kind] - mended[kind]) > 0}

    def as_json(self) -> dict[str, Any]:
        """One object; every kind is in it."""
        return {
            "collection": self.collection,
            **{name: getattr(self, name) for name in NUMBERS},
            "damaged": {str(kind): self.damaged[kind] for kind in Kind},
            "repaired": {str(kind): self.repaired[kind] for kind in Kind},
            "left": {str(kind): count for kind, count in self.left.items()},
            "dry_run": self.dry_run,
            "examples": [example.as_json() for example in self.examples],
            "notes": self.notes,
            "seconds": round(self.seconds, 3),
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        speed = f", {self.documents / self.seconds:,.0f} documents/s" if self.seconds else ""
        yield (
            f"{self.collection}: {self.documents:,} documents expected by {self.records:,} records, {self.points:,} "
            f"points, in {self.seconds:.1f} s{speed}"
        )
        for count, said in (
            (self.not_yet, "records are not committed yet: not judged"),
            (self.invalid, "records cannot be read: dead letters"),
            (self.given_up, "documents end in a dead letter: not judged"),
            (self.unjudged, "documents are there, and the topic no longer tells of them: not judged"),
        ):
            if count:
                yield f"  {count:,} {said}"
        for kind in Kind:
            if count := self.damaged[kind]:
                yield f"{kind.replace('_', '-')}: {count:,} ({MEANING[kind]}){self._became(kind)}"
                yield from (_line(example) for example in self.examples if example.kind is kind)
        yield from (f"note: {note}" for note in self.notes)
        if not self.left:
            yield "nothing is damaged" if not self.repaired or self.dry_run else "all that was damaged is repaired"

    def _became(self, kind: Kind) -> str:
        if not (count := self.repaired[kind]):
            return ""
        return f"; {count:,} would be repaired" if self.dry_run else f"; {count:,} repaired"


def named(document: DocumentKey) -> str:
    """As the log and other commands name a document."""
    return f"{document.tenant}: {document.document}" if document.tenant else document.document


def _line(example: Example) -> str:
    record = f", record {example.record}" if example.record else ""
    became = f"; {example.became}" if example.became else ""
    return f"  {named(example.document)}: expected {example.expected}, there {example.there}{record}{became}"


def asked_for(newest: Newest | None) -> str:
    """What a document's newest event asks for."""
    if newest is None:
        return "nothing"
    return f"{'a delete' if newest.deleted else 'the document'} at version {_order(*newest.order)}"


def record_of(newest: Newest | None) -> str:
    """The coordinates of a document's newest record."""
    return "" if newest is None else f"{newest.place[0].topic}/{newest.place[0].number}/{newest.place[1]}"


def found(points: list[Held]) -> str:
    """What is there of a document."""
    anchor = next((point for point in points if point.key.chunk == 0), None)
    if anchor is None:
        return f"{len(points)} chunks without an anchor" if points else "nothing"
    order = anchor.stored.order
    same = sum(point.stored.order == order for point in points)
    what = "a tombstone" if anchor.tombstone else f"{same} of {len(anchor.stored.hashes)} chunks"
    others = f" and {len(points) - same} points of other versions" if same < len(points) else ""
    return f"{what} at version {_order(*order)}{others}"


def _order(version: int, sequence: int) -> str:
    """Where the offset is the version it is told once."""
    return str(version) if version == sequence else f"{version} (sequence {sequence})"
