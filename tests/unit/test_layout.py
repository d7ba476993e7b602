"""The structure, enforced: imports point inward, files stay small, and workers need no torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "worker" / "penstock"
FILES = sorted(PACKAGE.rglob("*.py"))
LINES, FUNCTION_LINES = 300, 45

FLOORS: dict[str, tuple[str, str]] = {
    "core": ("", "plain values, failures and ports know nothing else of ours"),
    "events": ("core", "bytes become events without knowing who asks"),
    "observe": ("core", "what a worker tells is told by plain values: nobody who works is known here"),
    "fakes": ("core", "a fake keeps the contracts of the ports, and needs nothing but them"),
    "settings": ("core events", "settings are values; who uses them does not matter to them"),
    "stream": ("core", "the loop of both workers knows neither of them"),
    "models": ("core", "a model runs on what it is given: no settings, no store, no stream"),
    "index": ("core events stream", "indexing is decided over ports: no library, no settings, no searching"),
    "query": ("core events observe stream", "searching is decided over ports: no store, no settings, no indexing"),
    "clients": ("core events query", "a client asks a worker over HTTP, in a program where nothing else of ours runs"),
    "adapters": ("core observe settings", "an adapter knows its library and the ports, and no worker"),
    "evaluate": ("core query", "what is measured is a search that somebody else has opened"),
    "operate": (
        "core events observe settings stream models adapters query",
        "an operator's tools use services, and no worker",
    ),
    "assembly": (
        "core events observe settings stream models index query adapters evaluate operate",
        "everything is put together here; what is below must not know",
    ),
    "demo": ("core settings query adapters evaluate assembly", "the demo is a user of what was put together"),
    "commands": (
        "core events observe settings stream models query adapters evaluate operate assembly demo",
        "commands are on top",
    ),
    "__main__": ("commands", "only the command line"),
}
"""From the ground up: which rooms each may import, and the rule that another arrow would break."""


def imports(path: Path) -> set[str]:
    """The rooms that a file takes something from, its own left out."""
    tree = ast.parse(path.read_text())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    names |= {
        f"penstock.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "penstock"
        for alias in node.names
    }
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    rooms = {name.split(".")[1] for name in names if name.startswith("penstock.")}
    return rooms - {"__version__", room_of(path)}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_room_stands_on_those_before_it() -> None:
    """So there is no circle between rooms, whatever they import from each other."""
    below: set[str] = set()
    for room, (allowed, _) in FLOORS.items():
        assert set(allowed.split()) <= below, f"{room} stands on {set(allowed.split()) - below}, which comes later"
        below.add(room)
    rooms = {room_of(path) for path in FILES} - {"__init__"}
    assert rooms == set(FLOORS), "a room of the package without a floor, or a floor without its room"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    if room_of(path) == "__init__":
        return
    allowed, rule = FLOORS[room_of(path)]
    wrong = imports(path) - set(allowed.split())
    assert not wrong, f"{path.relative_to(PACKAGE)} imports {', '.join(sorted(wrong))}: {rule}"


def test_the_top_floor_holds_rooms_and_nothing_else() -> None:
    files = {path.name for path in PACKAGE.iterdir() if path.is_file() and path.name != "py.typed"}
    assert files == {"__init__.py", "__main__.py"}
    assert not list((PACKAGE / "data").rglob("*.py")), "data holds nothing that runs"


def test_no_module_is_a_gerund_and_no_function_is_named_like_a_package() -> None:
    """But for what the field says: chunking, ranking."""
    assert {path.stem for path in FILES if path.stem.endswith("ing")} == {"chunking", "mapping", "ranking"}
    packages = {path.parent.name for path in FILES if path.name == "__init__.py"} - {"penstock"}
    functions = {
        f"{path.relative_to(PACKAGE)}: {node.name}"
        for path in FILES
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in packages
    }
    assert not functions


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_reads_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            assert node.end_lineno - node.lineno < FUNCTION_LINES, node.name


def test_workers_run_where_torch_cannot_be_imported(minilm: Path) -> None:
    """A whole run: settings, bundle, session, tokenizer, an embedding, and every module of the data path."""
    program = """
import sys
for name in ("torch", "transformers", "sentence_transformers", "optimum", "onnx"):
    sys.modules[name] = None
from pathlib import Path
from penstock.assembly import index, query
from penstock.assembly.models import load_model
from penstock.commands import main
from penstock.settings import ModelSettings
model = load_model(ModelSettings(bundle=Path(sys.argv[1]), dimension=128))
vectors = model.embedder.embed(model.tokenizer.encode(["water"], 16))
assert vectors.shape == (1, 128)
assert not [name for name, module in sys.modules.items() if name.split(".")[0] == "torch" and module]
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(minilm)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
