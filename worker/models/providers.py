"""ONNX Runtime's execution providers: what they are asked for, and which shapes TensorRT builds engines for. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from worker.models.batching import round_up

PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}

DIALECTS = {"tensorrt": ("tensorrt",), "cuda": ("cuda", "onnx"), "cpu": ("cpu", "onnx")}
"""Graphs that a provider runs, the better one first; ``onnx`` are those of other architectures."""

MULTIPLE = {"tensorrt": 16, "cuda": 16, "cpu": 4}
"""Lengths are padded to such multiples: a GPU meets few different shapes, and on processors every score is computed by
the same vector instructions, whose last bit differs from that of the scalar ones for the rest of a row."""

BUDGET = {"tensorrt": 16384, "cuda": 16384, "cpu": 512}
"""Padded tokens per pass, unless set or tuned. On processors a batch is best small enough for their caches."""

BUCKETS = (32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
"""Upper lengths of TensorRT's profiles."""

WORKSPACE = 8 << 30
"""Bytes that TensorRT may use while it tries kernels."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The shapes that one engine is built for: up to ``batch`` texts of ``shortest`` to ``longest`` tokens."""

    batch: int
    shortest: int
    longest: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What a session may use. ``threads`` 0 means all cores; ``gpu_memory`` in bytes, 0 means all.

    ``spinning`` threads wait for the next operator actively: faster for single texts, on cores that nobody else needs.
    """

    threads: int = 0
    spinning: bool = False
    gpu_memory: int = 0
    engines: Path | None = None
    profiles: tuple[Profile, ...] = ()


def profiles(token_budget: int, longest: int) -> tuple[Profile, ...]:
    """One per bucket that a batch within the budget, and a text, can reach."""
    shortest, found = 1, []
    for bucket in BUCKETS:
        if shortest <= longest and bucket <= max(token_budget, BUCKETS[0]):
            least = round_up(shortest, MULTIPLE["tensorrt"])
            found.append(Profile(max(1, token_budget // least), shortest, bucket))
        shortest = bucket + 1
    return tuple(found)


def covered(found: Sequence[Profile], batch: int, length: int) -> bool:
    """Whether an engine exists for this shape; if not, TensorRT would build one in the middle of the stream."""
    return any(batch <= one.batch and one.shortest <= length <= one.longest for one in found)


def options(provider: str, limits: Limits) -> dict[str, str]:
    """The provider's options by ONNX Runtime's names."""
    if provider == "cpu":
        return {}
    cuda = {"arena_extend_strategy": "kSameAsRequested", "use_tf32": "1"}
    if limits.gpu_memory:
        cuda["gpu_mem_limit"] = str(limits.gpu_memory)
    if provider == "cuda":
        return cuda
    shapes = {
        which: ",".join(f"input_ids:{batch}x{length},lengths:{batch}" for batch, length in corners)
        for which, corners in _corners(limits.profiles).items()
    }
    cache = {} if limits.engines is None else {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(limits.engines),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(limits.engines),
    }  # fmt: skip
    return cache | {
        "trt_max_workspace_size": str(WORKSPACE),
        "trt_context_memory_sharing_enable": "1",
        "trt_profile_min_shapes": shapes["min"],
        "trt_profile_opt_shapes": shapes["opt"],
        "trt_profile_max_shapes": shapes["max"],
    }


def _corners(found: Sequence[Profile]) -> dict[str, list[tuple[int, int]]]:
    return {
        "min": [(1, one.shortest) for one in found],
        "opt": [(max(1, one.batch * one.shortest // one.longest), one.longest) for one in found],
        "max": [(one.batch, one.longest) for one in found],
    }


def engine_folder(cache: Path, graph_sha256: str, versions: Mapping[str, str], gpu: str) -> Path:
    """Where engines are kept: they hold for one graph, TensorRT, ONNX Runtime and kind of GPU."""
    parts = [graph_sha256, *(f"{name}={versions[name]}" for name in sorted(versions)), gpu]
    return cache / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
