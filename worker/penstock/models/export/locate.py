"""Where a checkpoint is: a folder, or a repository on the hub, of which only what is needed is fetched."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.core.errors import Misconfigured
from penstock.models.export import foreign

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
DESCRIPTION = ("*.json", "*/config.json")


@dataclass(frozen=True, slots=True)
class Located:
    """A checkpoint's folder, the name that collections remember, and which state of it this is."""

    folder: Path
    source: str
    revision: str


def describe(model: str, revision: str | None) -> Path:
    """A folder with at least the checkpoint's descriptions; raises Misconfigured."""
    folder = _local(model)
    return folder or _fetch(model, revision, DESCRIPTION)


def locate(model: str, revision: str | None, source: str | None = None) -> Located:
    """The whole checkpoint. A hub repository's state is its commit, a folder's is a hash of its weights.

    ``source`` is a name to remember instead of the hub's or the folder's.
    """
    if folder := _local(model):
        return Located(folder, source or folder.resolve().name, f"sha256:{weights_hash(folder)[:16]}")
    folder = _fetch(model, revision, (*DESCRIPTION, *WEIGHTS))
    return Located(folder, source or model, folder.name)


def weights_hash(folder: Path) -> str:
    """sha256 over all weights, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")) or sorted(folder.rglob("*.bin")):
        with path.open("rb") as file:
            while block := file.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()


def _local(model: str) -> Path | None:
    path = Path(model)
    if path.is_dir():
        return path
    if path.is_file():
        foreign.refuse_file(path)
    if path.is_absolute() or model.startswith("."):
        raise Misconfigured(f"{model}: there is no such folder")
    return None


def _fetch(model: str, revision: str | None, patterns: Sequence[str]) -> Path:
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415  # an extra, and local folders need none
    except ImportError as error:
        raise Misconfigured(f"penstock export needs the extra export ({error.name} is missing)") from None
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:  # a dozen classes of the hub, of HTTP and of the system, all of one meaning
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise Misconfigured(f"cannot fetch {model}: {reason}; is it a folder? Then write ./{model}") from error
