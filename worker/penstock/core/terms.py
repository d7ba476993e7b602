"""A text to its terms, and how much each says: what a search for words goes by. Pure.

Words are runs of letters, marks and digits, folded; scripts that put no space between words give pairs of neighbouring
characters. What is joined without a space (``foo_bar-2.0``, ``libfoo6``, ``HTTPServer``) is a term as a whole and in
its parts. Weights are those of BM25 (Robertson and Zaragoza 2009, The Probabilistic Relevance Framework, 3.4) but for
the rarity of a term, which the store knows.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import groupby, pairwise
from typing import NamedTuple
from zlib import crc32

K1, B = 1.2, 0.75
"""BM25's own: how soon a repeated word says no more, and how much a long text is held against it."""

AVERAGE = 256
"""Terms of a text that is neither short nor long. Held-out queries measured the same with 64, 128 and 256."""

MOST_TERMS = 64
"""Of a query: each is asked for by itself, too, see ``reach``."""

KNOWN_WORDS = 1 << 16
"""Words whose terms are remembered: a few make up most of any text."""

KNOWN_LETTERS = 32
"""Longer ones are not remembered."""

LONGEST = 128
"""What is longer and has spaces around it is data, no word."""

JOINERS = "._-/:@+&#~=\\"
"""Between two words without a space, these make one of them."""

SPACELESS = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),
    (0x3400, 0x9FFF),  # Han
    (0xAC00, 0xD7A3),  # Hangul: with spaces, but words take their endings on
    (0xF900, 0xFAFF),
    (0x20000, 0x323AF),
)
"""Code points of scripts whose words no space ends."""

QUOTED = re.compile(r'(?<!\w)"(?=\S)[^"]+(?<=\S)"(?!\w)|[“„«「『][^“”„«»「」『』]+[”“»」』]')
IDENTIFIER = re.compile(r"(?=.*[^\W\d_])(?:.*[\d_@+#\\]|.*::).*")
"""A word of letters and digits, or with a sign that other words have not; and/or and e.g. are none."""

UNSEEN = dict.fromkeys([0x00AD, 0x0640, 0x200C, 0x200D])
"""Soft hyphen, tatweel and joiners: how a word is drawn, not which it is."""

ACCENTS = dict.fromkeys(
    code for first, last in ((0x0300, 0x036F), (0x0591, 0x05C7), (0x064B, 0x065F)) for code in range(first, last + 1)
)
"""Marks that writers leave out: of Latin, Greek and Cyrillic, Hebrew, Arabic. Elsewhere marks are vowels."""


Stem = Callable[[str], str]
"""From a word in lower case to what its forms have in common."""


class Terms(NamedTuple):
    """A sparse vector: 32-bit numbers of terms, ascending, and the weight of each."""

    indices: Sequence[int]
    weights: Sequence[float]


class Weighting(NamedTuple):
    """How texts become terms; a collection keeps to one.

    ``average`` is the length, in terms, that neither gains nor loses. It is fixed and not the mean of what is stored:
    a text's terms depend on that text alone. ``stem`` reduces words of letters to their stems in ``language``.
    """

    average: int = AVERAGE
    version: int = 1
    language: str = ""
    stem: Stem | None = None

    def of_document(self, text: str) -> Terms:
        """Each term with its BM25 weight, below ``K1 + 1``."""
        counts = Counter(_numbered(text, self.stem))
        saturation = K1 * (1 - B + B * counts.total() / self.average)
        indices = sorted(counts)
        return Terms(indices, [counts[term] * (K1 + 1) / (counts[term] + saturation) for term in indices])

    def of_query(self, text: str, most: int = MOST_TERMS) -> list[int]:
        """The first ``most`` different terms, ascending."""
        return sorted(list(dict.fromkeys(_numbered(text, self.stem)))[:most])


def rarity(texts: int, having: int) -> float:
    """Inverse document frequency of a term that so many of the texts have, as Qdrant counts it: above 0 always."""
    return math.log((texts - having + 0.5) / (having + 0.5) + 1)


def reach(tops: Sequence[float | None]) -> float:
    """The most that a query's words could reach: the sum of what each reaches at best in what may be found.

    None stands for a word that is nowhere: it counts as much as the best of the others, so that a document with half of
    the words, or a query in another language, is no full match.
    """
    known = [top for top in tops if top is not None]
    return sum(known) + max(known, default=0.0) * (len(tops) - len(known))


def verbatim(query: str) -> list[str]:
    """What is asked for as it is written: phrases in quotation marks, and identifiers."""
    phrases = QUOTED.findall(query)
    others = [word for word in words(QUOTED.sub(" ", query)) if IDENTIFIER.fullmatch(word.strip("_"))]
    return [said for said in (_folded_words(text) for text in dict.fromkeys([*phrases, *others])) if said.strip()]


def contained(text: str, verbatim: Sequence[str]) -> float:
    """The share of these that a text has word by word, without case and accents."""
    said = _folded_words(text)
    return sum(one in said for one in verbatim) / len(verbatim)


