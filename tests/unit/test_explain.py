"""What is made of a document's points, records and letters, and of a query's way: the rules, as pure functions."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from penstock.adapters.kafka.keyed import partition_of
from penstock.commands.explain import _when
from penstock.core.documents import ChunkKey, DocumentKey, Order, Stored
from penstock.core.explained import StoredPoint
from penstock.core.inventory import Held
from penstock.core.letters import OFFSET, PARTITION, TOPIC, read_letter
from penstock.core.offsets import GroupStanding, Standing
from penstock.core.queries import Hit, Query, Ranked, Shaping, Threshold
from penstock.core.records import Headers, Partition, Place, Record
from penstock.events.rules import DocumentRules
from penstock.operate.explain import (
    State,
    document_of,
    in_words,
    is_letter_of,
    key_of,
    past,
    sighting,
    source_of,
)
from penstock.query.explain import sought, why_dropped

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
RIVER = DocumentKey("acme", "river")
BASE = 1 << 48
KEYED = DocumentRules(tenant_from="key")


def point(chunk: int, order: int, recipe: int = 1, chunks: int = 0, **more: str) -> StoredPoint:
    hashes = tuple(f"h{n}" for n in range(chunks))
    stored = Stored(Order(BASE + order, BASE + order), recipe, f"h{chunk}", hashes, "deleted" in more)
    held = Held(ChunkKey(*RIVER, chunk), stored, "", more.get("expires", ""), "documents/2/7")
    return StoredPoint(held, "words")


def chunks(points: tuple[StoredPoint, ...]) -> list[int]:
    return [point.held.key.chunk for point in points]


@pytest.mark.parametrize(
    ("points", "state"),
    [
        ([], State.UNKNOWN),
        ([point(1, 5)], State.WITHOUT_ANCHOR),
        ([point(0, 5, chunks=1)], State.SEARCHABLE),
        ([point(0, 5, deleted="yes")], State.DELETED),
        ([point(0, 5, chunks=1, expires="2026-11-27T12:00:00Z")], State.EXPIRED),
        ([point(0, 5, chunks=1, expires="2026-11-27T12:00:01Z")], State.SEARCHABLE),
    ],
)
def test_a_document_is_what_its_anchor_says(points: list[StoredPoint], state: State) -> None:
    assert document_of(RIVER, points, NOW).state is state


def test_points_of_other_versions_than_the_anchors_are_told_apart() -> None:
    points = [point(0, 5, chunks=4), point(1, 5), point(2, 5, recipe=2), point(3, 4), point(4, 3), point(5, 6)]
    told = document_of(RIVER, points, NOW)
    assert (chunks(told.current), chunks(told.below), chunks(told.above)) == ([0, 1, 2], [3, 4], [5])
    assert told.missing == (3,)


def event(key: bytes | None, value: object, offset: int = 7, headers: Headers = ()) -> Record:
    body = None if value is None else json.dumps(value).encode()
    return Record(Partition("documents", 2), offset, key, body, headers)


@pytest.mark.parametrize(("offset", "compared"), [(6, "older"), (7, "equal"), (8, "newer")])
def test_a_record_is_compared_with_what_is_stored(offset: int, compared: str) -> None:
    for value, became in (({"id": "river", "text": "words"}, "indexed"), (None, "deleted")):
        seen = sighting(event(b"acme/river", value, offset), RIVER, point(0, 7, chunks=1), KEYED)
        assert seen is not None
        assert (seen.became, seen.compared, seen.place) == (became, compared, Place("documents", 2, offset))


def test_a_delete_without_a_version_has_the_highest_that_is_known() -> None:
    rules = replace(KEYED, order="event")
    anchor = point(0, 7, chunks=1)
    versioned = anchor._replace(
        held=anchor.held._replace(stored=replace(anchor.held.stored, order=Order(90, BASE + 7)))
    )
    seen = sighting(event(b"acme/river", None, 8), RIVER, versioned, rules)
    assert seen is not None
    assert seen.compared == "newer"


@pytest.mark.parametrize(
    ("key", "value", "about"),
    [
        (b"acme/river", {"id": "river", "text": "words"}, True),
        (b"acme/river", {"id": "lake", "text": "words"}, True),
        (b"acme/river", "nonsense", True),
        (b"other/river", {"id": "river", "text": "words"}, False),
        (b"acme/lake", {"id": "lake", "text": "words"}, False),
        (b"river", {"id": "river", "text": "words"}, False),
        (b"\xff", {"id": "river", "text": "words"}, False),
        (None, {"id": "river", "text": "words"}, False),
    ],
)
def test_a_record_is_about_the_document_that_its_key_names_even_if_it_cannot_be_read(
    key: bytes | None,
    value: object,
    about: bool,
) -> None:
    assert (sighting(event(key, value), RIVER, None, KEYED) is not None) == about


def test_where_keys_do_not_count_the_body_tells() -> None:
    rules = DocumentRules(key="ignore", tenant_from="fixed", tenant="acme")
    assert sighting(event(b"7", {"id": "river", "text": "words"}), RIVER, None, rules)
    assert sighting(event(b"river", {"id": "lake", "text": "words"}), RIVER, None, rules) is None
    assert sighting(event(b"river", "nonsense"), RIVER, None, rules) is None


@pytest.mark.parametrize(
    ("rules", "key"),
    [
        (KEYED, b"acme/river"),
        (DocumentRules(), b"river"),
        (DocumentRules(key_format="json"), b'"river"'),
        (DocumentRules(key_format="long"), None),
        (DocumentRules(key="ignore"), None),
    ],
)
def test_the_key_of_a_document_is_known_where_it_is_written_so(rules: DocumentRules, key: bytes | None) -> None:
    assert key_of(RIVER, rules) == key


def test_keys_lie_where_the_java_client_puts_them() -> None:
    """By the values of its own test of murmur2, see UtilsTest.testMurmur2: 21 is -973932308, foobar -790332482."""
    for key, hashed in ((b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536)):
        assert partition_of(key, 1000) == (hashed & 0x7FFFFFFF) % 1000


def letter(key: bytes | None, place: tuple[str, int, int] | None) -> Record:
    told = (
        () if place is None else tuple(zip((TOPIC, PARTITION, OFFSET), (str(p).encode() for p in place), strict=True))
    )
    return Record(Partition("documents.dlq", 0), 0, key, b"{", told)


@pytest.mark.parametrize(
    ("record", "its"),
    [
        (letter(b"acme/river", ("documents", 2, 9)), True),
        (letter(b"acme/river", None), True),
        (letter(b"acme/lake", ("documents", 2, 9)), False),
        (letter(None, ("documents", 2, 7)), True),
        (letter(None, ("documents", 1, 7)), False),
    ],
)
def test_a_letter_is_found_by_its_key_or_by_where_its_record_lay(record: Record, its: bool) -> None:
    places = {Place("documents", 2, 7)}
    assert is_letter_of(record, read_letter(record), RIVER, places, KEYED) == its


def test_a_source_is_a_place_on_a_topic() -> None:
    assert source_of(point(0, 7)) == Place("documents", 2, 7)
    anchor = point(0, 7)
    assert source_of(anchor._replace(held=anchor.held._replace(source="events.jsonl"))) is None
    assert source_of(None) is None


@pytest.mark.parametrize(("committed", "told"), [(8, (True, 1)), (7, (False, 0)), (None, (False, 7))])
def test_a_group_is_past_a_record_when_it_has_committed_the_next(committed: int | None, told: tuple[bool, int]) -> None:
    group = GroupStanding("group", "Empty", (), {Partition("documents", 2): Standing(0, 9, committed)})
    assert past(group, Place("documents", 2, 7)) == told
    assert past(group, Place("documents", 1, 7)) is None


def test_an_order_is_told_by_its_epoch_and_offset() -> None:
    assert in_words(Order(BASE + 7, BASE + 7)) == "epoch 1, offset 7"
    assert in_words(Order(90, 2 * BASE + 7)) == "version 90, epoch 2, offset 7"
    assert in_words(Order(12, 12)) == "of a file, 12"


def hits(*names: str) -> list[Hit]:
    stored = Stored(Order(1, 1), 1)
    return [Hit(ChunkKey("", name, 0), 1.0 / n, stored, "", "", {}) for n, name in enumerate(names, 1)]


@pytest.mark.parametrize(
    ("name", "shaping", "top_k", "why"),
    [
        ("a", Shaping(), 2, ""),
        ("c", Shaping(), 2, "top_k: it comes at place 3, 2 are answered"),
        ("c", Shaping(threshold=Threshold(retrieval_score=0.5)), 2, "score_threshold"),
        ("b", Shaping(diversity=0.9), 2, "diversity"),
    ],
)
def test_a_candidate_is_left_out_by_a_rule(name: str, shaping: Shaping, top_k: int, why: str) -> None:
    found = hits("a", "b", "c")
    query = Query("q", "", "words", top_k, 10, 1.0, shaping=shaping)
    whole = [Ranked(hit, hit.score, n) for n, hit in enumerate(found, 1)]
    answer = [one for one in whole if one.hit.key.document != "b" or not shaping.diversity][:top_k]
    answer = [one for one in answer if not shaping.threshold or one.hit.key.document == "a"]
    story = sought(query, name, found, whole, answer, "")
    assert why_dropped(story).startswith(why)
    assert bool(why_dropped(story)) == bool(why)
    assert story.retrieved == {"a": 1, "b": 2, "c": 3}[name]


def test_any_time_of_a_record_can_be_told() -> None:
    for time_ms, said in ((None, "at no known time"), (1000, "1970-01-01T00:00:01Z"), (-5, "1970-01-01T00:00:00Z")):
        assert _when(time_ms) == said
    assert {_when(1_800_000_000 * 10**unit) for unit in (6, 9)} == {"9999-12-31T23:59:59Z"}
