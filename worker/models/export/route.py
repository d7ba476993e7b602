"""Which of the two ways a checkpoint takes: our own graphs, or optimum's for the other architectures."""

from collections.abc import Sequence
from pathlib import Path

from worker.errors import Misconfigured
from worker.models.bundle import Manifest
from worker.models.export import qwen3
from worker.models.export.checkpoint import CONFIG, read_json
from worker.models.export.gate import Progress
from worker.models.export.locate import describe, locate


def export(
    model: str,
    folder: Path,
    revision: str | None,
    dimensions: Sequence[int],
    source: str | None,
    options: qwen3.Options,
    progress: Progress,
) -> Manifest:
    """Write a bundle of a local folder or a hub id; raises Misconfigured, and then nothing is left behind."""
    if folder.exists():
        if not folder.is_dir() or any(folder.iterdir()):
            raise Misconfigured(f"{folder} is not empty; name a new folder")
        folder.rmdir()
    described = describe(model, revision)
    if qwen3.fits(described):
        return qwen3.export(locate(model, revision, source), folder, options, progress)
    if not (described / qwen3.MODULES).is_file():
        raise Misconfigured(f"{model}: {_lacking(described)}")
    from worker.models.export import optimum  # noqa: PLC0415  # needs torch

    return optimum.export(model, folder, revision, dimensions, source)


def _lacking(folder: Path) -> str:
    if not (folder / CONFIG).is_file():
        return f"no {CONFIG} and no {qwen3.MODULES}, so it is neither a Qwen3 nor a sentence-transformers model"
    kind = read_json(folder / CONFIG).get("model_type")
    return f"its model_type is {kind!r}, not 'qwen3', and no {qwen3.MODULES} makes it a sentence-transformers model"
