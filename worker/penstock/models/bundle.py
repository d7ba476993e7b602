"""A model on disk: one folder with everything a worker needs, verified before anything in it is opened."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from penstock.core.errors import Misconfigured
from penstock.core.identity import ModelIdentity
from penstock.models.prompts import fill, takes_instruction
from penstock.models.providers import DIALECTS

MANIFEST = "bundle.json"
TOKENIZER = "tokenizer.json"
FORMAT = 1
SHIPPED = Path(__file__).resolve().parent.parent / "data"
"""What came with the package: there installers make hard links to their caches."""


ADDED = ("exact", "worst_probe", "tau", "largest_logit_difference")
"""Fields that the first bundles had not."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class File(_Part):
    """A file's fingerprint."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Graph(_Part):
    """An ONNX graph; ``output`` is ``[batch, dimension]``, pooled, or ``[batch, 1]``, a logit.

    ``exact``: the matrices of a graph of bytes that are in fp32 nevertheless, since bytes would spoil them;
    ``worst_probe``: the worst cosine of its vectors to the exact ones, on random probes.
    """

    dialect: str
    precision: str
    file: str
    output: str
    exact: tuple[str, ...] = ()
    worst_probe: float | None = None


class Check(_Part):
    """How the exported graph compared with the original model on sample texts."""

    texts: int
    worst_cosine: float


class Quality(_Part):
    """nDCG@10 on a labelled set, of the exact graph and of one with reduced precision.

    Of a reranker also Kendall's tau between the orders of both, as a mean over the queries, and by how much the logit
    differs that differs most.
    """

    labelled_set: str
    queries: int
    ndcg_fp32: float
    precision: str
    ndcg: float
    tau: float | None = None
    largest_logit_difference: float | None = None
    kept: bool


class Compared(_Part):
    """Cosines between the vectors of the exact graph and of one with reduced precision, on texts of the user's own."""

    name: str
    texts: int
    precision: str
    worst_cosine: float
    mean_cosine: float
    kept: bool


class TokenCost(_Part):
    """What a token costs: parameters of all matrices but the vocabulary's, and the width of all layers' queries."""

    matrix_parameters: int
    query_width: int

    def flops(self, tokens: int) -> float:
        """Floating point operations for one text: 2 per parameter and token, and causal attention to half the text."""
        return 2.0 * self.matrix_parameters * tokens + 2.0 * self.query_width * tokens * tokens


class Manifest(_Part):
    """The content of ``bundle.json``.

    ``prompts``: ``query`` and ``document`` of an embedding model, ``prefix``, ``pair``, ``suffix`` and ``separator`` of
    a reranker, and the default ``instruction`` of both; see ``prompts.py``. From ``least_dimension`` on, if it is not
    0, every dimension is supported; else those of ``dimensions``. ``token_budgets``: what ``penstock bench --tune``
    found, by provider. ``work``: of our own graphs.
    """

    format: int = FORMAT
    source: str
    revision: str
    task: Literal["embedding", "reranker"] = "embedding"
    dimension: int = Field(ge=1)
    dimensions: tuple[int, ...]
    least_dimension: int = 0
    pooling: str
    max_tokens: int = Field(ge=8)
    end_of_text: str = ""
    prompts: Mapping[str, str] = {}
    graphs: tuple[Graph, ...] = Field(min_length=1)
    check: Check | None = None
    quality: Quality | None = None
    compared: Compared | None = None
    token_budgets: Mapping[str, int] = {}
    work: TokenCost | None = None
    files: Mapping[str, File]

    def as_json(self) -> str:
        """Without what later versions added and is empty: an older one refuses what it does not know."""
        content = self.model_dump(mode="json")
        for part in (*content["graphs"], content["quality"] or {}):
            for name in [name for name in ADDED if part.get(name) in (None, [])]:
                part.pop(name, None)
        return json.dumps(content, indent=2, ensure_ascii=False)


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

    def dimension(self, wanted: int | None, name: str = "model.dimension") -> int:
        """The vectors' length; raises Misconfigured for one that the model does not support, by its ``name``."""
        if wanted is None:
            return self.manifest.dimension
        m = self.manifest
        if self.supports(wanted):
            return wanted
        supported = f"{m.least_dimension} to {m.dimension}" if m.least_dimension else ", ".join(map(str, m.dimensions))
        raise Misconfigured(f"{name} = {wanted}: {m.source} supports {supported}")

    def supports(self, dimension: int) -> bool:
        """Whether the model was made for vectors of that length."""
        m = self.manifest
        return dimension in m.dimensions or 0 < m.least_dimension <= dimension <= m.dimension

    def graphs(self, provider: str) -> list[Graph]:
        """Those that a provider can run, the better first; the export's order decides between precisions."""
        wanted = DIALECTS[provider]
        fitting = [graph for graph in self.manifest.graphs if graph.dialect in wanted]
        return sorted(fitting, key=lambda graph: wanted.index(graph.dialect))

    def prompt(self, side: str, instruction: str | None = None) -> str:
        """What goes before a text: ``side`` is query or document; raises Misconfigured where no task fits in."""
        template = self.manifest.prompts.get(side, "")
        if instruction is not None and not takes_instruction(template):
            raise Misconfigured(f"{self.manifest.source} takes no instruction")
        return fill(template, {"instruction": instruction or self.manifest.prompts.get("instruction", "")})

    def expect(self, task: str) -> None:
        """Raises Misconfigured for a model that does something else."""
        if self.manifest.task != task:
            raise Misconfigured(f"{self.folder} holds a model for {self.manifest.task}, not for {task}")

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's file."""
        return self.folder / TOKENIZER


