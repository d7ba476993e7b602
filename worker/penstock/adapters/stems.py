"""Words to their stems, by Snowball's algorithms. The only importer of PyStemmer, which is an extra."""

import threading
from collections.abc import Callable
from functools import cache

from penstock.core.errors import Misconfigured
from penstock.core.terms import Weighting

PLAIN, STEMMED = 1, 2
"""Versions of a collection's terms: a worker that knows no stems must not search by those of the second."""


def stemmed(weighting: Weighting, language: str) -> Weighting:
    """By stems of that language, if it is one; raises Misconfigured as ``stemmer``."""
    if not language:
        return weighting
    return weighting._replace(version=STEMMED, language=language, stem=stemmer(language))


@cache
def stemmer(language: str) -> Callable[[str], str]:
    """From a word in lower case to its stem; the same function for the same language.

    Raises Misconfigured for a language that there is no algorithm for, and where the library is missing.
    """
    try:
        import Stemmer  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise Misconfigured(
            f"qdrant.terms_language = {language}: words by their stems need the extra stem ({error.name} is missing)"
        ) from None
    languages = Stemmer.algorithms()
    if language not in languages:
        raise Misconfigured(f"qdrant.terms_language: there are no stems of {language!r}: {', '.join(languages)}")
    known = threading.local()  # a stemmer is for one thread

    def stem(word: str) -> str:
        if not hasattr(known, "stemmer"):
            known.stemmer = Stemmer.Stemmer(language)
        stemmed_word: str = known.stemmer.stemWord(word)
        return stemmed_word

    return stem
