"""Finding by words, and by words and vectors together: one suite for every store."""

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from penstock.adapters.qdrant.collection import find_collection, open_collection
from penstock.adapters.qdrant.connection import Connection
from penstock.adapters.qdrant.shape import Shape
from penstock.adapters.qdrant.store import QdrantStore
from penstock.core.documents import Chunk, DocumentKey, Event, Op, Order, Point
from penstock.core.errors import Misconfigured
from penstock.core.filters import Filter
from penstock.core.identity import ModelIdentity
from penstock.core.queries import Hit, Lookup
from penstock.core.records import Partition, Record
from penstock.core.terms import AVERAGE, K1, B, Weighting
from penstock.core.vectors import Vector
from penstock.index.plan import text_hash
from penstock.settings import QdrantSettings
from tests.contracts.test_reading import Requests
from tests.stores import KINDS, Store, empty_store

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
IDENTITY = ModelIdentity("model", "1", "mean", "", "", 4)
SECTION = Filter(field="metadata.section", equals="pumps")

TEXTS = {
    "turbine": "Water drives the turbine, and the turbine drives the generator.",
    "valve": "A valve stops the water. Part number HX-200/7.",
    "poem": "The river runs to the sea.",
    "manual": "Call open_valve() of libpump6 before the water comes.",
    "ventil": "Das Ventil schließt, wenn das Wasser steigt.",
    "水車": "水車は川の水で回る。",
}


def vector(seed: int) -> Vector:
    row = np.random.default_rng(seed).standard_normal(4)
    return (row / np.linalg.norm(row)).astype(np.float32)


