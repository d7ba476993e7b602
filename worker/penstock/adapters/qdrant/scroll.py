"""Points by scrolling: all that a filter accepts, page by page."""

from collections.abc import Iterator, Sequence
from typing import Any

from qdrant_client import grpc

from penstock.adapters.qdrant import points as convert
from penstock.adapters.qdrant.shape import vectors

PAGE = 1000
MAJORITY = grpc.ReadConsistency(type=grpc.ReadConsistencyType.Majority)


def scrolled(
    points: Any, collection: str, where: grpc.Filter, names: Sequence[str], vector: str = ""
) -> Iterator[grpc.RetrievedPoint]:
    """All of them, with these fields of the payload and the vector of that name.

    ``points`` is a stub of Qdrant's Points service, or the embedded one.
    """
    offset: grpc.PointId | None = None
    while True:
        request = grpc.ScrollPoints(
            collection_name=collection,
            filter=where,
            offset=offset,
            limit=PAGE,
            with_payload=convert.fields(names),
            with_vectors=vectors([vector] if vector else []),
            read_consistency=MAJORITY,
        )
        page = points.Scroll(request)
        yield from page.result
        if not page.HasField("next_page_offset"):
            return
        offset = page.next_page_offset


def keep_part(where: grpc.Filter, part: int, parts: int) -> None:
    """Narrow a filter to one of so many parts, by which several share all points."""
    if parts > 1:
        where.must.append(grpc.Condition(slice=grpc.SliceCondition(index=part, total=parts)))
