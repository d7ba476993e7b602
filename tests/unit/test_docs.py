"""What the documents say is there: links, commands, options, settings, metrics, targets and paths."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from docs.generate import metrics_page
from penstock import settings
from penstock.commands import main as _every_command  # noqa: F401
from penstock.commands.app import app
from penstock.settings import variables
from tests.unit.test_layout import FLOORS

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "helm").glob("*.md"),
        *(ROOT / "worker" / "penstock" / "data").rglob("*.md"),
    ]
)
WRITTEN = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""Those that speak of today; the changelog also speaks of what was."""

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"penstock ([a-z]+(?:-[a-z]+)*)((?: [^`\n|#&]*)?)")
OTHER_VARIABLES = {"PENSTOCK_CONFIG", "PENSTOCK_SECRETS"}
SUFFIXES = ("", "_total", "_bucket", "_sum", "_count")
NOT_COMMANDS = {"is", "in", "oci"}
"""Words that follow the name in prose and in `helm install penstock …`."""


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def in_code(page: Path) -> str:
    """What stands in fenced blocks and between backticks, a line each."""
    text = page.read_text()
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return "\n".join([*fenced, *inline])


def commands() -> dict[str, set[str]]:
    """Options by command."""
    root: Any = typer.main.get_command(app)
    return {
        name: {
            option
            for one in (command, *getattr(command, "commands", {}).values())
            for parameter in one.params
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        for name, command in root.commands.items()
    }


def mentioned(page: Path) -> Iterator[tuple[str, str]]:
    """Commands of ours with what follows them."""
    for name, rest in COMMAND.findall(in_code(page)):
        if name not in NOT_COMMANDS:
            yield name, rest


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link}: {target.name} has no such heading"


@pytest.mark.parametrize("page", WRITTEN, ids=named)
def test_every_command_and_option_exists(page: Path) -> None:
    known = commands()
    for name, rest in mentioned(page):
        assert name in known, f"there is no penstock {name}"
        options = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*|-[a-z])(?![\w-])", re.sub(r'"[^"]*"', "", rest)))
        assert options <= known[name] | {"--help"}, f"penstock {name} has no {options - known[name]}"


@pytest.mark.parametrize("page", WRITTEN, ids=named)
def test_every_setting_exists(page: Path) -> None:
    known = {name for name, _, _ in variables()} | OTHER_VARIABLES
    assert set(re.findall(r"\bPENSTOCK_[A-Z0-9_]+\b", page.read_text())) <= known


IN_TOML = re.compile(r"```toml\n(\[(?:index|kafka).*?)```", re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if IN_TOML.search(page.read_text())])
def test_settings_in_toml_are_read(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, block in enumerate(IN_TOML.findall(page.read_text())):
        file = tmp_path / f"{number}.toml"
        file.write_text(block)
        monkeypatch.setenv("PENSTOCK_CONFIG", str(file))
        assert settings.load().index != settings.IndexSettings()


@pytest.mark.parametrize("page", WRITTEN, ids=named)
def test_every_metric_exists(page: Path) -> None:
    known = set(re.findall(r"^\| `(penstock_\w+)`", metrics_page(), re.MULTILINE))
    for name in re.findall(r"\bpenstock_(?:index|query|model|gpu|build|retries)\w*", page.read_text()):
        assert any(name == f"{one}{suffix}" for one in known for suffix in SUFFIXES), f"there is no metric {name}"


@pytest.mark.parametrize("page", WRITTEN, ids=named)
def test_every_target_of_make_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b", in_code(page))) <= targets


@pytest.mark.parametrize("page", WRITTEN, ids=named)
def test_every_path_exists(page: Path) -> None:
    """Those that begin with a folder of this repository."""
    folders = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
    for path in re.findall(rf"(?<![\w./-])((?:{folders})/[\w./-]+)", in_code(page)):
        made_by_hand = ("runs/", "training/run", "training/e5-cut")
        if not path.startswith(made_by_hand) and not re.fullmatch(r"training/[\w-]+\.jsonl", path):
            assert (ROOT / path).exists() or (page.parent / path).exists(), f"there is no {path}"


def test_the_reference_is_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_is_read_in_two_minutes() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_every_alert_is_explained_and_no_other() -> None:
    text = (ROOT / "helm" / "monitoring" / "alerts.yaml").read_text()
    alerts = set(re.findall(r"- alert: (\w+)", text))
    page = (ROOT / "docs" / "operating.md").read_text()
    assert set(re.findall(r"^### (Penstock\w+)$", page, re.MULTILINE)) == alerts
    assert alerts


def test_the_table_of_rooms_is_what_the_layout_test_holds() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| \[(\w+)\]\(\.\./worker/penstock/\w+\) \|.*\| ([\w, ]*) \|$", page, re.MULTILINE)
    written = {room: set(allowed.split(", ")) - {"nothing of ours", ""} for room, allowed in rows}
    held = {room: set(allowed.split()) for room, (allowed, _) in FLOORS.items() if room != "__main__"}
    assert written == held


def test_every_page_is_reached_from_the_readme() -> None:
    links = {link.partition("#")[0] for link in LINK.findall((ROOT / "README.md").read_text())}
    pages = {named(page) for page in PAGES if page.parent.name in ("docs", "reference")}
    assert pages <= links
    assert "CONTRIBUTING.md" in links


def test_no_text_names_an_install_that_is_not_ours() -> None:
    """The package that is called penstock on PyPI is somebody else's."""
    for path in (*PAGES, *(ROOT / "worker").rglob("*.py"), *(ROOT / "helm").rglob("*.*")):
        if path.is_file() and path.suffix in (".md", ".py", ".yaml", ".txt", ".tpl"):
            assert not re.search(r"pip install[^\n]*\bpenstock\b", path.read_text()), path


def test_the_chart_and_the_package_are_of_one_version() -> None:
    chart = yaml.safe_load((ROOT / "helm" / "Chart.yaml").read_text())
    assert (
        chart["appVersion"]
        == re.findall(r'__version__ = "(.*)"', (ROOT / "worker/penstock/__init__.py").read_text())[0]
    )
