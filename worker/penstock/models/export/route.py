"""Which of the two ways a checkpoint takes: our own graphs, or optimum's for the other architectures."""

from collections.abc import Sequence
from pathlib import Path

from penstock.core.errors import Misconfigured
from penstock.models.bundle import Manifest
from penstock.models.export import bert, card, foreign, qwen3
from penstock.models.export.config import CONFIG, read_json
from penstock.models.export.encoder_config import PREFIXES
from penstock.models.export.gate import Progress
from penstock.models.export.locate import describe, locate
from penstock.models.export.options import Options

OURS_ALONE = {
    "--dialect": "dialects",
    "--precision": "precisions",
    "--quality": "labelled_set",
    "--texts": "texts",
    "--task": "task",
    "--separator": "separator",
}
"""What shapes a graph of ours, by the field of ``Options``; optimum has a way of its own."""


def export_bundle(
    model: str,
    folder: Path,
    revision: str | None,
    dimensions: Sequence[int],
    source: str | None,
    options: Options,
    progress: Progress,
) -> Manifest:
    """Write a bundle of a local folder or a hub id; raises Misconfigured, and then nothing is left behind."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Misconfigured(f"{folder} is not empty; name a new folder")
    try:
        described = describe(model, revision)
        foreign.refuse_folder(described)
        for path in card.configs(described):
            foreign.refuse_config(path, read_json(path))
        if card.fits(described):
            return qwen3.export_bundle(locate(model, revision, source), folder, options, progress)
        if bert.fits(described):
            located = locate(model, revision, source)
            if not bert.left_to_torch(located.folder):
                return bert.export_bundle(located, folder, dimensions, options, progress)
        _refuse_for_optimum(model, described, options)
        from penstock.models.export import optimum  # noqa: PLC0415  # needs torch

        return optimum.export_bundle(model, folder, revision, dimensions, source, options.prompts)
    except OSError as error:
        raise Misconfigured(f"cannot export to {folder}: {error.strerror or error}") from error


def _refuse_for_optimum(model: str, described: Path, options: Options) -> None:
    """Raises Misconfigured for what optimum does not export, or not as it is asked for."""
    if not (described / card.MODULES).is_file():
        raise Misconfigured(f"{model}: {_lacking(described)}")
    if given := _of_our_graphs(options):
        raise Misconfigured(f"{model} goes through optimum, where {', '.join(given)} means nothing: leave that out")
    if not any(module["type"] == "Pooling" for module in card.modules(described)):
        raise Misconfigured(
            f"{model}: {card.MODULES} has no Pooling, so it makes no sentence embeddings; rerankers of other "
            "families are not supported"
        )


def _of_our_graphs(options: Options) -> list[str]:
    """The options that were given, by their names on the command line, and say nothing to optimum."""
    usual = Options()
    return [option for option, field in OURS_ALONE.items() if getattr(options, field) != getattr(usual, field)]


def _lacking(folder: Path) -> str:
    if not (folder / CONFIG).is_file():
        return f"no {CONFIG} and no {card.MODULES}, so it is no model of a family that we know"
    kind = read_json(folder / CONFIG).get("model_type")
    ours = ", ".join(["qwen3", *PREFIXES])
    return f"its model_type is {kind!r}, none of {ours}, and no {card.MODULES} makes it a sentence-transformers model"
