"""Where a query's words are in a text, in any script."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.terms import Weighting
from penstock.query.highlight import wanted


def shown(query: str, text: str) -> str:
    """With what is found in brackets."""
    made, at = "", 0
    for start, end in wanted(query).spans(text):
        made += f"{text[at:start]}[{text[start:end]}]"
        at = end
    return made + text[at:]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("how to use git with C++", "[Git] is old, gitk is not. [C++] is with it."),
        ("turbine", "[Turbines] and [TURBINE] in a sub-[turbine]"),
        ("Türbine", "a [turbine]"),
        ("café", "un [café], un [cafe\u0301], un [CAFÉ]"),
        ("水力発電", "日本の[水力発電]所は水を使う"),
        ("ภาษาไทย", "เรียน[ภาษาไทย]วันนี้"),
        ("한국어", "[한국어]를 배우다"),
        ("東京 tower", "[東京][Tower]と塔".replace("][", "")),
        ("libfoo6", "the [libfoo6] package, [libfoo]"),
        ("server", "an HTTP[Server]"),
        ('"see foo_bar-2.0"', "[see] [foo_bar-2.0]."),
        ("Bücher über Wasser", "[Bücher] über dem [Wasser]"),
        ("o que não é água", "que não é [água]"),
        ("the who", "[the] [who] and whoever"),
        ("!?", "nothing !? at all"),
        ("emoji 😀", "😀😀 an [emoji] 😀"),
    ],
)
def test_the_words_of_a_query_are_found_as_they_are_searched_for(query: str, text: str) -> None:
    assert shown(query, text.replace("[", "").replace("]", "")) == text


@given(st.text(max_size=60), st.text(max_size=300))
def test_spans_lie_in_the_text_in_order_and_apart(query: str, text: str) -> None:
    last = -1
    for start, end in wanted(query).spans(text):
        assert last < start < end <= len(text)
        last = end


@given(
    st.lists(st.sampled_from(["water", "水力発電", "libfoo6", "foo_bar-2.0", "Größe", "C++"]), min_size=1, max_size=5)
)
def test_a_text_with_a_term_of_the_query_has_a_span(words: list[str]) -> None:
    text = " ".join(words)
    for word in words:
        assert set(Weighting().of_query(word)) <= set(Weighting().of_query(text))
        assert wanted(word).spans(text)
