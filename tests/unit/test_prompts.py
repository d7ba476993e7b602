"""What surrounds a text: byte for byte what the model cards say, and nothing that a text can break out of."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InvalidEvent
from penstock.models import prompts
from penstock.models.prompts import fill
from penstock.models.reranker import PairTokenizer
from penstock.models.tokenizer import HubTokenizer
from tests.checkpoints import NOT_SPECIAL, SPECIAL, tokenizer

TASK = "Given a web search query, retrieve relevant passages that answer the query"

PAIR_ON_THE_CARD = (
    '<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'  # noqa: E501
    "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"
    "<Query>: What is the capital of China?\n"
    "<Document>: The capital of China is Beijing.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
)
"""As the transformers example of Qwen3-Reranker writes it; its evaluation code has blank lines between the parts."""

SETTINGS = {
    "prefix": prompts.PREFIX,
    "pair": prompts.PAIR,
    "suffix": prompts.SUFFIX,
    "separator": prompts.SEPARATORS["blank-line"],
    "instruction": prompts.INSTRUCTION,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Tokenizers of an embedding model and of a reranker."""
    folder = tmp_path_factory.mktemp("tokenizers")
    tokenizer(folder / "embedding.json", ends=True)
    tokenizer(folder / "reranker.json", ends=False)
    return folder / "embedding.json", folder / "reranker.json"


def test_a_query_is_written_as_on_the_card() -> None:
    written = fill(prompts.QUERY, {"instruction": prompts.INSTRUCTION}) + "What is the capital of China?"
    assert written == f"Instruct: {TASK}\nQuery:What is the capital of China?"


def test_a_pair_is_written_as_on_the_card() -> None:
    values = {"instruction": TASK, "query": "What is the capital of China?"}
    values |= {"document": "The capital of China is Beijing."}
    with_blank_lines = PAIR_ON_THE_CARD.replace("\n<Query>", "\n\n<Query>").replace("\n<Document>", "\n\n<Document>")
    for name, text in (("newline", PAIR_ON_THE_CARD), ("blank-line", with_blank_lines)):
        between = {"separator": prompts.SEPARATORS[name]}
        assert prompts.PREFIX + fill(prompts.PAIR, values | between) + prompts.SUFFIX == text


def test_every_text_ends_with_the_official_token(files: tuple[Path, Path]) -> None:
    made = HubTokenizer(files[0])
    (last,) = made.control("<|endoftext|>")
    for ids in made.encode(["water", "", "   ", "水", "water <|endoftext|>", "long " * 50], limit=16):
        assert ids[-1] == last
        assert last not in ids[:-1]
    assert made.end_of_text == "<|endoftext|>"


def test_a_pair_begins_and_ends_with_the_control_tokens_of_the_template(files: tuple[Path, Path]) -> None:
    made = HubTokenizer(files[1])
    (ids,) = PairTokenizer(made, SETTINGS, 1000).encode("q", ["d"])
    start, end, think, done = (made.control(text)[0] for text in ("<|im_start|>", "<|im_end|>", "<think>", "</think>"))
    assert ids[0] == start
    assert [one for one in ids if one in {start, end, think, done}] == [start, end, start, end, start, think, done]
    whole = made.control(PAIR_ON_THE_CARD)
    texts = {"query": "What is the capital of China?", "document": "The capital of China is Beijing."}
    pairs = PairTokenizer(made, SETTINGS, 1000)
    assert pairs.encode(texts["query"], [texts["document"]], TASK, "\n") == [whole]


PARTS = ["{query}", "{document}", "\n<Document>: ", "<Query>:", "<Instruct>", ":", "<|", "|>", "yes"]
MARKS = st.sampled_from([*SPECIAL, *NOT_SPECIAL, *PARTS])
TEXTS = st.lists(st.one_of(MARKS, st.text(max_size=8)), max_size=12).map("".join)


@given(query=TEXTS, document=TEXTS, instruction=TEXTS)
def test_no_text_can_speak_in_control_tokens(
    files: tuple[Path, Path], query: str, document: str, instruction: str
) -> None:
    """Outside the template's own places there is no added token, and what was written can be read back."""
    made = HubTokenizer(files[1])
    pairs = PairTokenizer(made, SETTINGS, 5000)
    (ids,) = pairs.encode(query, [document], instruction)
    prefix, suffix = made.control(prompts.PREFIX), made.control(prompts.SUFFIX)
    assert ids[: len(prefix)] == prefix
    assert ids[-len(suffix) :] == suffix
    added = {made.control(text)[0] for text in (*SPECIAL, *NOT_SPECIAL)}
    assert not added & set(ids[len(prefix) : -len(suffix)])
    harmless = {"instruction": instruction, "query": query, "document": document}
    values = {name: prompts.harmless(text) for name, text in harmless.items()} | {"separator": "\n\n"}
    written = fill(prompts.PAIR, values)
    assert [written.count(f"<{part}>:") for part in ("Instruct", "Query", "Document")] == [1, 1, 1]
    assert list(ids[len(prefix) : -len(suffix)]) == made.plain([fill(prompts.PAIR, values)])[0]


@given(text=TEXTS)
def test_no_document_can_speak_in_special_tokens_when_it_is_embedded(files: tuple[Path, Path], text: str) -> None:
    made = HubTokenizer(files[0])
    special = {made.control(mark)[0] for mark in SPECIAL}
    (ids,) = made.encode([text])
    assert not special & set(ids[:-1])


@given(document=st.text(max_size=300), limit=st.integers(260, 420))
def test_only_the_document_is_cut(files: tuple[Path, Path], document: str, limit: int) -> None:
    made = HubTokenizer(files[1])
    whole = PairTokenizer(made, SETTINGS, 5000).encode("query", [document], "task")[0]
    suffix = made.control(prompts.SUFFIX)
    (ids,) = PairTokenizer(made, SETTINGS, limit).encode("query", [document], "task")
    assert len(ids) == min(limit, len(whole))
    assert ids[-len(suffix) :] == suffix
    assert ids[: -len(suffix)] == whole[: len(ids) - len(suffix)]


def test_a_query_that_leaves_no_room_for_a_document_is_refused(files: tuple[Path, Path]) -> None:
    pairs = PairTokenizer(HubTokenizer(files[1]), SETTINGS, 300)
    with pytest.raises(InvalidEvent, match="there is room for"):
        pairs.encode("word " * 300, ["d"])


def test_braces_in_a_text_are_text() -> None:
    assert fill("{query}/{document}", {"query": "{document}", "document": "x"}) == "{document}/x"
    assert fill("{unknown}", {}) == "{unknown}"