def point(name: str, text: str | None, tenant: str = "acme", version: int = 5, **fields: object) -> Point:
    record = Record(Partition("documents", 0), 1, None, None)
    op = Op.DELETE if text is None else Op.UPSERT
    event = Event(record, DocumentKey(tenant, name), Order(version, 1), op, **{"title": "", **fields})  # type: ignore[arg-type]
    if text is None:
        return Point(event, 0, 1)
    chunk = Chunk(text, 0, len(text), text_hash(text))
    return Point(event, 0, 1, (chunk.hash,), chunk, vector(len(name)))


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Empty, of each kind."""
    with empty_store(request, tmp_path, IDENTITY) as store:
        yield store


@pytest.fixture
def filled(store: Store) -> Store:
    store.upsert(
        [point(name, text, metadata={"section": "pumps"} if "v" in name else {}) for name, text in TEXTS.items()]
    )
    return store


def by_words(store: Store, words: str, tenant: str = "acme", limit: int = 5, only: Filter | None = None) -> list[Hit]:
    (hits,) = store.search([Lookup(None, tenant, limit, NOW, only, words)])
    return hits


def names(hits: list[Hit]) -> list[str]:
    return [hit.key.document for hit in hits]


def bm25(store_texts: list[str], terms: int, count: int, having: int) -> float:
    """Of one term, as the literature has it."""
    rarity = math.log((len(store_texts) - having + 0.5) / (having + 0.5) + 1)
    return rarity * count * (K1 + 1) / (count + K1 * (1 - B + B * terms / AVERAGE))


def test_what_has_the_words_is_found_the_rarest_and_most_frequent_first(filled: Store) -> None:
    assert names(by_words(filled, "turbine")) == ["turbine"]
    assert names(by_words(filled, "water turbine"))[0] == "turbine"
    assert set(names(by_words(filled, "Water"))) == {"turbine", "valve", "manual"}
    assert by_words(filled, "unheard") == []
    assert by_words(filled, "?!") == []


@pytest.mark.parametrize(
    ("words", "found"),
    [("hx-200/7", "valve"), ("HX", "valve"), ("open_valve", "manual"), ("libpump6", "manual"), ("libpump", "manual"),
     ("SCHLIESST", "ventil"), ("schließt", "ventil"), ("水車", "水車"), ("川の水", "水車")],
)  # fmt: skip
def test_identifiers_are_found_whole_and_in_parts_and_words_without_case_or_accents(
    filled: Store, words: str, found: str
) -> None:
    assert names(by_words(filled, words))[0] == found


def test_a_score_is_the_share_of_what_the_words_could_reach(filled: Store) -> None:
    """Alone a word reaches what it can; with one that is nowhere half of that; in between it is a sum over terms."""
    (whole,), (half,) = by_words(filled, "turbine"), by_words(filled, "turbine unheard")
    assert whole.score == pytest.approx(1, abs=1e-6)
    assert half.score == pytest.approx(0.5, abs=1e-6)
    texts = list(TEXTS.values())
    turbine, drives = bm25(texts, 10, 2, 1), bm25(texts, 10, 2, 1)
    water = {"turbine": bm25(texts, 10, 1, 3), "valve": bm25(texts, 11, 1, 3), "manual": bm25(texts, 14, 1, 3)}
    reach = turbine + drives + max(water.values())
    shares = {hit.key.document: hit.score for hit in by_words(filled, "turbine drives water")}
    assert shares["turbine"] == pytest.approx((turbine + drives + water["turbine"]) / reach, abs=1e-4)
    assert shares["valve"] == pytest.approx(water["valve"] / reach, abs=1e-4)


def test_by_words_and_vectors_both_find_and_all_have_both_scores(filled: Store) -> None:
    """The nearest two, and the two with most of the words: each with its place in the list that found it."""
    query = vector(len("poem"))
    (near,) = filled.search([Lookup(query, "acme", 2, NOW)])
    matching = by_words(filled, "the water of the turbine", limit=2)
    (both,) = filled.search([Lookup(query, "acme", 2, NOW, None, "the water of the turbine")])
    assert set(names(both)) == {*names(near), *names(matching)}
    sides = {hit.key.document: hit for hit in both}
    for rank, hit in enumerate(near, 1):
        dense = sides[hit.key.document].dense
        assert dense is not None
        assert dense.rank == rank
        assert dense.score == pytest.approx(hit.score, abs=1e-5)
    for rank, hit in enumerate(matching, 1):
        sparse = sides[hit.key.document].sparse
        assert sparse is not None
        assert sparse.rank == rank
        assert sparse.score == pytest.approx(hit.score, abs=1e-5)
    assert all(hit.dense is not None for hit in both)


def test_what_readers_may_not_see_is_not_found_by_its_words(store: Store) -> None:
    store.upsert([
        point("gone", "a turbine"), point("late", "a turbine", expires_at="2026-11-23T12:00:00Z"),
        point("other", "a turbine", tenant="other"), point("here", "a turbine"),
    ])  # fmt: skip
    store.upsert([point("gone", None, version=6)])
    assert names(by_words(store, "turbine")) == ["here"]
    (both,) = store.search([Lookup(vector(1), "acme", 5, NOW, None, "turbine")])
    assert names(both) == ["here"]


def test_filters_narrow_what_words_find(filled: Store) -> None:
    assert names(by_words(filled, "water", only=SECTION)) == ["valve"]
    (both,) = filled.search([Lookup(vector(1), "acme", 5, NOW, SECTION, "water turbine")])
    assert set(names(both)) == {"valve", "ventil"}


def test_what_other_tenants_write_changes_no_score(filled: Store) -> None:
    before = [(hit.key, hit.score) for hit in by_words(filled, "water turbine")]
    filled.upsert([point(f"n{n}", "turbine after turbine", tenant="other") for n in range(20)])
    after = by_words(filled, "water turbine")
    assert [hit.key for hit in after] == [key for key, _ in before]
    assert [hit.score for hit in after] == pytest.approx([score for _, score in before], abs=1e-6)


def test_words_follow_a_document_that_changes(filled: Store) -> None:
    """Its text anew, then its title alone, whose vector is kept, then older news, which change nothing."""
    filled.upsert([point("poem", "An ode to the turbine.", version=6)])
    assert names(by_words(filled, "river")) == []
    assert set(names(by_words(filled, "turbine"))) == {"turbine", "poem"}
    filled.patch([replace(point("poem", "An ode to the turbine.", version=7, title="Francis"), vector=None)])
    assert names(by_words(filled, "francis")) == ["poem"]
    assert set(names(by_words(filled, "turbine"))) == {"turbine", "poem"}
    filled.upsert([point("poem", "The river again.", version=6)])
    assert names(by_words(filled, "river")) == []


def test_lookups_with_words_and_without_are_answered_together(filled: Store) -> None:
    lookups = [
        Lookup(None, "acme", 3, NOW, None, "turbine"),
        Lookup(vector(len("poem")), "acme", 1, NOW),
        Lookup(None, "acme", 3, NOW, None, "..."),
        Lookup(vector(3), "acme", 1, NOW, None, "generator"),
    ]
    first, second, third, fourth = filled.search(lookups)
    assert names(first) == ["turbine"]
    assert len(second) == 1
    assert second[0].sparse is None
    assert third == []
    assert "turbine" in names(fourth)


@pytest.mark.parametrize(("near", "words"), [(True, ""), (False, "turbine"), (True, "turbine")])
def test_hits_bring_their_moment_and_on_demand_their_vector(store: Store, near: bool, words: str) -> None:
    store.upsert([point("turbine", "a turbine", timestamp="2026-11-01T00:00:00Z"), point("sea", "the sea")])
    for wanted in (False, True):
        lookup = Lookup(vector(len("turbine")) if near else None, "acme", 5, NOW, None, words, wanted)
        hits = {hit.key.document: hit for hit in store.search([lookup])[0]}
        assert hits["turbine"].timestamp == "2026-11-01T00:00:00Z"
        assert all(hit.timestamp is None for name, hit in hits.items() if name == "sea")
        for name, hit in hits.items():
            assert (hit.vector is not None) == wanted
            assert hit.vector is None or hit.vector == pytest.approx(vector(len(name)), abs=1e-6)


def test_every_stage_of_a_search_by_words_carries_the_filter_of_its_tenant() -> None:
    requests = Requests()
    store = QdrantStore(requests, "c", Shape(4, 0, Weighting()))
    store.search([Lookup(vector(1), "acme", 5, NOW, SECTION, "water turbine")])
    near, matching, *alone = requests.seen
    assert [query.using for query in requests.seen] == ["dense", "terms", "terms", "terms"]
    assert [query.limit for query in requests.seen] == [10, 10, 1, 1]
    assert [query.with_payload.HasField("include") for query in requests.seen] == [True, False, False, False]
    stages = [*requests.seen, *near.prefetch, *matching.prefetch]
    assert [(stage.using, stage.limit) for stage in stages[4:]] == [("dense", 5), ("terms", 5)] * 2
    assert [list(query.query.nearest.sparse.values) for query in alone] == [[1.0], [1.0]]
    for stage in stages:
        assert [condition.field.key for condition in stage.filter.must] == ["tenant", "metadata.section"]
        assert stage.filter.must[0].field.match.keyword == "acme"
        assert {condition.field.key for condition in stage.filter.must_not} == {"deleted", "expires_at"}
        if stage.using == "terms":
            (own,) = stage.params.idf.corpus.must
            assert (own.field.key, own.field.match.keyword) == ("tenant", "acme")


def test_a_collection_keeps_what_it_was_made_with() -> None:
    """Workers follow the collection: one without terms stays so, and is searched by vectors."""
    bare = Connection(QdrantSettings(path=Path(":memory:"), terms=False))
    with closing(bare) as connection:
        made = open_collection(connection, "documents", IDENTITY)
        assert made.shape == Shape(4)
        assert open_collection(Connection(QdrantSettings(), connection._services), "documents", IDENTITY) == made
        store = connection.store(made)
        assert not store.has_terms
        store.upsert([point("valve", TEXTS["valve"])])
        assert names(store.search([Lookup(vector(1), "acme", 5, NOW, None, "unheard")])[0]) == ["valve"]


def test_terms_of_a_later_version_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Connection(QdrantSettings(path=Path(":memory:")))) as connection:
        with monkeypatch.context() as later:
            later.setattr(Connection, "terms", Weighting(version=3))
            with pytest.raises(Misconfigured, match="terms of version 3"):
                open_collection(connection, "documents", IDENTITY)
        with pytest.raises(Misconfigured, match="terms of version 3"):
            find_collection(connection, "documents", IDENTITY)


def test_a_collection_of_stems_is_searched_by_stems_whoever_opens_it(tmp_path: Path) -> None:
    with closing(Connection(QdrantSettings(path=tmp_path, terms_language="german"))) as connection:
        store = connection.store(open_collection(connection, "documents", IDENTITY))
        store.upsert([point("ventil", "Das Ventil schließt, wenn das Wasser steigt."), point("hydro", "Turbinen")])
    with closing(Connection(QdrantSettings(path=tmp_path))) as connection:
        store = connection.store(find_collection(connection, "documents", IDENTITY))
        (hits,) = store.search([Lookup(None, "acme", 10, NOW, text="die Turbine")])
        assert [hit.key.document for hit in hits] == ["hydro"]
        (hits,) = store.search([Lookup(None, "acme", 10, NOW, text="steigende Ventile")])
        assert [hit.key.document for hit in hits] == ["ventil"]
        store.upsert([point("more", "eine Turbine")])
        (hits,) = store.search([Lookup(None, "acme", 10, NOW, text="turbinen")])
        assert {hit.key.document for hit in hits} == {"hydro", "more"}
