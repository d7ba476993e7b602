"""Documents to chunks: tokenized once, in batches; split only where they do not fit the model's window."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from penstock.core.documents import Chunk
from penstock.core.errors import InvalidEvent
from penstock.core.ports import Tokenizer
from penstock.index.plan import text_hash

TITLE_SHARE = 8
"""In a document that is split, each chunk repeats its title up to 1/8 of the chunk."""

SLACK = 2
"""Tokens left free where pieces are joined: there a tokenizer may count differently than in each piece."""


KNOWN = "water"


@dataclass(frozen=True, slots=True)
class ChunkRules:
    """How documents are cut. ``size`` and ``overlap`` in tokens; ``prompt`` is the model's for documents."""

    size: int
    overlap: int
    title: bool
    prompt: str
    most: int

    @property
    def fingerprint(self) -> str:
        """Tells the rules that decide which texts are embedded from others; the collection numbers them."""
        rules = [1, self.size, self.overlap, self.title, self.prompt, TITLE_SHARE, SLACK]
        return text_hash(json.dumps(rules))[:16]


@dataclass(frozen=True, slots=True)
class Chunker:
    """Cuts documents by the rules, counting with the model's own tokenizer."""

    tokenizer: Tokenizer
    rules: ChunkRules

    def whole(self, title: str, text: str) -> Chunk:
        """The document as one chunk, not tokenized yet: what it is when it fits."""
        return Chunk(text, 0, len(text), text_hash(self._embedded(title, text)))

    def chunk(self, documents: Sequence[tuple[str, str]]) -> list[tuple[Chunk, ...] | InvalidEvent]:
        """The chunks of each (title, text) in order; InvalidEvent, returned, for one with too many of them."""
        encoded = self.tokenizer.encode([self._embedded(title, text) for title, text in documents])
        result: list[tuple[Chunk, ...] | InvalidEvent] = []
        long: list[int] = []
        for i, ((title, text), tokens) in enumerate(zip(documents, encoded, strict=True)):
            if len(tokens) <= self.rules.size:
                whole = self.whole(title, text)
                result.append((Chunk(whole.text, 0, whole.end, whole.hash, tokens),))
            elif len(tokens) > self.rules.most * self.rules.size:
                result.append(self._too_long(f"{len(tokens)} tokens"))
            else:
                result.append(())
                long.append(i)
        for titled in (True, False):
            group = [i for i in long if bool(self._title(documents[i][0])) is titled]
            for i, chunks in zip(group, self._split([documents[i] for i in group]), strict=True):
                result[i] = chunks if len(chunks) <= self.rules.most else self._too_long(f"{len(chunks)} chunks")
        return result

    @property
    def known(self) -> tuple[int, ...]:
        """The ids of a text that any model knows."""
        return self.tokenizer.encode([KNOWN], self.rules.size)[0]

    def tokens(self, title: str, chunk: Chunk) -> tuple[int, ...]:
        """The ids of a chunk that was made without them."""
        embedded = self._embedded(title, chunk.text)
        if text_hash(embedded) != chunk.hash:
            embedded = self._embedded(self._short_titles([title])[0], chunk.text)
        return self.tokenizer.encode([embedded], self.rules.size)[0]

    def _split(self, documents: Sequence[tuple[str, str]]) -> list[tuple[Chunk, ...]]:
        """For documents that all have a title to repeat, or all have none."""
        if not documents:
            return []
        titles = self._short_titles([title for title, _ in documents])
        room = self.rules.size // TITLE_SHARE if titles[0] else 0
        prompt = len(self.tokenizer.encode([self.rules.prompt])[0]) if self.rules.prompt else self._special
        capacity = max(1, self.rules.size - room - prompt - SLACK)
        pieces = self.tokenizer.split([text for _, text in documents], capacity, min(self.rules.overlap, capacity // 2))
        embedded = [
            self._embedded(title, piece) for title, parts in zip(titles, pieces, strict=True) for _, piece in parts
        ]
        tokens = self.tokenizer.encode(embedded, self.rules.size)
        flat = [(start, piece) for parts in pieces for start, piece in parts]
        chunks = [
            Chunk(piece, start, start + len(piece), text_hash(whole), ids)
            for (start, piece), whole, ids in zip(flat, embedded, tokens, strict=True)
        ]
        ends = list(accumulate(len(parts) for parts in pieces))
        return [tuple(chunks[end - len(parts) : end]) for end, parts in zip(ends, pieces, strict=True)]

    def _short_titles(self, titles: Sequence[str]) -> list[str]:
        kept = [self._title(title) for title in titles]
        if not any(kept):
            return kept
        first = self.tokenizer.split(kept, self.rules.size // TITLE_SHARE, 0)
        return [pieces[0][1] if pieces else "" for pieces in first]

    def _embedded(self, title: str, text: str) -> str:
        title = self._title(title)
        return f"{self.rules.prompt}{title}\n{text}" if title else f"{self.rules.prompt}{text}"

    def _title(self, title: str) -> str:
        return title.strip() if self.rules.title else ""

    @property
    def _special(self) -> int:
        return self.tokenizer.special_tokens

    def _too_long(self, measured: str) -> InvalidEvent:
        most = self.rules.most
        return InvalidEvent(
            f"the text has {measured}; index.max_chunks allows {most} chunks of {self.rules.size} tokens"
        )
