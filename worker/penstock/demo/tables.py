"""What the demo prints. Pure but for the console."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from penstock.core.filters import Filter
from penstock.query.replies import HitBody, ReplyBody

BYTES_PER_NUMBER = 4

STAND_IN = (
    "The model is a small stand-in that comes with the package; for Qwen3: penstock export Qwen/Qwen3-Embedding-0.6B "
    "-o DIR, then --bundle DIR, and likewise --reranker."
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What is found with vectors of that length: the share of queries whose document is among the first ten."""

    dimension: int
    recall: float


def headline(hit: HitBody) -> str:
    """The package and how its description begins."""
    return f"{hit.document}: {' '.join(hit.text.split())}"


def moved(rank: int, hit: HitBody) -> str:
    """How far the reranker has moved a hit from its place in the vector search."""
    places = hit.retrieval_rank - rank
    return f"▲ {places}" if places > 0 else f"▼ {-places}" if places < 0 else "="


def found(console: Console, answers: Sequence[tuple[str, str, ReplyBody]]) -> None:
    """The queries, each with its language and its hits."""
    console.print("Found by vectors and words, ordered by the search and the reranker together", style="bold")
    for language, query, reply in answers:
        console.print(Text.assemble("\n  ", (query, "bold"), f" ({language})"))
        hits(console, reply.hits)
    console.print(
        "\n  ▲ and ▼: by how many places it was lifted or lowered from where the search had it.\n", style="dim"
    )


def ways(console: Console, searched: Sequence[tuple[str, Mapping[str, str]]]) -> None:
    """What each way of searching puts first."""
    table = Table("query", *searched[0][1], title="What each way puts first")
    for query, first in searched:
        table.add_row(query, *(name or "nothing" for name in first.values()))
    console.print(table)


def filtered(console: Console, query: str, only: Filter, reply: ReplyBody) -> None:
    """A search among some of the documents."""
    console.print(Text.assemble("\n  ", (query, "bold"), f" where {only.field} is {only.equals}"))
    hits(console, reply.hits)
    console.print()


def hits(console: Console, found: Sequence[HitBody]) -> None:
    """A line each."""
    for rank, hit in enumerate(found, 1):
        line = Text(f"  {hit.score:.3f}  {moved(rank, hit):<5}{headline(hit)}")
        line.truncate(console.width, overflow="ellipsis")
        console.print(line)


def counted(outcomes: Mapping[str, int]) -> str:
    """What became of the records, without what became of none."""
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in sorted(outcomes.items()) if count)


def costs(console: Console, measured: Sequence[Cost], queries: int) -> None:
    """Vectors of each length."""
    table = Table("dimension", "bytes per vector", "found in the first ten", title="What a truncated vector costs")
    for cost in measured:
        table.add_row(str(cost.dimension), f"{cost.dimension * BYTES_PER_NUMBER:,}", f"{cost.recall:.1%}")
    console.print(table)
    console.print(f"Vector search alone, {queries} short descriptions in English as queries.", style="dim")


def what_next(console: Console, tries: Sequence[tuple[str, str]], variables: Sequence[str]) -> None:
    """Commands to try."""
    console.print("\nWhat to try next", style="bold")
    if shutil.which("penstock") is None:
        console.print(f"  (the command is {sys.argv[0]})", highlight=False)
    for command, meaning in tries:
        console.print(f"  {command:<51} {meaning}", highlight=False, soft_wrap=True)
    if variables:
        console.print("\nThe other commands work on this index, too, after", style="bold")
        for line in variables:
            console.print(f"  export {line}", highlight=False, soft_wrap=True)
