"""Texts longer than a block of attention: the vectors of transformers, in memory that grows with the length."""

import json
import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from penstock.core.vectors import worst_cosine
from penstock.models.bundle import Bundle
from penstock.models.export.dialects.cpu import BLOCK, MEDIUM, SHORT
from penstock.models.runtime import on_processor
from tests.checkpoints import Shape, bundle, checkpoint, last_states
from tests.conftest import ROOT

pytest.importorskip("transformers")

MANY_HEADS = Shape(hidden=64, heads=16, key_heads=8, head_dim=16, layers=4, inner=64)
"""Scores are most of what it needs memory for."""

LENGTHS = [SHORT, SHORT + 1, MEDIUM - 1, MEDIUM, MEDIUM + 1, 5 * BLOCK, 5 * BLOCK + 3]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Bundle]:
    folder = tmp_path_factory.mktemp("long")
    model = checkpoint(folder / "checkpoint", MANY_HEADS, longest=20_000)
    return model, bundle(folder / "checkpoint", folder / "bundle", "cpu-fp32", "cpu-int7")


def texts(lengths: list[int]) -> list[list[int]]:
    chance = random.Random(0)
    return [[chance.randrange(250) for _ in range(length)] for length in lengths]


def run(made: Bundle, precision: str, given: list[list[int]], budget: int) -> np.ndarray:
    graph = next(graph for graph in made.manifest.graphs if graph.precision == precision)
    return on_processor(made, graph, budget, threads=1, passes=1).run(given)


def test_at_every_edge_of_a_block_the_vectors_are_those_of_transformers(made: tuple[Any, Bundle]) -> None:
    given = texts(LENGTHS)
    for budget in (256, 20_000):
        assert worst_cosine(run(made[1], "fp32", given, budget), last_states(made[0], given)) >= 0.99999


def test_a_long_text_has_the_vector_that_it_has_alone(made: tuple[Any, Bundle]) -> None:
    """Exactly, in graphs of bytes: padding moves it from one way to attend to another."""
    given = texts([3, 100, *LENGTHS])
    alone = run(made[1], "int7", given, 1)
    assert np.array_equal(run(made[1], "int7", given, 100_000), alone)


PROGRAM = """
import json, re, sys
import numpy as np
from pathlib import Path
from penstock.models.providers import Limits
from penstock.models.session import Session
session = Session(Path(sys.argv[1]), "embedding", "cpu", Limits(threads=1))
peaks = []
for length in map(int, sys.argv[2:]):
    ids = np.ones((1, length), dtype=np.int32)
    session.run({"input_ids": ids, "lengths": np.array([length], dtype=np.int32)})
    peaks.append(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024)
print(json.dumps(peaks))
"""


def test_memory_grows_with_the_length_and_not_with_its_square(made: tuple[Any, Bundle]) -> None:
    graph = made[1].folder / "cpu-fp32.onnx"
    command = [sys.executable, "-c", PROGRAM, str(graph), "512", "4096", "8192"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    first, middle, last = json.loads(done.stdout)
    print(f"peak in MiB at 512, 4,096 and 8,192 tokens: {first:.0f}, {middle:.0f}, {last:.0f}")
    assert last - first < 512
    assert last - first < 3 * (middle - first), "twice the length, four times the memory"
