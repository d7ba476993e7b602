"""In-memory implementations of the ports, for tests and for trying things out. They keep the same contracts."""

from penstock.fakes.models import HashEmbedder, OverlapReranker, WordPairs, WordTokenizer
from penstock.fakes.store import MemoryStore
from penstock.fakes.stream import MemoryDeadLetters, MemoryProgress, MemoryReplies, MemorySource

__all__ = [
    "HashEmbedder",
    "MemoryDeadLetters",
    "MemoryProgress",
    "MemoryReplies",
    "MemorySource",
    "MemoryStore",
    "OverlapReranker",
    "WordPairs",
    "WordTokenizer",
]
