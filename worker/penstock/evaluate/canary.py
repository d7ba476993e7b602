"""Queries by which two searches are compared: with the documents that are relevant, where somebody knows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock.core import texts
from penstock.core.errors import Misconfigured
from penstock.evaluate.labelled import grades_of, text_of


@dataclass(frozen=True, slots=True)
class CanaryQuery:
    """A query; ``relevant`` are the grades of its relevant documents, none where nobody has said."""

    id: str
    text: str
    relevant: Mapping[str, int]
    place: str


def read_canaries(path: Path) -> list[CanaryQuery]:
    """Each line a query: a text as it is, or {"query", "id"?, "relevant"?} as ``penstock evaluate`` reads it.

    Raises Misconfigured with the line.
    """
    found: list[CanaryQuery] = []
    for number, line in texts.lines(path):
        place = f"{path}, line {number}"
        try:
            given = json.loads(line) if line.lstrip().startswith("{") else {"query": line}
            relevant = {name: grade for name, grade in grades_of(given.get("relevant", [])).items() if grade > 0}
            found.append(CanaryQuery(str(given.get("id", number)), text_of(given["query"]), relevant, place))
        except (ValueError, TypeError, KeyError) as error:
            raise Misconfigured(
                f'{place}: neither a text nor {{"query": "…", "relevant"?: ["document", …]}} '
                f"({type(error).__name__}: {error})"
            ) from None
    if not found:
        raise Misconfigured(f"{path}: no query in it")
    if len({query.id for query in found}) != len(found):
        raise Misconfigured(f"{path}: two queries have the same id")
    return found
