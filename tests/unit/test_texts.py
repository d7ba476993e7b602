"""Files that people write: whoever reads one says what it is instead of text in UTF-8, where, and what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest

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
        (b'{"text": "dam"}\n{"text": "M\xfchle"}\n', "line 2: not UTF-8 .byte 0xfc.; Latin-1 or Windows-1252"),
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
