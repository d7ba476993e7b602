"""ONNX Runtime's execution providers: what they are asked for, and which shapes TensorRT builds engines for. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.models.batches import round_up

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

BUDGET = {"tensorrt": 16384, "cuda": 16384, "cpu": 256}
"""Padded tokens per pass, unless set or tuned. On processors a batch is best small enough for their caches."""

ENGINES = (128, 512, 2048)
"""Longest texts of TensorRT's engines. ONNX Runtime does not switch between the profiles of one engine, so each length
has an engine of its own, with its own copy of the weights."""

WORKSPACE = 8 << 30
"""Bytes that TensorRT may use while it tries kernels."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The shapes that an engine is built for: up to ``batch`` texts of ``shortest`` to ``longest`` tokens."""

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
    profile: Profile | None = None


def profiles(token_budget: int, longest: int, ends: Sequence[int] = ENGINES) -> tuple[Profile, ...]:
    """One per length in ``ends`` that a batch within the budget, and a text, can reach."""
    shortest, made = 1, []
    for end in sorted(ends):
        if shortest <= longest and end <= token_budget:
            made.append(Profile(max(1, token_budget // round_up(shortest, MULTIPLE["tensorrt"])), shortest, end))
            shortest = end + 1
    return tuple(made)


def covers(profile: Profile, batch: int, length: int) -> bool:
    """Whether the engine takes this shape; if not, TensorRT would build another in the middle of the stream."""
    return batch <= profile.batch and profile.shortest <= length <= profile.longest


def options(provider: str, limits: Limits, precision: str = "fp32") -> dict[str, str]:
    """The provider's options by ONNX Runtime's names."""
    if provider == "cpu":
        return {}
    if provider == "cuda":
        cuda = {"arena_extend_strategy": "kSameAsRequested", "use_tf32": "0"}
        return cuda | ({"gpu_mem_limit": str(limits.gpu_memory)} if limits.gpu_memory else {})
    chosen = {"trt_max_workspace_size": str(WORKSPACE), "trt_load_user_initializer": "1"}
    if precision in ("bf16", "fp16"):
        chosen[f"trt_{precision}_enable"] = "1"
    if limits.engines is not None:
        for what in ("engine", "timing"):
            chosen |= {f"trt_{what}_cache_enable": "1", f"trt_{what}_cache_path": str(limits.engines)}
    if (profile := limits.profile) is not None:
        usual = max(1, BUDGET["tensorrt"] // profile.longest)
        for which, batch, length in (
            ("min", 1, profile.shortest),
            ("opt", min(usual, profile.batch), profile.longest),
            ("max", profile.batch, profile.longest),
        ):
            chosen[f"trt_profile_{which}_shapes"] = f"input_ids:{batch}x{length},lengths:{batch}"
    return chosen


def engine_folder(cache: Path, files: Mapping[str, str], versions: Mapping[str, str], gpu: str) -> Path:
    """Where engines are kept: they hold for one model, TensorRT, ONNX Runtime and kind of GPU.

    ``files`` are the sha256 of all of a bundle's: two models may have the very same graph and other weights.
    """
    parts = [*(f"{name}={value}" for part in (files, versions) for name, value in sorted(part.items())), gpu]
    return cache / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
