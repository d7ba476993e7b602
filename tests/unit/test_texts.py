"""Files that people write: whoever reads one says what it is instead of text in UTF-8, where, and what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.core import texts
from penstock.core.errors import Misconfigured
from penstock.evaluate import labelled
from penstock.models.export.own_texts import OwnTexts
from penstock.models.quality import read_labelled_set
from penstock.models.train import pairs, plan
from tests.checkpoints import silent


def corpus(path: Path) -> object:
    path.rename(path.parent / "corpus.jsonl")
    return read_labelled_set(path.parent)


def judgments(path: Path) -> object:
    path.rename(path.parent / "qrels.tsv")
    (path.parent / "corpus.jsonl").write_text('{"id": "d", "text": "dam"}\n')
    (path.parent / "queries.jsonl").write_text('{"id": "q", "query": "dam"}\n')
    return read_labelled_set(path.parent)


READERS: dict[str, Callable[[Path], object]] = {
    "queries": lambda path: labelled.read(path, None),
    "corpus": corpus,
    "judgments": judgments,
    "pairs": lambda path: pairs.read(path, "task"),
    "plan": plan.load,
    "texts": lambda path: OwnTexts(path, "int8", silent),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"text": "M\xfchle"}\n', "line 1: not UTF-8 .byte 0xfc.; Latin-1 or Windows-1252"),
        ('{"text": "dam"}\n'.encode("utf-16"), "it is in UTF-16: write UTF-8"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "it is compressed .gzip.: unpack it first"),
    ],
)
def test_a_file_that_is_no_text_is_said_for_what_it_is(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / "given"
    path.write_bytes(content)
    with pytest.raises(Misconfigured, match=said) as caught:
        READERS[name](path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [READERS[name] for name in ("queries", "pairs", "plan", "texts")])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(Misconfigured, match=r"cannot read .*given: No such file"):
        read(tmp_path / "given")


@pytest.mark.parametrize("word", ["PAR1", "BZh1", "%PDF", "weir\u2028dam", "\ufeffweir"])
def test_a_text_may_begin_like_something_else(tmp_path: Path, word: str) -> None:
    (tmp_path / "topics").write_bytes(f"\r\n1\t{word} turbine\r\n".encode())
    (tmp_path / "qrels").write_text("1 0 a 1\n")
    (query,) = labelled.read(tmp_path / "qrels", tmp_path / "topics")
    assert query.text == f"{word} turbine"
    (tmp_path / "begins").write_text(f"{word}\t1\n", encoding="utf-8")
    assert list(texts.lines(tmp_path / "begins")) == [(1, f"{word}\t1".removeprefix("\ufeff"))]
    assert texts.read(tmp_path / "begins") == f"{word}\t1\n".removeprefix("\ufeff")


def test_lines_are_read_one_at_a_time_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes("ä".encode() * 300 + b"\n\n  \nsecond \t\r\n\xff\n")
    found = texts.lines(tmp_path / "given")
    assert next(found) == (1, "ä" * 300)
    assert next(found) == (4, "second \t")
    with pytest.raises(Misconfigured, match=r"given: line 5: not UTF-8 .byte 0xff"):
        next(found)
