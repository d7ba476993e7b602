"""Batches, vectors and bundles."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from penstock.core.errors import Misconfigured
from penstock.core.vectors import truncate, worst_cosine
from penstock.models.batches import plan_batches
from penstock.models.bundle import File, Graph, Manifest, fingerprints, load
from penstock.models.export.gate import agreement, agrees
from penstock.models.quality import LabelledSet, hard_negatives, kendall_tau


@given(st.lists(st.integers(1, 600), max_size=60), st.integers(1, 2000))
def test_batches_hold_every_text_once_within_the_budget_longest_first(lengths: list[int], budget: int) -> None:
    batches = plan_batches(lengths, budget)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= budget
    ordered = [lengths[i] for batch in batches for i in batch]
    assert ordered == sorted(lengths, reverse=True)


def test_no_batch_could_take_the_first_text_of_the_next() -> None:
    assert plan_batches([4, 1, 4, 1, 1], 8) == [[0, 2], [1, 3, 4]]


FLOATS = arrays.arrays(np.float32, (3, 8), elements=st.floats(-100, 100, width=32))


@given(FLOATS, st.integers(1, 8))
def test_truncated_vectors_are_the_first_numbers_at_length_one(vectors: np.ndarray, dimension: int) -> None:
    cut = truncate(vectors, dimension)
    assert cut.shape == (3, dimension)
    for row, original in zip(cut, vectors[:, :dimension], strict=True):
        norm = np.linalg.norm(original.astype(np.float64))
        if norm > 1e-3:
            assert np.allclose(row, original / norm, atol=1e-5)


def test_truncating_a_normalized_vector_is_not_enough_without_normalizing_again() -> None:
    unit = np.full((1, 4), 0.5, dtype=np.float32)
    assert np.linalg.norm(truncate(unit, 2)) == pytest.approx(1.0)
    assert worst_cosine(unit, unit) == pytest.approx(1.0)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Files of a bundle, as far as verifying goes."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.onnx").write_bytes(b"graph")
    manifest = Manifest(
        source="test",
        revision="1",
        dimension=4,
        dimensions=(2, 4),
        pooling="mean",
        max_tokens=32,
        graphs=(Graph(dialect="onnx", precision="fp32", file="model.onnx", output="out"),),
        files=fingerprints(folder),
    )
    (folder / "bundle.json").write_text(manifest.model_dump_json())
    return folder


def change(folder: Path, **fields: object) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_an_untouched_bundle_loads(bundle: Path) -> None:
    loaded = load(bundle)
    assert loaded.dimension(None) == 4
    assert loaded.dimension(2) == 2
    assert [graph.file for graph in loaded.graphs("cuda")] == ["model.onnx"]
    assert loaded.graphs("tensorrt") == []


def test_a_dimension_that_the_model_does_not_support_is_refused(bundle: Path) -> None:
    with pytest.raises(Misconfigured, match="supports 2, 4"):
        load(bundle).dimension(3)


def test_what_came_with_the_package_may_be_linked_by_its_installer(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As uv links it into its cache; also where the package is reached through a link."""
    installed = tmp_path / "package" / "data" / "embedding"
    shutil.copytree(bundle, installed)
    os.link(installed / "model.onnx", tmp_path / "cache")
    (tmp_path / "linked").symlink_to(tmp_path / "package")
    monkeypatch.setattr("penstock.models.bundle.SHIPPED", tmp_path / "package" / "data")
    for folder in (installed, tmp_path / "linked" / "data" / "embedding"):
        assert load(folder).folder == folder


def test_what_was_altered_added_linked_or_left_out_is_refused(bundle: Path, tmp_path: Path) -> None:
    def broken(name: str) -> Path:
        return Path(shutil.copytree(bundle, tmp_path / name))

    altered = broken("altered")
    (altered / "model.onnx").write_bytes(b"grapH")
    extra = broken("extra")
    (extra / "custom_op.so").write_bytes(b"")
    symlink = broken("symlink")
    (symlink / "model.onnx").unlink()
    (symlink / "model.onnx").symlink_to(bundle / "model.onnx")
    hardlink = broken("hardlink")
    os.link(hardlink / "model.onnx", tmp_path / "elsewhere")
    missing = broken("missing")
    (missing / "tokenizer.json").unlink()
    outside = broken("outside")
    change(outside, files=json.loads((outside / "bundle.json").read_text())["files"] | {"../x": FINGERPRINT})
    for folder, said in (
        (altered, "not what the export wrote"),
        (extra, "does not belong"),
        (symlink, "is a link"),
        (hardlink, "is a link"),
        (missing, "is missing"),
        (outside, "leads out of the bundle"),
        (tmp_path / "nowhere", "no model bundle"),
    ):
        with pytest.raises(Misconfigured, match=said):
            load(folder)


FINGERPRINT = File(sha256="0" * 64, size=0).model_dump()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"format": 2}, "format 2"),
        ({"dimension": 0}, "dimension"),
        ({"files": {}}, "not among the files"),
        ({"x": 1}, "x"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(bundle: Path, fields: dict[str, object], said: str) -> None:
    change(bundle, **fields)
    with pytest.raises(Misconfigured, match=said):
        load(bundle)


def test_a_worker_without_a_bundle_says_how_to_get_one() -> None:
    with pytest.raises(Misconfigured, match="penstock export"):
        load(None)


def test_a_rerankers_negatives_are_those_that_share_the_querys_rare_words() -> None:
    documents = {f"d{n}": f"the water of river {n}" for n in range(30)} | {
        "near": "The turbine hall.",
        "hit": "turbine",
    }
    labelled = LabelledSet("set", documents, {"q": "the turbine"}, {"q": {"hit"}})
    assert hard_negatives(labelled, "q", 2)[0] == "near"
    assert "hit" not in hard_negatives(labelled, "q", 40)
    assert len(hard_negatives(labelled, "q", 40)) == 31


def test_logits_must_keep_their_order_and_their_size() -> None:
    exact = [np.arange(20, dtype=np.float32), np.arange(20, dtype=np.float32)]
    assert agrees(*agreement(exact, [one + np.float32(0.4) for one in exact]))
    assert not agrees(*agreement(exact, [one + np.float32(0.6) for one in exact]))
    close = [one / np.float32(100) for one in exact]
    assert agrees(*agreement(close, close))
    assert not agrees(*agreement(close, [-one for one in close]))
    assert kendall_tau(exact[0], -exact[0]) == -1
