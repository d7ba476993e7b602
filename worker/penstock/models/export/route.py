"""Which of the two ways a checkpoint takes: our own graphs, or optimum's for the other architectures."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from penstock.core.errors import Misconfigured
from penstock.models.bundle import Manifest
from penstock.models.export import card, qwen3
from penstock.models.export.checkpoint import CONFIG, read_json
from penstock.models.export.gate import Progress
from penstock.models.export.locate import describe, locate


def export_bundle(
    model: str,
    folder: Path,
    revision: str | None,
    dimensions: Sequence[int],
    source: str | None,
    options: qwen3.Options,
    progress: Progress,
) -> Manifest:
    """Write a bundle of a local folder or a hub id; raises Misconfigured, and then nothing is left behind."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Misconfigured(f"{folder} is not empty; name a new folder")
    try:
        described = describe(model, revision)
        if card.fits(described):
            return qwen3.export_bundle(locate(model, revision, source), folder, options, progress)
        if not (described / card.MODULES).is_file():
            raise Misconfigured(f"{model}: {_lacking(described)}")
        if replace(options, dimension=None) != qwen3.Options():
            raise Misconfigured(f"{model} is no Qwen3 model: --dialect, --precision, --quality, --task are not for it")
        from penstock.models.export import optimum  # noqa: PLC0415  # needs torch

        return optimum.export_bundle(model, folder, revision, dimensions, source)
    except OSError as error:
        raise Misconfigured(f"cannot export to {folder}: {error.strerror or error}") from error


def _lacking(folder: Path) -> str:
    if not (folder / CONFIG).is_file():
        return f"no {CONFIG} and no {card.MODULES}, so it is neither a Qwen3 nor a sentence-transformers model"
    kind = read_json(folder / CONFIG).get("model_type")
    return f"its model_type is {kind!r}, not 'qwen3', and no {card.MODULES} makes it a sentence-transformers model"
