"""What terms to search words by: words, their stems, or the tokens of a model:
python benchmarks/terms.py ['/var/lib/apt/lists/*_dists_bookworm_main_i18n_Translation-*']

BM25 over whole documents (k1 1.2, b 0.75): words as Penstock has them, against a fixed length; their stems
(qdrant.terms_language), where Snowball has that language; and the ids that the shipped model's tokenizer gives to
the folded text, against the mean length. First on the demo's documents and held-out queries; then, per language of
Debian's translations, 2,000 long descriptions, and 400 of their short ones as queries.
"""

import glob
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "worker")]

import numpy as np  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

from benchmarks.report import about, machine, table, write  # noqa: E402
from benchmarks.small_model import SETS, documents  # noqa: E402
from penstock.adapters.stems import stemmer  # noqa: E402
from penstock.core.terms import AVERAGE, K1, B, rarity, spelt, words  # noqa: E402
from penstock.demo import corpus  # noqa: E402
from penstock.evaluate.labelled import read, sampled  # noqa: E402
from penstock.evaluate.metrics import measure  # noqa: E402

LISTS = "/var/lib/apt/lists/*_dists_bookworm_main_i18n_Translation-*"
LANGUAGES = ("ja", "zh_CN", "ko", "ru", "uk", "pl", "cs", "es", "pt_BR")
DOCUMENTS, QUERIES = 2000, 400
FIRST = 10

Terms = Callable[[str], Sequence[object]]


def spelt_words(text: str) -> list[str]:
    return [term for word in words(text) for term in spelt(word)]


STEMMERS = {"en": "english", "programs": "english", "other": "english", "de": "german", "fr": "french", "it": "italian",
            "ru": "russian", "es": "spanish", "pt_BR": "portuguese", "pl": "polish", "cs": "czech"}  # fmt: skip


def stems(language: str) -> Terms | None:
    """As a collection of that language has them."""
    if language not in STEMMERS:
        return None
    stem = stemmer(STEMMERS[language])
    return lambda text: [term for word in words(text) for term in spelt(word, stem)]


def token_ids() -> Terms:
    tokenizer = Tokenizer.from_file(str(corpus.EMBEDDING / "tokenizer.json"))
    return lambda text: tokenizer.encode(text.casefold(), add_special_tokens=False).ids


def ranked(texts: Sequence[str], asked: Sequence[str], terms: Terms, average: float | None) -> Iterator[list[int]]:
    """For each query the places of the best documents."""
    counted = [Counter(terms(text)) for text in texts]
    mean = average or sum(one.total() for one in counted) / len(counted)
    postings: dict[object, list[tuple[int, float]]] = {}
    for at, one in enumerate(counted):
        saturation = K1 * (1 - B + B * one.total() / mean)
        for term, count in one.items():
            postings.setdefault(term, []).append((at, count * (K1 + 1) / (count + saturation)))
    for text in asked:
        scores = np.zeros(len(texts))
        for term in set(terms(text)) & postings.keys():
            having = postings[term]
            rare = rarity(len(texts), len(having))
            for at, weight in having:
                scores[at] += rare * weight
        best = np.argsort(-scores, kind="stable")[: 5 * FIRST]
        yield [int(at) for at in best if scores[at] > 0]


def translated(language: str, lists: str) -> list[tuple[str, str]]:
    """Short and long descriptions; long ones that begin alike once."""
    suffix = f"Translation-{language.replace('_', '%5f')}"
    found: dict[str, tuple[str, str]] = {}
    for path in glob.glob(lists):  # noqa: PTH207  # as the shell does
        if not path.removesuffix(".lz4").endswith(suffix):
            continue
        text = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", path], capture_output=True, check=True).stdout
        for short, long in re.findall(rf"^Description-{language}: (.*)\n((?: .*\n)*)", text.decode(), re.MULTILINE):
            lines = "\n".join(line[1:] for line in long.splitlines() if line.strip() != ".")
            if len(lines) > 80 and len(short) > 8:
                found.setdefault(lines[:60], (short, lines))
    made = list(found.values())
    random.Random(1).shuffle(made)  # no secret
    return made[:DOCUMENTS]


def compared(
    name: str, label: str, texts: dict[str, str], asked: dict[str, tuple[str, dict[str, int]]]
) -> tuple[str, ...]:
    judged = {query: dict(relevant) for query, (_, relevant) in asked.items()}
    queries, names = [text for text, _ in asked.values()], list(texts)
    cells = []
    for terms, average in ((spelt_words, AVERAGE), (stems(name), AVERAGE), (token_ids(), None)):
        if terms is None:
            cells += ["", ""]
            continue
        runs = ranked(list(texts.values()), queries, terms, average)
        found = {query: [names[at] for at in run] for query, run in zip(asked, runs, strict=True)}
        metrics = measure(judged, found, (FIRST,))
        cells += [f"{metrics['nDCG@10']:.3f}", f"{metrics['R@10']:.3f}"]
    return label, *cells


def main() -> None:
    lists = sys.argv[1] if sys.argv[1:] else LISTS
    rows, texts = [], documents()
    for name, label in SETS.items():
        asked = sampled(read(corpus.HELD_OUT / f"{name}.jsonl", None), QUERIES)
        rows.append(compared(name, f"{label}, {len(asked)}", texts, {q.id: (q.text, dict(q.relevant)) for q in asked}))
        print(rows[-1], flush=True)
    for language in LANGUAGES:
        pairs = translated(language, lists)
        if pairs:
            known = {str(at): long for at, (_, long) in enumerate(pairs)}
            made = {str(at): (short, {str(at): 1}) for at, (short, _) in enumerate(pairs[:QUERIES])}
            rows.append(compared(language, f"{language}, {len(made)} of {len(known)}", known, made))
            print(rows[-1], flush=True)
    text = f"# Words, stems or tokens as terms\n\n{machine()}. {about(__doc__)}\n\n"
    text += table(rows, ("queries", "words, nDCG@10", "R@10", "stems, nDCG@10", "R@10", "tokens, nDCG@10", "R@10"))
    print(text)
    write("terms", text)


if __name__ == "__main__":
    main()