def words(text: str) -> list[str]:
    """In their order, as they are written; what is joined is one."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text).translate(UNSEEN)
    return _word().findall(plain)


class Places(NamedTuple):
    """A text as words are looked for in it, and where each of its characters is in the text as it is written."""

    plain: str
    starts: Sequence[int]
    ends: Sequence[int]

    def words(self) -> Iterator[tuple[int, str]]:
        """Where each begins in ``plain``."""
        return ((match.start(), match[0]) for match in _word().finditer(self.plain))

    def written(self, start: int, end: int) -> tuple[int, int]:
        """Where that piece of ``plain`` is as it is written."""
        return self.starts[start], self.ends[end - 1]


def placed(text: str) -> Places:
    """Character by character with its marks, since the usual form of some is longer, and of others shorter."""
    if text.isascii():
        return Places(text, range(len(text)), range(1, len(text) + 1))
    plain, starts, ends = [], [], []
    for match in _character().finditer(text):
        usual = unicodedata.normalize("NFKC", match[0]).translate(UNSEEN)
        plain.append(usual)
        starts += [match.start()] * len(usual)
        ends += [match.end()] * len(usual)
    return Places("".join(plain), starts, ends)


def runs(word: str) -> Iterator[tuple[int, str]]:
    """What of a word has spaces around it and what has not, each by itself, and where it begins."""
    at = 0
    for _, run in groupby(word, _is_spaceless):
        piece = "".join(run)
        yield at, piece
        at += len(piece)


def parts(run: str) -> Iterator[tuple[int, str]]:
    """The parts of such a run, or the pairs of its characters, and where each begins."""
    if run and _is_spaceless(run[0]):
        yield from enumerate(_pairs(run))
        return
    at = 0
    for part in _parts(run) if len(run) <= LONGEST else ():
        at = run.index(part, at)
        yield at, part
        at += len(part)


def folded(word: str) -> str:
    """Without case and accents."""
    lower = word.casefold()
    if lower.isascii():
        return lower
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKD", lower).translate(ACCENTS))


def spelt(word: str, stem: Stem | None = None) -> list[str]:
    """The terms of one word: itself, and its parts where it has some; by their stems, if they are of letters only."""
    pieces = [piece for _, piece in runs(word)]
    if len(pieces) > 1 or _is_spaceless(word[:1] or " "):
        return [term for piece in pieces for term in (_pairs(piece) if _is_spaceless(piece[0]) else spelt(piece, stem))]
    split = [part for _, part in parts(word)]
    if not split:
        return []
    terms = [_term(part, stem) for part in split]
    return terms if split == [word] else list(dict.fromkeys([folded(word.strip("_")), *terms]))


def _term(part: str, stem: Stem | None) -> str:
    return folded(stem(part.casefold()) if stem and part.isalpha() else part)


def _folded_words(text: str) -> str:
    """All words, folded, a space around each."""
    return f" {' '.join(folded(word.strip('_')) for word in words(text))} "


def _numbered(text: str, stem: Stem | None) -> list[int]:
    found: list[int] = []
    for word in words(text):
        found += _known(word, stem) if len(word) <= KNOWN_LETTERS else map(_number, spelt(word, stem))
    return found


@lru_cache(KNOWN_WORDS)
def _known(word: str, stem: Stem | None) -> tuple[int, ...]:
    return tuple(map(_number, spelt(word, stem)))


def _number(term: str) -> int:
    return crc32(term.encode())


@cache
def _word() -> re.Pattern[str]:
    """Letters, digits and marks, of which Python's own word characters lack the last."""
    letters = rf"[\w{re.escape(_marks())}]+"
    return re.compile(rf"{letters}(?:[{re.escape(JOINERS)}]{{1,3}}{letters})*(?:\+\+|#)?")


@cache
def _character() -> re.Pattern[str]:
    """One with its marks."""
    return re.compile(rf".[{re.escape(_marks())}]*", re.DOTALL)


@cache
def _marks() -> str:
    return "".join(chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code))[0] == "M")


def _is_spaceless(character: str) -> bool:
    return _kind(character) == "spaceless"


def _pairs(run: str) -> list[str]:
    return [first + second for first, second in pairwise(run)] or [run]


def _parts(word: str) -> Iterator[str]:
    """Split at joiners, between letters and digits, and before a capital that begins a word."""
    kinds: list[str] = []
    for character in word:
        kind = _kind(character)
        kinds.append(kinds[-1] if kind == "mark" and kinds else kind)
    start = 0
    for at in range(1, len(word) + 1):
        if at < len(word) and not _begins(kinds, at):
            continue
        if kinds[start] != "joiner":
            yield word[start:at]
        start = at


def _begins(kinds: Sequence[str], at: int) -> bool:
    """Whether a part begins at this character."""
    before, here = kinds[at - 1], kinds[at]
    if (before, here) == ("upper", "letter"):
        return False
    if (before, here) == ("upper", "upper"):
        return at + 1 < len(kinds) and kinds[at + 1] == "letter"
    return before != here


@lru_cache(KNOWN_WORDS)
def _kind(character: str) -> str:
    if any(first <= ord(character) <= last for first, last in SPACELESS):
        return "spaceless"
    category = unicodedata.category(character)
    if category[0] == "M":
        return "mark"
    if category[0] == "N":
        return "digit"
    if category[0] == "L":
        return "upper" if category in ("Lu", "Lt") else "letter"
    return "joiner"
