"""A model on disk: one folder with everything a worker needs, verified before anything in it is opened."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worker.errors import Misconfigured
from worker.types import ModelIdentity

MANIFEST = "bundle.json"
TOKENIZER = "tokenizer.json"
FORMAT = 1


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class File(_Part):
    """A file's fingerprint."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Graph(_Part):
    """An ONNX graph; ``output`` is its pooled ``[batch, dimension]``."""

    dialect: str
    precision: str
    file: str
    output: str


class Check(_Part):
    """How the exported graph compared with the original model on sample texts."""

    texts: int
    worst_cosine: float


class Manifest(_Part):
    """The content of ``bundle.json``. Prompts are put before a text as they are."""

    format: int = FORMAT
    source: str
    revision: str
    task: str = "embedding"
    dimension: int = Field(ge=1)
    dimensions: tuple[int, ...]
    pooling: str
    max_tokens: int = Field(ge=8)
    end_of_text: str = ""
    prompts: Mapping[str, str] = {}
    graphs: tuple[Graph, ...] = Field(min_length=1)
    check: Check | None = None
    files: Mapping[str, File]


class Bundle:
    """A verified bundle."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Use ``load``."""
        self.folder = folder
        self.manifest = manifest

    def identity(self, dimension: int) -> ModelIdentity:
        """What a collection of this model's vectors remembers."""
        m = self.manifest
        prompt = m.prompts.get("document", "")
        return ModelIdentity(m.source, m.revision, m.pooling, m.end_of_text, prompt, dimension)

    def dimension(self, wanted: int | None) -> int:
        """The vectors' length; raises Misconfigured for one that the model does not support."""
        if wanted is None:
            return self.manifest.dimension
        if wanted not in self.manifest.dimensions:
            supported = ", ".join(map(str, self.manifest.dimensions))
            raise Misconfigured(f"model.dimension = {wanted}: {self.manifest.source} supports {supported}")
        return wanted

    def graph(self, dialect: str) -> tuple[Path, str]:
        """File and output name of the graph for a dialect, else of the one that runs anywhere."""
        graphs = {graph.dialect: graph for graph in self.manifest.graphs}
        chosen = graphs.get(dialect) or graphs.get("onnx")
        if chosen is None:
            raise Misconfigured(f"{self.folder}: no graph for {dialect}, only for {', '.join(graphs)}")
        return self.folder / chosen.file, chosen.output

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's file."""
        return self.folder / TOKENIZER


def load(folder: Path | None) -> Bundle:
    """Read and verify a bundle; raises Misconfigured that says what is wrong, and where."""
    if folder is None:
        raise Misconfigured("no model: set PENSTOCK_MODEL__BUNDLE to a folder made by penstock export")
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise Misconfigured(f"no model bundle in {folder}: {path.name}: {error.strerror}") from None
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        place = ".".join(map(str, fault["loc"])) or "file"
        raise Misconfigured(f"{path}: {place}: {fault['msg']}; export the model again") from None
    if manifest.format != FORMAT:
        raise Misconfigured(f"{path}: format {manifest.format}, this version reads {FORMAT}; export the model again")
    for name in (TOKENIZER, *(graph.file for graph in manifest.graphs)):
        if name not in manifest.files:
            raise Misconfigured(f"{path}: {name} is not among the files; export the model again")
    _verify(folder, manifest)
    return Bundle(folder, manifest)


def _verify(folder: Path, manifest: Manifest) -> None:
    """Every file as it was written, and no other: a model is code, and so is its tokenizer."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or (path.is_file() and path.stat().st_nlink > 1):
            raise Misconfigured(f"{path} is a link; a bundle holds plain files only")
        if path.is_file() and name != MANIFEST and name not in manifest.files:
            raise Misconfigured(f"{path} does not belong to the bundle; remove it, or export the model again")
    for name, expected in manifest.files.items():
        path = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise Misconfigured(f"{folder / MANIFEST}: {name} leads out of the bundle")
        if not path.is_file():
            raise Misconfigured(f"{path} is missing; export the model again")
        if fingerprint(path) != expected:
            raise Misconfigured(f"{path} is not what the export wrote (sha256 or size differ); export the model again")


def fingerprint(path: Path) -> File:
    """A file's sha256 and size."""
    with path.open("rb") as file:
        return File(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size=path.stat().st_size)


def fingerprints(folder: Path) -> dict[str, File]:
    """Those of all files in a folder but the manifest."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path: path.relative_to(folder).as_posix() for path in paths}
    return {name: fingerprint(path) for path, name in names.items() if name != MANIFEST}
