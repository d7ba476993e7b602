"""Where the words of a query are in a text: spans of code points, in any script. Pure.

A word is found as the search for words finds it, see ``terms``: folded, as a whole, in its parts, by pairs of
characters where a script has no spaces; and, since words are not reduced to stems, where a longer one begins with it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from penstock.core.queries import Highlights, Ranked
from penstock.core.terms import folded, parts, placed, runs, spelt, words

LEAST_BEGINNING = 4
"""Letters of a word that longer ones may begin with."""

_LITTLE = """
a about all an and are as at be been but by can do does for from had has have how i if in into is it its me my no
not of on or our so than that the their them then there these they this to was we were what when where which who why
will with would you your der die das den dem des ein eine einen einem einer und oder ist sind war mit von vom zu zum
zur im ins am auf aus für wie wer wo nicht auch ich wir sie er es man bei nach über um als dass le la les un une du
de et ou est sont dans en sur pour par avec que qui quoi ce cette ces au aux je il elle nous vous ne pas plus se sa
son ses comment lo gli uno di del della dei delle e o è sono nel nella con per che chi come non si da al alla el los
las y por para su sus como os uma dos em na nos nas com não het een van niet op te voor met zijn dat aan
"""

FUNCTION_WORDS = frozenset(map(folded, _LITTLE.split()))
"""Of English, German, French, Italian, Spanish, Portuguese and Dutch: not marked where a query has other words."""

Spans = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a query says, in folded terms; ``beginnings`` are those that a longer word may begin with."""

    terms: frozenset[str]
    beginnings: tuple[str, ...]

    def spans(self, text: str) -> Spans:
        """Of what is wanted, as (start, end) in code points, in their order; neighbours are one."""
        joined: Spans = []
        for start, end in sorted(self._found(text)):
            if joined and start <= joined[-1][1]:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((start, end))
        return joined

    def _found(self, text: str) -> Iterator[tuple[int, int]]:
        places = placed(text)
        for at, word in places.words() if self.terms else ():
            for start, piece in [(0, word)] if self._says(word) else self._pieces(word):
                yield places.written(at + start, at + start + len(piece))

    def _pieces(self, word: str) -> Iterator[tuple[int, str]]:
        for at, run in runs(word):
            yield from ((at + start, piece) for start, piece in parts(run) if self._says(piece))

    def _says(self, word: str) -> bool:
        said = folded(word.strip("_"))
        return said in self.terms or said.startswith(self.beginnings)


def wanted(query: str) -> Wanted:
    """What to look for in texts that a query has found."""
    asked = words(query)
    telling = [word for word in asked if folded(word) not in FUNCTION_WORDS] or asked
    terms = frozenset(term for word in telling for term in spelt(word))
    return Wanted(terms, tuple(sorted(term for term in terms if len(term) >= LEAST_BEGINNING)))


def highlighted(query: str, ranked: Sequence[Ranked]) -> list[Ranked]:
    """With the places of the query's words."""
    asked = wanted(query)
    return [
        replace(one, highlights=Highlights(asked.spans(one.hit.title), asked.spans(one.hit.text))) for one in ranked
    ]
