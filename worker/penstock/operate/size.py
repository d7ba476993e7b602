"""How many workers a stream needs, and what its index takes. Pure."""

import math
from dataclasses import dataclass

SPARE = 0.7
"""Share of a worker's measured speed that is planned with: the rest catches up after an outage or a restart."""

VECTOR_BYTES, GRAPH = 4, 1.5
"""Of a number in a vector, and for the graph beside it: Qdrant's own rule of thumb."""


@dataclass(frozen=True, slots=True)
class StreamLoad:
    """``documents_per_s`` at the busiest hour, of ``tokens`` each on average, cut to chunks of ``chunk_tokens``."""

    documents_per_s: float
    tokens: int
    chunk_tokens: int = 512
    chunk_overlap: int = 64

    @property
    def chunks(self) -> int:
        """Of an average document: each but the first begins ``chunk_overlap`` tokens before the end of the last."""
        beyond = max(0, self.tokens - self.chunk_tokens)
        return 1 + math.ceil(beyond / (self.chunk_tokens - self.chunk_overlap))

    @property
    def tokens_per_s(self) -> float:
        """To embed, with what chunks share."""
        return self.documents_per_s * (self.tokens + (self.chunks - 1) * self.chunk_overlap)


@dataclass(frozen=True, slots=True)
class Size:
    """``catch_up_s`` is how long all workers take for what came in an hour without them, the stream going on."""

    workers: int
    partitions: int
    tokens_per_s: float
    catch_up_s: float
    memory_bytes: float


def size(stream: StreamLoad, speed: float, documents: int, dimension: int, *, quantized: bool = False) -> Size:
    """``speed`` is one worker's, in tokens/s as ``penstock bench`` measures them; ``documents`` those in the index.

    workers = ⌈ documents/s · tokens / (0.7 · speed) ⌉. Partitions are the next power of two of twice the workers, since
    their number is hard to change and bounds the workers.
    """
    workers = max(1, math.ceil(stream.tokens_per_s / (SPARE * speed)))
    spare = workers * speed - stream.tokens_per_s
    memory = documents * stream.chunks * dimension * (1 if quantized else VECTOR_BYTES) * GRAPH
    partitions = 2 ** math.ceil(math.log2(2 * workers))
    return Size(workers, partitions, stream.tokens_per_s, 3600 * stream.tokens_per_s / spare, memory)
