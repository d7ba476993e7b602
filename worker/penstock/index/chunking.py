"""Documents to chunks: tokenized once, in batches; split only where they do not fit the model's window."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, product

from penstock.core.documents import Chunk
from penstock.core.errors import InvalidEvent
from penstock.core.ports import Tokenizer
from penstock.index.passages import Passage, Text, passages
from penstock.index.plan import text_hash

TITLE_SHARE = 8
"""In a document that is split, each chunk repeats its title up to 1/8 of the chunk, and likewise its headings."""

BETWEEN = " > "
"""Between the headings above a chunk, the highest first."""

SLACK = 2
"""Tokens left free where pieces are joined: there a tokenizer may count differently than in each piece."""


KNOWN = "water"


@dataclass(frozen=True, slots=True)
class ChunkRules:
    """How documents are cut. ``size`` and ``overlap`` in tokens; ``prompt`` is the model's for documents.

    ``headings`` puts the headings above a chunk before its text when it is embedded.
    """

    size: int
    overlap: int
    title: bool
    prompt: str
    most: int
    headings: bool = True

    @property
    def fingerprint(self) -> str:
        """Tells the rules that decide which texts are embedded from others; the collection numbers them."""
        rules = [1, self.size, self.overlap, self.title, self.prompt, TITLE_SHARE, SLACK]
        return text_hash(json.dumps(rules if self.headings else [*rules, "no headings"]))[:16]


@dataclass(frozen=True, slots=True)
class Chunker:
    """Cuts documents by the rules, counting with the model's own tokenizer."""

    tokenizer: Tokenizer
    rules: ChunkRules

    def whole(self, title: str, text: str) -> Chunk:
        """The document as one chunk, not tokenized yet: what it is when it fits, and has no headings."""
        return self._one(Passage(title, text), ())

    def chunk(self, documents: Sequence[Text]) -> list[tuple[Chunk, ...] | InvalidEvent]:
        """The chunks of each in order; InvalidEvent, returned, for one with too many of them."""
        size, most = self.rules.size, self.rules.most
        parts = [passages(document, size, most, self._count) for document in documents]
        encoded = iter(self.tokenizer.encode([self._embedded(part) for some in parts for part in some]))
        tokens = [list(islice(encoded, len(some))) for some in parts]
        failed = {
            at: self._too_long(f"{length} tokens")
            for at, some in enumerate(tokens)
            if (length := sum(map(len, some))) > most * size
        }
        long = [
            part
            for at, some in enumerate(parts)
            for part, ids in zip(some, tokens[at], strict=True)
            if len(ids) > size and at not in failed
        ]
        cut = self._split(long)
        result: list[tuple[Chunk, ...] | InvalidEvent] = []
        for at, some in enumerate(parts):
            if at in failed:
                result.append(failed[at])
                continue
            made = [
                cut[part] if len(ids) > size else [self._one(part, ids)]
                for part, ids in zip(some, tokens[at], strict=True)
            ]
            chunks = tuple(chunk for each in made for chunk in each)
            result.append(chunks if len(chunks) <= most else self._too_long(f"{len(chunks)} chunks"))
        return result

    @property
    def known(self) -> tuple[int, ...]:
        """The ids of a text that any model knows."""
        return self.tokenizer.encode([KNOWN], self.rules.size)[0]

    def tokens(self, title: str, chunk: Chunk) -> tuple[int, ...]:
        """The ids of a chunk that was made without them."""
        part = Passage(title, chunk.text, chunk.start, chunk.path)
        embedded = self._embedded(part)
        if text_hash(embedded) != chunk.hash:
            (before,) = self._before([part], shorten=True)
            embedded = f"{before}{chunk.text}"
        return self.tokenizer.encode([embedded], self.rules.size)[0]

    def _split(self, long: Sequence[Passage]) -> dict[Passage, list[Chunk]]:
        """The chunks of passages that are longer than one, of those with and without a title and a path in turns."""
        found: dict[Passage, list[Chunk]] = {}
        for titled, pathed in product((True, False), repeat=2):
            group = [p for p in long if bool(self._title(p.title)) is titled and bool(self._path(p)) is pathed]
            if group:
                found |= dict(zip(group, self._split_alike(group, titled + pathed), strict=True))
        return found

    def _split_alike(self, group: Sequence[Passage], repeated: int) -> list[list[Chunk]]:
        """``repeated`` says how many of title and path stand before each chunk."""
        before = self._before(group, shorten=True)
        room = self.rules.size // TITLE_SHARE * repeated
        prompt = len(self.tokenizer.encode([self.rules.prompt])[0]) if self.rules.prompt else self._special
        capacity = max(1, self.rules.size - room - prompt - SLACK)
        pieces = self.tokenizer.split([part.text for part in group], capacity, min(self.rules.overlap, capacity // 2))
        embedded = [f"{told}{piece}" for told, some in zip(before, pieces, strict=True) for _, piece in some]
        tokens = iter(zip(embedded, self.tokenizer.encode(embedded, self.rules.size), strict=True))
        return [
            [
                Chunk(piece, part.start + start, part.start + start + len(piece), text_hash(whole), ids, part.path)
                for (start, piece), (whole, ids) in zip(some, islice(tokens, len(some)), strict=True)
            ]
            for part, some in zip(group, pieces, strict=True)
        ]

    def _one(self, part: Passage, tokens: tuple[int, ...]) -> Chunk:
        end = part.start + len(part.text)
        return Chunk(part.text, part.start, end, text_hash(self._embedded(part)), tokens, part.path)

    def _embedded(self, part: Passage) -> str:
        return f"{self._before([part])[0]}{part.text}"

    def _before(self, parts: Sequence[Passage], *, shorten: bool = False) -> list[str]:
        """What is embedded before the text of each: the prompt, the title, the path of headings."""
        titles, paths = [self._title(part.title) for part in parts], [self._path(part) for part in parts]
        if shorten:
            titles, paths = self._short(titles), self._short(paths)
        lines = zip(titles, paths, strict=True)
        return [self.rules.prompt + "".join(f"{line}\n" for line in some if line) for some in lines]

    def _short(self, lines: Sequence[str]) -> list[str]:
        if not any(lines):
            return list(lines)
        first = self.tokenizer.split(lines, self.rules.size // TITLE_SHARE, 0)
        return [pieces[0][1] if pieces else "" for pieces in first]

    def _count(self, texts: Sequence[str]) -> list[int]:
        return [len(tokens) - self._special for tokens in self.tokenizer.encode(texts)]

    def _title(self, title: str) -> str:
        return title.strip() if self.rules.title else ""

    def _path(self, part: Passage) -> str:
        return BETWEEN.join(part.path) if self.rules.headings else ""

    @property
    def _special(self) -> int:
        return self.tokenizer.special_tokens

    def _too_long(self, measured: str) -> InvalidEvent:
        most = self.rules.most
        return InvalidEvent(
            f"the text has {measured}; index.max_chunks allows {most} chunks of {self.rules.size} tokens"
        )
