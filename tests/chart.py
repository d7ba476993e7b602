"""The chart as Helm renders it."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT, unavailable

CHART = ROOT / "helm"
Manifest = dict[str, Any]


def binary(name: str) -> str:
    """One that is installed, or that was built for the tests."""
    found = shutil.which(name) or str(ROOT / "tests/helm/bin" / name)
    if not Path(found).exists():
        unavailable(f"no {name} binary: sh tests/helm/fetch.sh builds it with Go")
    return found


def template(*options: object) -> "subprocess.CompletedProcess[str]":
    """What Helm says of a release named release."""
    return run(binary("helm"), "template", "release", CHART, "--kube-version", "1.37.0", *options)


def run(*command: object) -> "subprocess.CompletedProcess[str]":
    """What it says."""
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=60)


def render(*options: object) -> list[Manifest]:
    """The manifests of a release named release."""
    done = template(*options)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """By name."""
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] == kind}
