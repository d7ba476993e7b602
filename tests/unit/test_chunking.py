"""Documents become chunks that fit, and know where they are from."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.documents import Chunk
from penstock.core.errors import InvalidEvent
from penstock.fakes import WordTokenizer
from penstock.index.chunking import Chunker, ChunkRules
from penstock.index.passages import Text

RULES = ChunkRules(size=24, overlap=4, title=True, prompt="", most=50)


def chunker(**changes: object) -> Chunker:
    fields = {name: getattr(RULES, name) for name in ("size", "overlap", "title", "prompt", "most")} | changes
    return Chunker(WordTokenizer(), ChunkRules(**fields))


def chunks(heading: str, text: str, **changes: object) -> tuple[Chunk, ...]:
    found = chunker(**changes).chunk([Text(heading, text)])[0]
    assert not isinstance(found, InvalidEvent)
    return found


WORDS = st.text("ab \n", min_size=1, max_size=400).filter(str.strip)


@given(st.sampled_from(["", "T", "a title of some words that is long"]), WORDS, st.booleans())
def test_chunks_fit_and_lie_where_they_say(title: str, text: str, titled: bool) -> None:
    found = chunks(title, text, title=titled, most=1000)
    for chunk in found:
        assert text[chunk.start : chunk.end] == chunk.text
        assert 0 < len(chunk.tokens) <= RULES.size
    starts = [chunk.start for chunk in found]
    assert starts == sorted(starts)
    words = set(text.split())
    assert words <= {word for chunk in found for word in chunk.text.split()}


def test_what_fits_is_one_chunk_with_the_whole_text() -> None:
    text = " a few words "
    (chunk,) = chunks("title", text)
    assert (chunk.text, chunk.start, chunk.end) == (text, 0, len(text))
    assert chunk.hash == chunker().whole("title", text).hash


def test_every_chunk_of_a_long_document_is_embedded_with_its_title() -> None:
    text = " ".join(f"w{n}" for n in range(100))
    assert {c.tokens[0] for c in chunks("Title", text)} == {WordTokenizer().encode(["Title"])[0][0]}
    assert [c.hash for c in chunks("Title", text)] != [c.hash for c in chunks("Other", text)]
    assert [c.hash for c in chunks("Title", text, title=False)] == [c.hash for c in chunks("", text)]


def test_neighbours_overlap() -> None:
    text = " ".join(f"w{n}" for n in range(100))
    found = chunks("", text)
    assert all(second.start < first.end for first, second in pairwise(found))


def test_too_many_chunks_are_an_invalid_event_and_others_go_on() -> None:
    long, short = " ".join(["word"] * 2000), "word"
    found = chunker(most=3).chunk([Text("", long), Text("", short)])
    assert isinstance(found[0], InvalidEvent)
    assert "index.max_chunks allows 3" in str(found[0])
    assert isinstance(found[1], tuple)


def test_a_chunk_without_tokens_gets_the_same_ones_later() -> None:
    text = " ".join(f"w{n}" for n in range(100))
    for title in ("", "a title that is rather long, longer than an eighth"):
        for chunk in chunks(title, text):
            bare = Chunk(chunk.text, chunk.start, chunk.end, chunk.hash)
            assert chunker().tokens(title, bare) == chunk.tokens


@pytest.mark.parametrize("change", [{"size": 25}, {"overlap": 5}, {"title": False}, {"prompt": "p"}])
def test_the_recipe_tells_of_every_rule_that_decides_what_is_embedded(change: dict[str, object]) -> None:
    assert chunker(**change).rules.fingerprint != RULES.fingerprint
    assert chunker(most=7).rules.fingerprint == RULES.fingerprint
