"""In-memory implementations of the ports, for tests and for trying things out. They keep the same contracts."""

from penstock.fakes.models import HashEmbedder, OverlapReranker, WordPairs, WordTokenizer
from penstock.fakes.store import MemoryLedger, MemoryStore
from penstock.fakes.stream import (
    MemoryDeadLetters,
    MemoryProgress,
    MemoryReplies,
    MemorySource,
    MemoryUpstream,
    unchanging,
)

__all__ = [
    "HashEmbedder",
    "MemoryDeadLetters",
    "MemoryLedger",
    "MemoryProgress",
    "MemoryReplies",
    "MemorySource",
    "MemoryStore",
    "MemoryUpstream",
    "OverlapReranker",
    "WordPairs",
    "WordTokenizer",
    "unchanging",
]
