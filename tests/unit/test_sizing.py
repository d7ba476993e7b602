"""The size of a deployment follows from the stream and one worker's speed."""

import math

from hypothesis import given
from hypothesis import strategies as st

from penstock.operate.size import SPARE, StreamLoad, size


def test_the_formula_of_the_readme() -> None:
    found = size(StreamLoad(50, 400), speed=10_000, documents=1_000_000, dimension=1024)
    assert found.workers == math.ceil(50 * 400 / (0.7 * 10_000)) == 3
    assert found.partitions == 8
    assert found.catch_up_s == 3600 * 20_000 / (30_000 - 20_000)
    assert found.memory_bytes == 1_000_000 * 1024 * 4 * 1.5


def test_a_long_document_is_embedded_with_what_its_chunks_share() -> None:
    assert [StreamLoad(1, tokens, 512, 64).chunks for tokens in (1, 512, 513, 960, 961)] == [1, 1, 2, 2, 3]
    assert StreamLoad(1, 960, 512, 64).tokens_per_s == 960 + 64


@given(st.floats(0.01, 1e5), st.integers(1, 100_000), st.floats(10, 1e6))
def test_workers_are_never_planned_beyond_their_spare_and_fit_their_partitions(
    documents_per_s: float, tokens: int, speed: float
) -> None:
    stream = StreamLoad(documents_per_s, tokens)
    found = size(stream, speed, 0, 1024)
    assert found.workers * speed * SPARE >= stream.tokens_per_s * 0.999999
    assert (found.workers - 1) * speed * SPARE <= stream.tokens_per_s * 1.000001
    assert found.partitions >= 2 * found.workers
    assert found.catch_up_s >= 0
