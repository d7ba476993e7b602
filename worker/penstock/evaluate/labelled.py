"""Queries with the documents that are relevant to them: JSON lines, or judgments and topics as TREC has them."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock.core import texts
from penstock.core.errors import Misconfigured

QRELS_FIELDS = (3, 4)
"""query, document, grade; or TREC's query, iteration, document, grade."""


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """A query, and the grades of its relevant documents; ``place`` is the line that asks it, for who must mend it."""

    id: str
    text: str
    relevant: Mapping[str, int]
    place: str = field(default="", compare=False)


def read(path: Path, queries: Path | None) -> list[LabelledQuery]:
    """Each line {"id", "query", "relevant": ["document", …] or {"document": grade}}; with ``queries``, TREC's qrels.

    ``queries`` holds lines of an id, a tab and a text, or {"id", "query"}. Raises Misconfigured with the line.
    """
    labelled = list(_json_lines(path)) if queries is None else list(_trec(path, queries))
    if not labelled:
        raise Misconfigured(f"{path}: no query has a relevant document")
    if len({query.id for query in labelled}) != len(labelled):
        raise Misconfigured(f"{path}: two queries have the same id")
    return labelled


def sampled(labelled: Sequence[LabelledQuery], count: int) -> list[LabelledQuery]:
    """``count`` of them, always the same, in their order."""
    chosen = sorted(random.Random(0).sample(range(len(labelled)), min(count, len(labelled))))  # noqa: S311  # no secret
    return [labelled[i] for i in chosen]


def _json_lines(path: Path) -> Iterator[LabelledQuery]:
    for number, line in texts.lines(path):
        try:
            given = json.loads(line)
            kept = {name: grade for name, grade in grades_of(given["relevant"]).items() if grade > 0}
            query = LabelledQuery(str(given.get("id", number)), text_of(given["query"]), kept, f"{path}, line {number}")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise Misconfigured(
                f'{path}, line {number}: not {{"query": "…", "relevant": ["document", …]}} ({reason}); '
                "for TREC's qrels name the queries with --queries"
            ) from None
        if query.relevant:
            yield query


def grades_of(relevant: Any) -> Mapping[str, int]:
    """Of documents that are listed, each 1, or that have whole grades; raises ValueError."""
    if isinstance(relevant, list) and all(isinstance(name, str) for name in relevant):
        return dict.fromkeys(relevant, 1)
    if isinstance(relevant, dict) and all(type(grade) is int for grade in relevant.values()):
        return relevant
    raise ValueError("relevant is a list of documents, or an object of documents and whole grades")


def _trec(path: Path, queries: Path) -> Iterator[LabelledQuery]:
    topics = {name: (text, place) for name, text, place in _topics(queries)}
    judged: dict[str, dict[str, int]] = {}
    for place, (number, line) in enumerate(texts.lines(path)):
        fields = line.split()
        if len(fields) not in QRELS_FIELDS or not fields[-1].lstrip("-").isdecimal():
            if place == 0 and fields and not _is_number(fields[-1]):
                continue  # a heading
            raise Misconfigured(f"{path}, line {number}: query, (iteration,) document and whole grade, please")
        if int(fields[-1]) > 0:
            judged.setdefault(fields[0], {})[fields[-2]] = int(fields[-1])
    for query, grades in judged.items():
        if query not in topics:
            raise Misconfigured(f"{path}: query {query!r} is not in {queries}")
        text, asked = topics[query]
        yield LabelledQuery(query, text, grades, asked)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _topics(path: Path) -> Iterator[tuple[str, str, str]]:
    for number, line in texts.lines(path):
        place = f"{path}, line {number}"
        try:
            if line.lstrip().startswith("{"):
                given = json.loads(line)
                yield str(given.get("id", given.get("_id"))), text_of(given.get("query", given.get("text"))), place
            else:
                name, text = line.split("\t", 1)
                yield name.strip(), text_of(text), place
        except ValueError as error:
            raise Misconfigured(f'{place}: an id, a tab and a text, or {{"id", "query"}} ({error})') from None


def text_of(value: Any) -> str:
    """A query without what is around it; raises ValueError."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a query is a text")
    return value.strip()
