"""The shipped embedding model on languages that it was not trained on here:
python benchmarks/small_languages.py '/var/lib/apt/lists/*_bookworm_main_i18n_Translation-*'

Packages of the demo's corpus that are described in English, asked for by their short descriptions in another language,
as Debian's package lists translate them (see training/debian_packages.py; apt-get update with Acquire::Languages lists
more languages than that). At most 100 of each language; BM25 over whole documents, words folded to lower case.
"""

import glob
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "worker")]

from benchmarks.report import about, machine, table, write  # noqa: E402
from benchmarks.small_model import by, documents, evaluated, figures, indexed, lexical  # noqa: E402
from penstock.core.queries import Mode  # noqa: E402
from penstock.demo import corpus  # noqa: E402
from penstock.evaluate.labelled import LabelledQuery, read  # noqa: E402
from training.debian_packages import LANGUAGES, stanzas  # noqa: E402

QUERIES, FEWEST = 100, 30


def asked(path: str, language: str, held_out: set[str]) -> list[LabelledQuery]:
    """Short descriptions of held-out packages, in the order of their names; those that are English still left out."""
    raw = subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", path], check=True, capture_output=True)
    queries = []
    for fields in stanzas(raw.stdout.decode()):
        short = fields.get(f"Description-{language}", "").partition("\n")[0]
        if fields["Package"] in held_out and len(short) >= 8:
            queries.append(LabelledQuery(f"{language}/{fields['Package']}", short, {fields["Package"]: 1}))
    return queries[:: max(1, len(queries) // QUERIES)][:QUERIES]


def main(translations: str) -> None:
    english = {next(iter(query.relevant)) for query in read(corpus.HELD_OUT / "en.jsonl", None)}
    texts, rows = documents(), []
    with tempfile.TemporaryDirectory() as passing:
        ours = indexed(Path(passing), corpus.EMBEDDING, None)
        for path in sorted(glob.glob(translations)):  # noqa: PTH207  # as the shell does
            language = path.rpartition("Translation-")[2].partition(".")[0].replace("%5f", "_")
            if language in LANGUAGES or len(queries := asked(path, language, english)) < FEWEST:
                continue
            measured = figures(by(evaluated(ours, queries), Mode.DENSE))
            rows.append((f"{language}, {len(queries)}", *figures(lexical(texts, queries)), *measured))
            print(rows[-1], flush=True)
    text = f"# The shipped embedding model in other languages\n\n{machine()}. {about(__doc__)}\n\n"
    text += table(rows, ("queries", "BM25 R@10", "BM25 nDCG@10", "shipped R@10", "shipped nDCG@10"))
    print(text)
    write("small-languages", text)


if __name__ == "__main__":
    main(*sys.argv[1:])
