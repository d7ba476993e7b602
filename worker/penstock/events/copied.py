"""A document on its way from one collection to another, as bytes like any record's value, and back to its event.

Its text is put together of the chunks as they lie in it; what lay between them, which is only white space, is told by
its length alone. Its order is the one that it has.
"""

import json
from collections.abc import Iterable
from typing import Any

from penstock.core.bodies import Heading, shared
from penstock.core.copies import Piece, Whole
from penstock.core.documents import DocumentKey, Event, Op, Order
from penstock.core.records import Partition, Record
from penstock.events.rules import DocumentRules


def text_of(pieces: Iterable[Piece]) -> str:
    """Overlaps once, gaps as spaces."""
    text = ""
    for piece in sorted(pieces, key=lambda piece: piece.start):
        text += " " * (piece.start - len(text)) + piece.text[max(0, len(text) - piece.start) :]
    return text


def headings_of(pieces: Iterable[Piece], title: str = "") -> list[Heading]:
    """Where the path changes there must be a heading: at the chunk's beginning, as far as is known.

    One that is called like the document is in no path, and so it ends those above it.
    """
    found: list[Heading] = []
    above: tuple[str, ...] = ()
    for piece in sorted(pieces, key=lambda piece: piece.start):
        if piece.path != above:
            first = max(0, min(len(shared((above, piece.path))), len(piece.path) - 1))
            path = piece.path or (title,)
            found += [Heading(piece.start, level + 1, path[level]) for level in range(first, len(path))]
            above = piece.path
    return found


def written(document: Whole) -> bytes:
    """A document event, and what else its order, its place and its headings are."""
    fields: dict[str, Any] = {
        "id": document.key.document,
        "tenant": document.key.tenant,
        "version": document.order.version,
        "sequence": document.order.sequence,
        "source": document.source,
        "op": str(Op.UPSERT if document.pieces else Op.DELETE),
        "title": document.title,
        "text": text_of(document.pieces),
        "headings": headings_of(document.pieces, document.title),
        "language": document.language,
        "timestamp": document.timestamp,
        "expires_at": document.expires_at,
        "metadata": document.metadata,
    }
    return json.dumps(fields, ensure_ascii=False).encode()


def read(record: Record, _rules: DocumentRules) -> Event:
    """The event of what was ``written``, as if its record came from where the document did."""
    fields = json.loads(record.value or b"")
    came = _came(fields["source"], record)
    return Event(
        came,
        DocumentKey(fields["tenant"], fields["id"]),
        Order(fields["version"], fields["sequence"]),
        Op(fields["op"]),
        title=fields["title"],
        text=fields["text"],
        language=fields["language"],
        timestamp=fields["timestamp"],
        expires_at=fields["expires_at"],
        metadata=fields["metadata"],
        headings=tuple(Heading(*heading) for heading in fields["headings"]),
    )


def _came(source: str, record: Record) -> Record:
    """As if it came from there; of a point that does not say, from the collection."""
    topic, partition, offset = source.rsplit("/", 2) if source.count("/") > 1 else ("", "", "")
    if not (partition.isdecimal() and offset.isdecimal()):
        return record
    return Record(Partition(topic, int(partition)), int(offset), record.key, record.value)
