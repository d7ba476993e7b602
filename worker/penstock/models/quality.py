"""How good a retrieval is, on a labelled set: queries, documents, and which of them belong together."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core import texts
from penstock.core.errors import Misconfigured
from penstock.core.vectors import Vector

CUTOFF = 10


@dataclass(frozen=True, slots=True)
class LabelledSet:
    """Texts by id, and per query the ids of the documents that are relevant to it."""

    name: str
    documents: Mapping[str, str]
    queries: Mapping[str, str]
    relevant: Mapping[str, AbstractSet[str]]


def read_labelled_set(folder: Path) -> LabelledSet:
    """``corpus.jsonl`` (id, title, text), ``queries.jsonl`` (id, query) and ``qrels.tsv`` (query, document, grade).

    The names of BEIR (``_id``, ``text``, ``qrels/test.tsv``) do as well. A document is its title, a line end and its
    text; a grade above 0 is relevant. Queries without a relevant document are left out. Raises Misconfigured.
    """
    documents = {_id(line): _document(line) for line in _lines(folder / "corpus.jsonl")}
    queries = {_id(line): line.get("query") or line.get("text") or "" for line in _lines(folder / "queries.jsonl")}
    relevant: dict[str, set[str]] = {}
    path = folder / "qrels.tsv"
    for query, document in _judgments(path if path.is_file() else folder / "qrels" / "test.tsv"):
        if query in queries and document in documents:
            relevant.setdefault(query, set()).add(document)
    if not relevant:
        raise Misconfigured(f"{folder}: no judgment fits a query and a document")
    return LabelledSet(folder.resolve().name, documents, {query: queries[query] for query in relevant}, relevant)


def ndcg(ranked: Sequence[str], relevant: AbstractSet[str], cutoff: int = CUTOFF) -> float:
    """Normalized discounted cumulative gain with binary gains (Jarvelin and Kekalainen, 2002)."""
    gained = sum(1 / math.log2(place + 2) for place, document in enumerate(ranked[:cutoff]) if document in relevant)
    return gained / sum(1 / math.log2(place + 2) for place in range(min(cutoff, len(relevant))))


def retrieval_ndcg(labelled: LabelledSet, scores: Vector) -> float:
    """The mean over all queries. ``scores`` are ``[queries, documents]`` in the order of the set."""
    names = np.array(list(labelled.documents))
    best = np.argsort(-scores, axis=1, kind="stable")[:, :CUTOFF]
    each = [ndcg(list(names[row]), labelled.relevant[query]) for query, row in zip(labelled.queries, best, strict=True)]
    return float(np.mean(each))


def hard_negatives(labelled: LabelledSet, query: str, count: int) -> list[str]:
    """Documents that are not relevant to the query and share the rarest words with it, the likest first.

    Each shared word counts the logarithm of how rare it is in the set; documents that share none come last.
    """
    asked, everything = _words(labelled.queries[query]), len(labelled.documents)
    found = dict.fromkeys(asked, 0)
    shared = {}
    for document, text in labelled.documents.items():
        shared[document] = asked & _words(text)
        for word in shared[document]:
            found[word] += 1
    weights = {word: math.log(1 + everything / number) for word, number in found.items() if number}
    others = [document for document in labelled.documents if document not in labelled.relevant[query]]
    return sorted(others, key=lambda document: -sum(weights[word] for word in sorted(shared[document])))[:count]


def kendall_tau(first: Vector, second: Vector) -> float:
    """How far two scorings of the same documents agree on the order of pairs, from -1 to 1; ties of either count 0."""
    rows, columns = np.triu_indices(len(first), 1)
    signs = np.sign(first[rows] - first[columns]) * np.sign(second[rows] - second[columns])
    return float(signs.mean()) if len(signs) else 1.0


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in texts.lines(path):
        try:
            value = json.loads(line)
            if not isinstance(value, dict):
                raise ValueError("no JSON object")  # noqa: TRY004  # told like the others
        except ValueError as error:
            raise Misconfigured(f"{path}, line {number}: {error}") from None
        yield value


def _id(line: Mapping[str, Any]) -> str:
    return str(line.get("id", line.get("_id")))


def _document(line: Mapping[str, Any]) -> str:
    return f"{line['title']}\n{line.get('text', '')}" if line.get("title") else str(line.get("text", ""))


def _judgments(path: Path) -> Iterator[tuple[str, str]]:
    for place, (number, line) in enumerate(texts.lines(path)):
        row = line.split("\t")
        if len(row) != 3 or (place > 0 and not row[2].strip().lstrip("-").isdigit()):  # noqa: PLR2004  # its columns
            raise Misconfigured(f"{path}, line {number}: query, document and grade, please, separated by tabs")
        if row[2].strip().isdigit() and int(row[2]) > 0:
            yield row[0], row[1]
