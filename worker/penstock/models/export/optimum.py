"""Sentence-transformers models through optimum-onnx. Imports torch, hence nothing at the top level does."""

import contextlib
import io
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.core.errors import Misconfigured
from penstock.core.vectors import truncate, worst_cosine
from penstock.models.bundle import TOKENIZER, Bundle, Check, Graph, Manifest, fingerprints, new_bundle, write
from penstock.models.embedder import OnnxEmbedder
from penstock.models.export import card
from penstock.models.export.locate import weights_hash
from penstock.models.export.samples import SAMPLES
from penstock.models.providers import BUDGET
from penstock.models.runtime import on_processor
from penstock.models.tokenizer import HubTokenizer

GRAPH = "model.onnx"
OUTPUT = "sentence_embedding"
LEAST_COSINE = 0.9999


def export_bundle(
    model: str,
    folder: Path,
    revision: str | None = None,
    dimensions: Sequence[int] = (),
    source: str | None = None,
    prompts: Mapping[str, str] | None = None,
) -> Manifest:
    """Write a bundle of a sentence-transformers model, from a local folder or a hub id.

    ``dimensions`` are shorter ones that the model was trained for, beside its own; ``source`` is the name that
    collections remember, else the hub id or the folder's name. ``prompts`` go before queries and documents, instead of
    the model's own. Raises Misconfigured.
    """
    with _quiet():
        original = _load(model, revision)
        _refuse_unknown(original, model)
        native = int(original.get_embedding_dimension() or 0)
        supported = tuple(sorted({*dimensions, native}))
        if not native or supported[-1] > native:
            raise Misconfigured(f"{model} has {native} dimensions; {max(dimensions, default=0)} are not supported")
        name, fixed = _identity(original, model, revision)
        with new_bundle(folder) as unfinished:
            before = card.sides(original.prompts or {}) | dict(prompts or {})
            return _write(original, source or name, fixed, unfinished, supported, before)


def _write(  # what a manifest is made of
    original: Any, source: str, revision: str, made: Path, supported: tuple[int, ...], prompts: Mapping[str, str]
) -> Manifest:
    """Export, check against the original, and only then call it a bundle."""
    with tempfile.TemporaryDirectory(dir=made.parent) as raw:
        _convert(original, Path(raw))
        for name in (GRAPH, f"{GRAPH}_data"):
            if (Path(raw) / name).exists():
                shutil.move(Path(raw) / name, made / name)
    original.tokenizer.backend_tokenizer.save(str(made / TOKENIZER))
    manifest = Manifest(
        source=source,
        revision=revision,
        dimension=supported[-1],
        dimensions=supported,
        pooling=_pooling(original),
        max_tokens=_longest(original),
        end_of_text=original.tokenizer.sep_token or original.tokenizer.eos_token or "",
        prompts=dict(prompts),
        graphs=(Graph(dialect="onnx", precision="fp32", file=GRAPH, output=OUTPUT),),
        files=fingerprints(made),
    )
    manifest = manifest.model_copy(update={"check": _check(original, Bundle(made, manifest))})
    write(Bundle(made, manifest))
    return manifest


def _load(model: str, revision: str | None) -> Any:
    try:
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415  # only export needs torch
    except ImportError as error:
        raise Misconfigured(
            f"penstock export of this model needs the extra optimum ({error.name} is missing)"
        ) from None
    try:
        return SentenceTransformer(model, revision=revision, device="cpu", trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise Misconfigured(f"cannot load {model}: {str(error).splitlines()[0]}") from error


def _refuse_unknown(original: Any, model: str) -> None:
    """Without the code of an architecture, its nearest relation is loaded in its place, and computes something else."""
    import transformers  # noqa: PLC0415  # only export needs torch

    named = getattr(original[0].auto_model.config, "architectures", None) or ()
    if unknown := sorted(name for name in named if not hasattr(transformers, name)):
        raise Misconfigured(f"{model}: transformers {transformers.__version__} has no architecture {unknown[0]}")


def _convert(original: Any, folder: Path) -> None:
    """Optimum reads a model from a folder or the hub; a saved copy serves both, and pins what was loaded."""
    from optimum.exporters.onnx import main_export  # noqa: PLC0415  # only export needs torch

    with tempfile.TemporaryDirectory() as saved:
        original.save(saved)
        main_export(
            saved,
            output=folder,
            task="feature-extraction",
            library_name="sentence_transformers",
            do_validation=False,
            opset=18,
        )


def _identity(original: Any, model: str, revision: str | None) -> tuple[str, str]:
    """Where the model is from, and which state of it: the hub's commit, or a hash of a folder's weights."""
    if not Path(model).is_dir():
        commit = getattr(original[0].auto_model.config, "_commit_hash", None)
        return model, commit or revision or "unknown"
    return Path(model).resolve().name, f"sha256:{weights_hash(Path(model))[:16]}"


def _longest(original: Any) -> int:
    """In tokens: what the model was made for, never more than it has positions; either may be left out."""
    positions = getattr(original[0].auto_model.config, "max_position_embeddings", None)
    known = [int(limit) for limit in (original.max_seq_length, positions) if limit]
    if not known:
        raise Misconfigured("nothing says how long a text may be: set max_seq_length in sentence_bert_config.json")
    return min(known)


def _pooling(original: Any) -> str:
    for module in original:
        if mode := getattr(module, "pooling_mode", None):
            return mode if isinstance(mode, str) else "+".join(mode)
    raise Misconfigured("the model has no pooling, so it makes no sentence embeddings")


def _check(original: Any, bundle: Bundle) -> Check:
    """The bundle, through the worker's own code, against the original."""
    dimension = bundle.manifest.dimension
    tokenizer = HubTokenizer(bundle.tokenizer)
    embedder = OnnxEmbedder(on_processor(bundle, bundle.manifest.graphs[0], BUDGET["cpu"]), dimension)
    ours = embedder.embed(tokenizer.encode(SAMPLES, bundle.manifest.max_tokens))
    theirs = truncate(original.encode(list(SAMPLES), show_progress_bar=False, prompt=""), dimension)
    worst = worst_cosine(ours, theirs)
    if worst < LEAST_COSINE:
        raise Misconfigured(f"{bundle.manifest.source}: the export differs from the original: worst cosine {worst:.6f}")
    return Check(texts=len(SAMPLES), worst_cosine=round(worst, 7))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The libraries' warnings and progress are not for users of this command."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
