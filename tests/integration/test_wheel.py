"""The wheel as it is built, in an environment that holds nothing else, outside this checkout."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment with the wheel and what ``requirements/demo.txt`` locks."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*build, str(ROOT)], check=True, timeout=120)
    (wheel,) = folder.glob("penstock_worker-*.whl")
    uv, environment = str(BIN / "uv"), folder / "environment"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(environment)], check=True, timeout=60)
    install = [uv, "pip", "install", "-q", "--python", str(environment / "bin" / "python")]
    locked = ["--require-hashes", "-r", str(ROOT / "requirements" / "demo.txt")]
    subprocess.run([*install, *locked], check=True, timeout=600)
    subprocess.run([*install, "--no-deps", str(wheel)], check=True, timeout=60)
    return environment


def penstock(installed: Path, *arguments: str) -> str:
    """What a command prints, run where there is no checkout and no variable of this one's."""
    here = installed.parent / "elsewhere"
    here.mkdir(exist_ok=True)
    env = {"PATH": "/usr/bin:/bin", "HOME": str(here)}
    command = [str(installed / "bin" / "penstock"), *arguments]
    done = subprocess.run(command, env=env, cwd=here, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_it_says_its_version_and_holds_one_package_and_the_schemas(installed: Path) -> None:
    assert penstock(installed, "--version").startswith("penstock ")
    assert json.loads(penstock(installed, "schema", "document.v1"))["title"]
    (packages,) = (installed / "lib").glob("python3*/site-packages")
    assert not (packages / "worker").exists()
    assert {path.name for path in packages.glob("penstock*")} == {
        "penstock",
        next(packages.glob("penstock_worker-*.dist-info")).name,
    }


def test_it_holds_the_corpus_and_the_models_of_the_demo(installed: Path) -> None:
    (data,) = (installed / "lib").glob("python3*/site-packages/penstock/data")
    ours = ROOT / "worker/penstock/data"
    assert contents(data).items() >= contents(ours).items()


def test_the_demo_runs_from_it(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "turbine.md").write_text("# Turbines\n\nWater under pressure turns a wheel.\n")
    (tmp_path / "notes" / "poem.txt").write_text("Roses are red.\n")
    report = json.loads(penstock(installed, "demo", "--json", "--from", str(tmp_path / "notes")))
    assert report["documents"] == 2
