"""The structure, enforced: imports point inward, files stay small, and workers need no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FILES = sorted((ROOT / "worker").rglob("*.py"))

ALLOWED = {
    "filters": {"errors"},
    "types": {"filters"},
    "vectors": {"types"},
    "errors": set(),
    "schemas": {"errors"},
    "events": {"types", "errors"},
    "ports": {"types", "errors"},
    "settings": {"errors", "events", "filters", "settings"},
    "fakes": {"types", "errors", "ports", "filters", "fakes"},
    "stream": {"types", "errors", "ports", "trace", "stream"},
    "watch": {"types"},
    "health": set(),
    "gpu": set(),
    "trace": {"types"},
    "metrics": {"gpu", "models"},
    "index": {"types", "errors", "ports", "events", "stream", "watch", "metrics", "index"},
    "query": {
        "types",
        "errors",
        "ports",
        "events",
        "filters",
        "vectors",
        "stream",
        "health",
        "metrics",
        "trace",
        "query",
    },
    "evaluate": {"types", "errors", "vectors", "evaluate"},
    "models": {"types", "errors", "ports", "vectors", "models"},
    "adapters": {"types", "errors", "ports", "filters", "vectors", "settings", "watch", "trace", "adapters"},
    "telemetry": {"types", "errors", "stream", "trace"},
    "loading": {"types", "errors", "models", "ports", "settings", "telemetry"},
    "texts": {"types", "errors"},
}
"""Who may import whom; wiring, cli and demo put things together and may import all."""


def part(name: str) -> str:
    return name.split(".")[1]


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return {part(name) for name in names if name.startswith("worker.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "worker")))
def test_imports_point_inward(path: Path) -> None:
    own = path.relative_to(ROOT / "worker").parts[0].removesuffix(".py")
    if own in ALLOWED:
        assert imports(path) <= ALLOWED[own], f"{own} imports {imports(path) - ALLOWED[own]}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "worker")))
def test_a_file_reads_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.end_lineno:
            assert node.end_lineno - node.lineno < 45, node.name


def test_workers_run_where_torch_cannot_be_imported(minilm: Path) -> None:
    """A whole run: settings, bundle, session, tokenizer, an embedding, and every module of the data path."""
    program = """
import sys
for name in ("torch", "transformers", "sentence_transformers", "optimum", "onnx"):
    sys.modules[name] = None
from pathlib import Path
from worker import cli, wiring
from worker.loading import load_model
from worker.settings import ModelSettings
model = load_model(ModelSettings(bundle=Path(sys.argv[1]), dimension=128))
vectors = model.embedder.embed(model.tokenizer.encode(["water"], 16))
assert vectors.shape == (1, 128)
assert not [name for name, module in sys.modules.items() if name.split(".")[0] == "torch" and module]
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(minilm)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
