"""The shipped models on Cranfield, which they were not trained on: python benchmarks/cranfield.py FOLDER

FOLDER holds corpus.jsonl (document events), queries.jsonl and qrels.tsv (query, document, grade). Each row is what
`penstock evaluate qrels.tsv --queries queries.jsonl` says after `penstock index --from corpus.jsonl`: nDCG@10 and R@10
of 100 candidates, with words as they are and by their stems (PENSTOCK_QDRANT__TERMS_LANGUAGE=english).
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "worker")]

from benchmarks.report import about, machine, table, write  # noqa: E402

PENSTOCK = (sys.executable, "-m", "penstock")
WORDS = {"as they are": "", "stems": "english"}


def measured(folder: Path, language: str) -> list[tuple[str, ...]]:
    """Rows of one collection, as it is served."""
    with tempfile.TemporaryDirectory() as passing:
        env = os.environ | {
            "PYTHONPATH": str(ROOT / "worker"),
            "PENSTOCK_MODEL__BUNDLE": "shipped",
            "PENSTOCK_RERANK__BUNDLE": "shipped",
            "PENSTOCK_QDRANT__PATH": str(Path(passing) / "points"),
            "PENSTOCK_QDRANT__TERMS_LANGUAGE": language,
        }
        index = [*PENSTOCK, "index", "--from", str(folder / "corpus.jsonl")]
        subprocess.run(index, env=env, cwd=passing, check=False, capture_output=True)  # two events have no text
        evaluate = [
            *PENSTOCK,
            "evaluate",
            str(folder / "qrels.tsv"),
            "--queries",
            str(folder / "queries.jsonl"),
            "--json",
        ]
        done = subprocess.run(evaluate, env=env, cwd=passing, check=True, capture_output=True)
    rows = [row for row in json.loads(done.stdout)["rows"] if row["search"] == "as served"]
    return [
        (row["mode"], row["order"], f"{row['metrics']['nDCG@10']:.3f}", f"{row['metrics']['R@10']:.3f}") for row in rows
    ]


def main(folder: Path) -> None:
    rows = [(name, *row) for name, language in WORDS.items() for row in measured(folder, language)]
    text = f"# The shipped models on Cranfield\n\n{machine()}. {about(__doc__)}\n\n"
    text += table(rows, ("words", "found by", "order", "nDCG@10", "R@10"))
    print(text)
    write("cranfield", text)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
