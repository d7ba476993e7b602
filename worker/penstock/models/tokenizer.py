"""The model's own tokenizer, for ids and for splitting. Batches release the GIL; single texts would not."""

import json
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path

from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer
from typing_extensions import override

from penstock.core import ports
from penstock.core.errors import Misconfigured

WINDOW = 10_000
"""Characters that are split at a time."""


class HubTokenizer(ports.Tokenizer):
    """``ports.Tokenizer`` for a ``tokenizer.json``. Special tokens that are written in a text are text."""

    def __init__(self, file: Path) -> None:
        """Raises Misconfigured when the file is not a tokenizer."""
        self._file = file
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:
            raise Misconfigured(f"{file} is no tokenizer: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._opening, self._closing = _special_ids(self._tokenizer)
        self._tokenizer.encode_special_tokens = True
        self._splitter = lru_cache(maxsize=8)(self._make_splitter)

    @override
    @property
    def special_tokens(self) -> int:
        return len(self._opening) + len(self._closing)

    @property
    def around(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids that the tokenizer puts before and after every text."""
        return self._opening, self._closing

    @property
    def end_of_text(self) -> str:
        """The tokens that end every text, as they are written."""
        return "".join(self._tokenizer.id_to_token(number) for number in self._closing)

    @cached_property
    def around_pair(self) -> tuple[tuple[int, ...], ...]:
        """The ids that the tokenizer puts before, between and after the two texts of a pair."""
        encoded = self._tokenizer.encode("a", "a")
        first, second = ([i for i, text in enumerate(encoded.sequence_ids) if text == of] for of in (0, 1))
        parts = (0, first[0]), (first[-1] + 1, second[0]), (second[-1] + 1, len(encoded.ids))
        return tuple(tuple(encoded.ids[start:end]) for start, end in parts)

    @property
    def highest_id(self) -> int:
        """Of the tokens that a text can have: added ones apart."""
        return int(max(self._tokenizer.get_vocab(with_added_tokens=False).values()))

    @override
    def encode(self, texts: Sequence[str], limit: int | None = None) -> list[tuple[int, ...]]:
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        room = None if limit is None else limit - self.special_tokens
        return [(*self._opening, *encoding.ids[:room], *self._closing) for encoding in encoded]

    @override
    def split(self, texts: Sequence[str], capacity: int, overlap: int) -> list[list[tuple[int, str]]]:
        """Cut where paragraphs, sentences or words end, as far as possible."""
        parts = [(i, start, part) for i, text in enumerate(texts) for start, part in windows(text)]
        pieces: list[list[tuple[int, str]]] = [[] for _ in texts]
        cut = self._splitter(capacity, overlap).chunk_all_indices([part for _, _, part in parts])
        for (i, start, _), offsets in zip(parts, cut, strict=True):
            pieces[i] += [(start + at, piece) for at, piece in offsets]
        return pieces

    def control(self, template: str) -> tuple[int, ...]:
        """The ids of a template of ours, in which tokens such as ``<|im_start|>`` and ``<think>`` are themselves."""
        return tuple(self._with_added.encode(template, add_special_tokens=False).ids)

    def plain(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of texts of others: no added token at all is recognized, special or not, and none is put around."""
        return [encoding.ids for encoding in self._without_added.encode_batch_fast(list(texts))]

    @cached_property
    def _with_added(self) -> Tokenizer:
        return Tokenizer.from_file(str(self._file))

    @cached_property
    def _without_added(self) -> Tokenizer:
        description = json.loads(self._file.read_bytes())
        description |= {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
        return Tokenizer.from_str(json.dumps(description))

    def _make_splitter(self, capacity: int, overlap: int) -> TextSplitter:
        return TextSplitter.from_huggingface_tokenizer(self._tokenizer, capacity, overlap)


def windows(text: str) -> list[tuple[int, str]]:
    """A long text in parts that the splitter is fast with: its time grows faster than the text.

    Cut at the last end of a paragraph, line or word in the second half of a part, else anywhere.
    """
    parts = []
    start = 0
    while len(text) - start > WINDOW:
        half = start + WINDOW // 2
        ends = (text.rfind(mark, half, start + WINDOW) + len(mark) for mark in ("\n\n", "\n", " "))
        end = next((end for end in ends if end > half), start + WINDOW)
        parts.append((start, text[start:end]))
        start = end
    return [*parts, (start, text[start:])]


def _special_ids(tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids that the tokenizer puts before and after every text."""
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    full = tokenizer.encode("a").ids
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return tuple(full[:start]), tuple(full[start + len(bare) :])
    raise Misconfigured("the tokenizer changes a text's own tokens when it adds special ones")
