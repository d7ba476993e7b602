"""Whether exact strings are found: python benchmarks/exact_strings.py [--quick]

Queries made of the demo's own documents, through Penstock itself, by the shipped models: words that are joined or hold
digits and stand in one document only; in a sentence those with a digit or a sign other than a hyphen; and phrases of
four words that one document has, in quotation marks. Recall among the first ten, as `penstock evaluate` measures it.
"""

import argparse
import random
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "worker")]

from benchmarks.report import about, machine, table, write  # noqa: E402
from benchmarks.small_model import documents, evaluated, indexed  # noqa: E402
from penstock.core.terms import folded, words  # noqa: E402
from penstock.demo import corpus  # noqa: E402
from penstock.evaluate.labelled import LabelledQuery  # noqa: E402
from penstock.settings import RerankSettings  # noqa: E402

QUERIES, QUICK, SEED = 100, 20, 1
PHRASE = 4
JOINED = re.compile(r"(?=.*[a-z])(?=.*[0-9_./:+-]).{4,}")
SIGNED = re.compile(r"(?=.*[a-z])(?=.*[0-9_./:+]).{4,}")


def only_once(found: Iterator[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    """``count`` of the strings that one document has, with it; always the same."""
    where = defaultdict(set)
    for string, name in found:
        where[string].add(name)
    rare = sorted((string, min(names)) for string, names in where.items() if len(names) == 1)
    return random.Random(SEED).sample(rare, count)


def identifiers(texts: Mapping[str, str], form: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    return (
        (folded(word), name) for name, text in texts.items() for word in words(text) if form.fullmatch(folded(word))
    )


def phrases(texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, text in texts.items():
        for line in text.splitlines():
            said = line.split()
            for at in range(len(said) - PHRASE + 1):
                if all(word.isalpha() for word in said[at : at + PHRASE]):
                    yield " ".join(said[at : at + PHRASE]).lower(), name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} queries of each, nothing written")
    quick = parser.parse_args().quick
    texts, count = documents(), QUICK if quick else QUERIES
    joined, signed = (only_once(identifiers(texts, form), count) for form in (JOINED, SIGNED))
    kinds = {
        "identifiers": joined,
        "identifiers in a sentence": [
            (f"which package has something to do with {string}", at) for string, at in signed
        ],
        "quoted phrases": [(f'"{string}"', at) for string, at in only_once(phrases(texts), count)],
    }
    rows = []
    with tempfile.TemporaryDirectory() as passing:
        chosen = indexed(Path(passing), corpus.EMBEDDING, None)
        chosen = chosen.model_copy(update={"rerank": RerankSettings(bundle=corpus.RERANKER)})
        for kind, strings in kinds.items():
            asked = [LabelledQuery(str(n), text, {name: 1}) for n, (text, name) in enumerate(strings)]
            report = evaluated(chosen, asked)
            served = [row for row in report.rows if row.search == "as served"]
            found = {f"{row.mode}, {row.order}": row.metrics["R@10"] for row in served}
            columns = ("dense, search", "sparse, search", "hybrid, search", "hybrid, both")
            rows.append((f"{kind}, {len(asked)}", *(f"{found[name]:.3f}" for name in columns)))
            print(rows[-1], flush=True)
    text = f"# Exact strings\n\n{machine()}. {about(__doc__)}\n\n"
    text += table(rows, ("queries", "dense", "sparse", "hybrid", "hybrid, reranked"))
    print(text)
    if not quick:
        write("exact-strings", text)


if __name__ == "__main__":
    main()
