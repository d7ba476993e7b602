"""What images are here: folders. Penstock's own is what the Dockerfile's commands make, run as the Dockerfile says."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import ROOT

BASE = re.compile(r"^FROM \S+ AS base$(.*?)^FROM ", re.MULTILINE | re.DOTALL)
WORD = re.compile(r"(\w+)=(\S+)")


@dataclass(frozen=True, slots=True)
class Image:
    """``folders`` by where they lie in it; the entrypoint, variables and user of its configuration."""

    folders: Mapping[str, Path] = field(default_factory=dict)
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: int = 0


def penstock(tree: Path) -> Image:
    """The workers' image over the tree that its Dockerfile would copy."""
    found = BASE.search((ROOT / "Dockerfile").read_text())
    assert found, "the Dockerfile has no stage named base"
    lines = found[1].replace("\\\n", " ").splitlines()
    said = {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in lines if " " in line.strip()}
    user = int(said["USER"].split(":")[0])
    entrypoint, command = json.loads(said["ENTRYPOINT"]), json.loads(said["CMD"])
    return Image({"/opt/penstock": tree}, entrypoint, command, dict(WORD.findall(said["ENV"])), user)