def load(folder: Path | None, variable: str = "PENSTOCK_MODEL__BUNDLE") -> Bundle:
    """Read and verify a bundle; raises Misconfigured that says what is wrong, and where. ``variable`` names it."""
    if folder is None:
        raise Misconfigured(f"no model: set {variable} to a folder made by penstock export, or to shipped (small)")
    manifest = read(folder)
    _verify(folder, manifest)
    return Bundle(folder, manifest)


def read(folder: Path) -> Manifest:
    """The manifest alone, which names all that a bundle holds; raises Misconfigured."""
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
    for name in manifest.files:
        if ".." in Path(name).parts or Path(name).is_absolute() or not name.isprintable() or Path(name) == Path():
            raise Misconfigured(f"{path}: {name!r} leads out of the bundle")
    return manifest


def _verify(folder: Path, manifest: Manifest) -> None:
    """Every file as it was written, and no other: a model is code, and so is its tokenizer."""
    installed = folder.resolve().is_relative_to(SHIPPED)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or (path.is_file() and path.stat().st_nlink > 1 and not installed):
            raise Misconfigured(f"{path} is a link; a bundle holds plain files only")
        if path.is_file() and name != MANIFEST and name not in manifest.files:
            raise Misconfigured(f"{path} does not belong to the bundle; remove it, or export the model again")
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise Misconfigured(f"{path} is missing; export the model again")
        if fingerprint(path) != expected:
            raise Misconfigured(f"{path} is not what the export wrote (sha256 or size differ); export the model again")


@contextmanager
def new_bundle(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``folder`` at the end; where anything fails, nothing is left behind."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as temporary:
        unfinished = Path(temporary) / "bundle"
        unfinished.mkdir()
        yield unfinished
        if folder.exists():
            folder.rmdir()
        shutil.move(unfinished, folder)


def write(bundle: Bundle) -> None:
    """Put the manifest into the bundle's folder; raises Misconfigured where that is read-only."""
    path = bundle.folder / MANIFEST
    try:
        path.write_text(bundle.manifest.as_json() + "\n", encoding="utf-8")
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}") from None


def fingerprint(path: Path) -> File:
    """A file's sha256 and size."""
    with path.open("rb") as file:
        return File(sha256=hashlib.file_digest(file, "sha256").hexdigest(), size=path.stat().st_size)


def fingerprints(folder: Path) -> dict[str, File]:
    """Those of all files in a folder but the manifest."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path: path.relative_to(folder).as_posix() for path in paths}
    return {name: fingerprint(path) for path, name in names.items() if name != MANIFEST}
