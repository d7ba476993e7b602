"""What the Dockerfile and image/build.sh do, read and run without a builder: layers, checks, digests."""

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import ROOT


def test_the_dockerfile_is_linted() -> None:
    linted = subprocess.run(
        [str(Path(sys.executable).parent / "hadolint"), str(ROOT / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert linted.returncode == 0, linted.stdout


class Stage(NamedTuple):
    """Of a Dockerfile: the stage or image that it begins with, and its instructions."""

    begin: str
    instructions: list[tuple[str, str]]

    def copied(self, stage: str = "") -> set[str]:
        """What it copies of another stage, or of the folder that is built from."""
        copies = [words.split() for name, words in self.instructions if name == "COPY"]
        begins = [(words[0].removeprefix("--from=") if words[0].startswith("--") else "", words) for words in copies]
        return {one for begin, words in begins if begin == stage for one in words[bool(stage) : -1]}


def stages() -> dict[str, Stage]:
    found: dict[str, Stage] = {}
    for line in (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines():
        name, _, words = line.partition(" ")
        if name == "FROM":
            begin, _, stage = words.partition(" AS ")
            found[stage] = Stage(begin, [])
        elif found and name.isupper():
            found[list(found)[-1]].instructions.append((name, words))
    return found


def ancestors(stage: str) -> Iterator[Stage]:
    while stage in stages():
        yield stages()[stage]
        stage = stages()[stage].begin


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_the_layer_of_packages_depends_on_the_lock_file_alone(kind: str) -> None:
    """So a change of code, docs or chart finds it in the cache, and in the registry."""
    packages = list(ancestors(f"{kind}-packages"))
    assert {one for stage in packages for one in stage.copied()} == {"image/tree.sh", f"requirements/{kind}.txt"}
    (layer,) = [words for name, words in stages()[kind].instructions if name == "COPY" and "/lib" in words]
    assert layer == f"--from={kind}-packages /opt/penstock/lib /opt/penstock/lib"
    assert stages()[kind].copied(f"{kind}-code") == {
        "/opt/penstock/shipped", "/opt/penstock/code", "/opt/penstock/sbom.cdx.json",
    }  # fmt: skip


def test_the_steps_of_the_dockerfile_are_those_of_the_tree() -> None:
    """Which the fixture makes in one."""
    runs = [words for stage in stages().values() for name, words in stage.instructions if name == "RUN"]
    made = [words.removeprefix("sh image/tree.sh ") for words in runs if "tree.sh" in words]
    steps = [f"{kind} /opt/penstock {step}" for step in ("packages", "code") for kind in ("cpu", "cuda")]
    assert made == steps
    wrong = subprocess.run(["/bin/sh", "image/tree.sh", "cpu", "x", "all"], cwd=ROOT, capture_output=True, check=False)
    assert (wrong.returncode, wrong.stdout) == (2, b"")


def test_what_the_dockerfile_copies_is_sent_to_the_builder() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {one for stage in stages().values() for one in stage.copied()}
    assert {one.split("/")[0] for one in copied} <= sent
    assert all((ROOT / one).exists() for one in copied)


def ran(stage: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The checks of a stage, which the builder would run."""
    (text,) = [words for name, words in stages()[stage].instructions if name == "RUN"]
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"} | variables
    return subprocess.run(["/bin/sh", "-c", text], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("release", "base", "code"),
    [("", "python:3.12", 0), ("1", "python:3.12", 1), ("1", f"python:3.12@sha256:{'0' * 64}", 0)],
)
def test_a_release_is_built_on_an_image_by_digest(release: str, base: str, code: int) -> None:
    done = ran("base", RELEASE=release, BASE=base)
    assert done.returncode == code
    assert ("image/build.sh" in done.stderr) == bool(code)


@pytest.mark.parametrize(("version", "code"), [(None, 1), ("9.0.1", 1), ("11.0.0", 1), ("10.15.1", 0)])
def test_the_tensorrt_image_is_not_built_without_its_libraries(tmp_path: Path, version: str | None, code: int) -> None:
    if version is not None:
        (tmp_path / "tensorrt.py").write_text(f"__version__ = {version!r}\n")
    done = ran("tensorrt", PYTHONPATH=str(tmp_path))
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("penstock: BASE has no TensorRT 10: ") == bool(code)
    assert len(done.stderr.splitlines()) == code


DRIVERS = {"12": "525.60.13", "13": "580"}
"""The oldest that runs a major version of CUDA, as NVIDIA's release notes say."""


def test_the_driver_that_the_image_asks_for_is_that_of_its_cuda() -> None:
    locked = (ROOT / "requirements" / "cuda.txt").read_text()
    (major,) = re.findall(r"^nvidia-cuda-runtime==(\d+)\.", locked, re.MULTILINE)
    said = " ".join(words for _, words in stages()["cuda"].instructions)
    assert f'com.nvidia.driver.minimum="{DRIVERS[major]}"' in said
    assert f'NVIDIA_REQUIRE_CUDA="cuda>={major}.0"' in said
    assert f"driver {DRIVERS[major]} or later" in (ROOT / "docs" / "deploying-models.md").read_text()


DOCKER = """#!/bin/sh
case "$2" in
  imagetools) [ "$6" != "nowhere:1" ] || exit 1; echo sha256:$(printf "%s" "$6" | sha256sum | cut -c1-64) ;;
  build) echo "$@" ;;
esac
"""


def built(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """By image/build.sh, with a docker that says what it is asked."""
    (folder / "docker").write_text(DOCKER)
    (folder / "docker").chmod(0o755)
    env = {"PATH": f"{folder}:/usr/bin:/bin"} | variables
    command = ["sh", str(ROOT / "image/build.sh"), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_a_release_finds_the_digests_of_its_bases(tmp_path: Path) -> None:
    done = built(tmp_path, "cuda", "penstock:1-cuda", "--push")
    assert done.returncode == 0, done.stderr
    digest = hashlib.sha256(b"python:3.12-slim-bookworm").hexdigest()
    for argument in ("PYTHON", "BASE"):
        assert f"--build-arg {argument}=python:3.12-slim-bookworm@sha256:{digest} " in done.stdout
    assert "--build-arg RELEASE=1 " in done.stdout
    assert "--target cuda --tag penstock:1-cuda " in done.stdout
    assert done.stdout.endswith("--push .\n")
    pinned = f"mine@sha256:{'1' * 64}"
    assert f"--build-arg BASE={pinned} " in built(tmp_path, "tensorrt", "x", BASE=pinned).stdout


def test_a_base_without_a_digest_builds_no_release(tmp_path: Path) -> None:
    done = built(tmp_path, "cpu", "penstock:1", BASE="nowhere:1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "penstock: no digest of nowhere:1: is its registry there?\n"
    assert built(tmp_path, "gpu", "penstock:1").returncode == 2
