"""What the terms of a text are."""

import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.adapters.stems import stemmed
from penstock.core.errors import Misconfigured
from penstock.core.terms import K1, MOST_TERMS, Weighting, contained, reach, spelt, verbatim, words

W = Weighting()


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("foo_bar-2.0", "foo_bar-2.0 foo bar 2 0"),
        ("libfoo6", "libfoo6 libfoo 6"),
        ("HTTPServer getFileName", "httpserver http server getfilename get file name"),
        ("C++ c# g++-12", "c++ c c# c g++-12 g 12"),
        ("__init__ ___ -v --dry-run", "init v dry-run dry run"),
        ("a@b.com 1.2.3", "a@b.com a b com 1.2.3 1 2 3"),
        ("Straße Café ﬁle E\u0301tude İstanbul", "strasse cafe file etude istanbul"),
        ("l'eau. Don't!", "l eau don t"),
        ("العَرَبِيَّة הָעִבְרִית", "العربية העברית"),
        ("हिन्दी में", "हिन्दी में"),
        ("iPhoneの新機能", "iphone i phone の新 新機 機能"),
        ("水 水車", "水 水車"),
        ("한국어 문서를", "한국 국어 문서 서를"),
        ("ภาษาไทย", "ภา าษ ษา าไ ไท ทย"),
        ("x" * 200, ""),
    ],
)
def test_words_whole_and_in_parts_without_case_or_accents(text: str, terms: str) -> None:
    assert [term for word in words(text) for term in spelt(word)] == terms.split()


@given(st.text())
def test_any_text_has_terms_that_a_store_takes(text: str) -> None:
    """32-bit numbers, ascending, each once, with weights between 0 and BM25's limit; the query asks for the same."""
    terms = W.of_document(text)
    assert list(terms.indices) == sorted(set(terms.indices))
    assert all(0 <= term < 2**32 for term in terms.indices)
    assert all(0 < weight < K1 + 1 for weight in terms.weights)
    assert set(W.of_query(text, sys.maxsize)) == set(terms.indices)
    assert len(W.of_query(text)) == min(MOST_TERMS, len(terms.indices))


def test_a_repeated_word_says_less_and_less_and_a_long_text_less_than_a_short_one() -> None:
    once, twice, often = (W.of_document("water " * n).weights[0] for n in (1, 2, 50))
    assert once < twice < often < K1 + 1
    assert twice - once > often - W.of_document("water " * 49).weights[0]
    assert W.of_document("water " + "and stone " * 200).weights != ()
    alone, among = W.of_document("water"), W.of_document("water " + " ".join(f"w{n}" for n in range(500)))
    weight = dict(zip(among.indices, among.weights, strict=True))[alone.indices[0]]
    assert weight < alone.weights[0]


def test_a_word_that_is_nowhere_counts_as_much_as_the_best() -> None:
    assert reach([1.0, 3.0]) == 4
    assert reach([1.0, 3.0, None]) == 7
    assert reach([None, None]) == 0
    assert reach([]) == 0


def test_a_text_of_one_endless_word_takes_no_longer_than_another() -> None:
    """Data in base 64, and a page of Chinese without a space."""
    begun = time.perf_counter()
    assert W.of_document("QmFzZTY0" * 100_000).indices == []
    assert len(W.of_document("水車は川の水で回る" * 10_000).indices) < 20
    assert time.perf_counter() - begun < 10


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ('packages with "Open Source" code', ["open source"]),
        ("„große Straße“ und «l'eau» 「川の水」", ["grosse strasse", "l eau", "川の水"]),
        ("does libfoo6 need foo_bar-2.0, std::vector or C++?", ["libfoo6", "foo_bar-2.0", "std::vector", "c++"]),
        ('the "libfoo6 package" of libfoo6', ["libfoo6 package", "libfoo6"]),
        ("a state-of-the-art pump in 2026 at 5.0 bar and/or more, e.g. in the U.S.", []),
        ('5" of water and "" or "?"', []),
        ("__init__", []),
    ],
)
def test_quoted_phrases_and_identifiers_are_asked_for_as_they_are_written(query: str, asked: list[str]) -> None:
    assert [one.strip() for one in verbatim(query)] == asked


def test_a_text_contains_a_phrase_word_by_word() -> None:
    both = verbatim('"open source" libfoo6')
    assert contained("It is Open\nSource, see libfoo6.", both) == 1
    assert contained("open sources; libfoo6", both) == 0.5
    assert contained("reopen source of libfoo", both) == 0


def test_words_of_letters_are_reduced_to_their_stems_and_others_stay() -> None:
    german = stemmed(Weighting(), "german")
    assert german.of_query("Turbinen") == german.of_query("turbine") == german.of_query("TURBINE")
    assert german.of_query("Häuser") == german.of_query("haus")
    assert set(german.of_query("libfoo6")) >= set(Weighting().of_query("libfoo6")) - set(Weighting().of_query("libfoo"))
    assert german.of_query("水力発電") == Weighting().of_query("水力発電")
    assert Weighting().of_query("Turbinen") != Weighting().of_query("turbine")
    assert (german.version, german.language) == (2, "german")


def test_stems_of_an_unknown_language_are_refused() -> None:
    with pytest.raises(Misconfigured, match=r"there are no stems of 'klingon': arabic, .*german"):
        stemmed(Weighting(), "klingon")
