"""What the demo prints. Pure but for the console."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from worker.query.requests import HitBody, ReplyBody

WIDE = 70
BYTES_PER_NUMBER = 4


@dataclass(frozen=True, slots=True)
class Cost:
    """What is found with vectors of that length: the share of queries whose document is among the first ten."""

    dimension: int
    recall: float


def headline(hit: HitBody) -> str:
    """The package and how its description begins."""
    text = " ".join(hit.text.split())
    return f"{hit.document}: {text if len(text) <= WIDE else text[: WIDE - 1] + '…'}"


def moved(rank: int, hit: HitBody) -> str:
    """How far the reranker has moved a hit from its place in the vector search."""
    places = hit.retrieval_rank - rank
    return f"▲ {places}" if places > 0 else f"▼ {-places}" if places < 0 else "="


def found(console: Console, answers: Sequence[tuple[str, str, ReplyBody]]) -> None:
    """The queries, each with its language and its hits."""
    table = Table("query", "score", "moved", "document", title="Found by vector search, ordered by the reranker")
    for language, query, reply in answers:
        for rank, hit in enumerate(reply.hits, 1):
            asked = f"{query} ({language})" if rank == 1 else ""
            last = rank == len(reply.hits)
            table.add_row(asked, f"{hit.score:.3f}", moved(rank, hit), headline(hit), end_section=last)
    console.print(table)
    console.print("moved: places that the reranker has lifted (▲) or lowered (▼) a document.", style="dim")


def costs(console: Console, measured: Sequence[Cost], queries: int) -> None:
    """Vectors of each length."""
    table = Table("dimension", "bytes per vector", "found in the first ten", title="What a truncated vector costs")
    for one in measured:
        table.add_row(str(one.dimension), f"{one.dimension * BYTES_PER_NUMBER:,}", f"{one.recall:.1%}")
    console.print(table)
    console.print(f"Vector search alone, {queries} short descriptions in English as queries.", style="dim")


def what_next(console: Console, tries: Sequence[tuple[str, str]], variables: Sequence[str]) -> None:
    """Commands to try."""
    console.print("\nWhat to try next", style="bold")
    if shutil.which("penstock") is None:
        console.print(f"  (the command is {sys.argv[0]})", highlight=False)
    for command, meaning in tries:
        console.print(f"  {command:<54} {meaning}", highlight=False)
    if variables:
        console.print("\nThe other commands work on this index, too, after", style="bold")
        for line in variables:
            console.print(f"  export {line}", highlight=False, soft_wrap=True)
