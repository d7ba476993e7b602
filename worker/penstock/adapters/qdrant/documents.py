"""The documents of a collection as a stream: each with the order that it has, for a collection that comes after it."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from qdrant_client import grpc
from typing_extensions import override

from penstock.adapters.qdrant import points as convert
from penstock.adapters.qdrant.channel import about_no_document
from penstock.adapters.qdrant.scroll import MAJORITY, keep_part
from penstock.adapters.qdrant.slices import slices
from penstock.core.copies import Piece, Whole
from penstock.core.documents import ChunkKey, DocumentKey
from penstock.core.ports import Source
from penstock.core.records import Batch, Partition, Position, Record

PAGE = 200
FIELDS = (*convert.HIT_FIELDS, "language", "expires_at", "source")


class CollectionSource(Source):
    """Every document of a collection, and every tombstone, once, part by part; its records are counted by their offset.

    A document that is not whole, because it is being written, or was left so, is passed over.
    """

    def __init__(
        self,
        points: Any,
        collection: str,
        parts: Iterable[int],
        written: Callable[[Whole], bytes],
        *,
        of: int = 1,
        copied: Callable[[int], None] = lambda _: None,
        passed_over: Callable[[DocumentKey], None] = lambda _: None,
    ) -> None:
        """``points`` is a stub of Qdrant's Points service, or the embedded one; ``written`` makes a record's value.

        The ``parts`` are asked for one after the other, numbers below ``of``; ``copied`` hears of each whose records
        are all committed. Both may raise Unavailable, as ``poll`` does then.
        """
        self._points, self._collection, self._of = points, collection, of
        self._parts, self._written, self._copied, self._passed_over = iter(parts), written, copied, passed_over
        self._partition = Partition(collection, 0)
        self._read = self._committed = 0
        self._part: int | None = None
        self._offset: grpc.PointId | None = None
        self._exhausted = self._ended = False

    @override
    def poll(self, timeout_s: float, *, hold: bool = False) -> Batch | None:
        """Raises Unavailable, or Misconfigured when refused."""
        if hold:
            return None
        if self._exhausted and self._read == self._committed and self._part is not None:
            self._copied(self._part)
            self._part, self._exhausted = None, False
        if self._part is None and not self._ended:
            self._part, self._offset = next(self._parts, None), None
            self._ended = self._part is None
        if self._ended or self._exhausted:
            time.sleep(timeout_s)  # as the port says; a loop that spun here would keep the stages from their work
            return None
        with about_no_document():
            whole = self._page()
        records = tuple(
            Record(self._partition, self._read + at, None, self._written(document)) for at, document in enumerate(whole)
        )
        self._read += len(records)
        return Batch(records, {self._partition: Position(self._read, 0)}) if records else None

    @override
    def commit(self, positions: Mapping[Partition, Position]) -> None:
        for position in positions.values():
            self._committed = position.offset

    @override
    def touch(self, record: Record) -> bool:
        return True

    @override
    def excuse(self) -> None:
        """Nothing is blamed here."""

    @override
    def remaining(self) -> int | None:
        return 0 if self._ended else None

    @override
    def close(self, timeout_s: float) -> None:
        self._ended = True

    def _page(self) -> list[Whole]:
        """The documents of the next anchors."""
        where = convert.anchors_only()
        keep_part(where, self._part or 0, self._of)
        request = grpc.ScrollPoints(
            collection_name=self._collection,
            filter=where,
            offset=self._offset,
            limit=PAGE,
            with_payload=convert.fields(FIELDS),
            read_consistency=MAJORITY,
        )
        page = self._points.Scroll(request)
        others = self._others(page.result)
        self._exhausted = not page.HasField("next_page_offset")
        self._offset = page.next_page_offset
        return list(self._whole(page.result, others))

    def _others(self, anchors: Sequence[grpc.RetrievedPoint]) -> dict[str, grpc.RetrievedPoint]:
        """The other chunks of these documents, by their ids."""
        keys = [convert.key_of(point.payload) for point in anchors]
        counts = [len(point.payload["hashes"].list_value.values) for point in anchors]
        ids = [
            convert.point_id(key._replace(chunk=n)) for key, count in zip(keys, counts, strict=True)
            for n in range(1, count)
        ]  # fmt: skip
        found: dict[str, grpc.RetrievedPoint] = {}
        for some in slices(ids, PAGE * 5):
            request = grpc.GetPoints(
                collection_name=self._collection,
                ids=some,
                with_payload=convert.fields(FIELDS),
                read_consistency=MAJORITY,
            )
            found |= {point.id.uuid: point for point in self._points.Get(request).result}
        return found

    def _whole(
        self, anchors: Sequence[grpc.RetrievedPoint], others: Mapping[str, grpc.RetrievedPoint]
    ) -> Iterator[Whole]:
        for anchor in anchors:
            key, stored = convert.key_of(anchor.payload), convert.stored_of(anchor.payload)
            chunks = deque([] if stored.deleted else [anchor])
            for n in range(1, len(stored.hashes)):
                chunk = others.get(convert.point_id(ChunkKey(key.tenant, key.document, n)).uuid)
                there = None if chunk is None else convert.stored_of(chunk.payload)
                if chunk is None or there is None or not there.same(stored.order, stored.recipe):
                    self._passed_over(DocumentKey(key.tenant, key.document))
                    break
                chunks.append(chunk)
            else:
                yield _document(key, anchor.payload, [_piece(chunk.payload) for chunk in chunks])


def holds_others(points: Any, collection: str) -> bool:
    """Whether there are documents of files, or of a backfill: no topic that is followed has them."""
    request = grpc.ScrollPoints(
        collection_name=collection,
        filter=convert.of_files(),
        limit=1,
        with_payload=convert.fields(("document",)),
        read_consistency=MAJORITY,
    )
    with about_no_document():
        return bool(points.Scroll(request).result)


def _piece(payload: Mapping[str, grpc.Value]) -> Piece:
    path = tuple(value.string_value for value in payload["headings"].list_value.values)
    return Piece(payload["text"].string_value, payload["start"].integer_value, path)


def _document(key: ChunkKey, payload: Mapping[str, grpc.Value], pieces: Sequence[Piece]) -> Whole:
    told = {name: payload[name].string_value or None for name in ("language", "timestamp", "expires_at")}
    return Whole(
        DocumentKey(key.tenant, key.document),
        convert.stored_of(payload).order,
        payload["source"].string_value,
        pieces,
        payload["title"].string_value,
        metadata=convert.value_of(payload["metadata"]) or {},
        **told,
    )
