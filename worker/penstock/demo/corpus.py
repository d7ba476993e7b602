"""What the demo shows: its events, its queries, and the models that come with the package."""

import gzip
import json
from pathlib import Path

from penstock.core.filters import Filter
from penstock.settings.models import SHIPPED_MODELS

DATA = Path(__file__).parent.parent / "data"
CORPUS = DATA / "debian-packages.jsonl.gz"
LABELLED = DATA / "debian-queries.jsonl"
"""Queries written by hand for this corpus, some not in English, each with the packages that were meant."""

HELD_OUT = DATA / "held-out"
"""The short descriptions of the corpus as queries, a file per language."""

EMBEDDING, RERANKER = (SHIPPED_MODELS / name for name in ("embedding", "reranker"))
"""The models that come with the package."""

CHUNK_TOKENS, CHUNK_OVERLAP = 128, 16
"""The models have seen no longer texts in their training."""

QUERIES = (
    ("English", "scan pages of paper into a PDF"),
    ("Deutsch", "gescannte Seiten als PDF speichern"),
    ("français", "écrire des tablatures de guitare"),
    ("italiano", "programma per disegnare circuiti elettronici"),
    ("español", "ver la televisión en el ordenador"),
    ("português", "jogo de xadrez"),
)

EXACT, EXACT_DOCUMENT = "RFC2136", "bind9-dnsutils"
"""A name that one document has, and that says nothing to a model."""

FILTERED = ("strategy in space", Filter(field="metadata.section", equals="games"))
"""What is looked for, and the section that it is looked for in."""

WAYS = (QUERIES[0][1], EXACT)
"""Shown by each way of searching."""

CHANGED = "xplanet"
NEWS = "Xplanet shows the tide tables of a harbour and the phases of the moon on the desktop."
NEWS_QUERY = "tide tables of a harbour"


def event_lines() -> list[bytes]:
    """The stream, a JSON line each."""
    return gzip.decompress(CORPUS.read_bytes()).splitlines()


def change(lines: list[bytes]) -> bytes:
    """A document written anew."""
    latest = [event for event in map(json.loads, lines) if event["id"] == CHANGED][-1]
    return json.dumps(latest | {"text": NEWS}).encode()
