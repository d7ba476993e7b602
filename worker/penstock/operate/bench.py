"""``penstock bench``: how fast a bundle's model is on this machine, by length of text."""

import os
import random
import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from penstock.core.errors import Misconfigured
from penstock.models.bundle import Bundle, write
from penstock.models.forward import Forward
from penstock.models.runtime import LoadedGraph

MIXED = "mixed"
MIXED_MEDIAN, MIXED_SPREAD, MIXED_LONGEST = 120, 0.8, 1024
"""Mixed lengths are log-normal: half of the texts are shorter than the median, few are much longer."""

USUAL = ("32", "128", "512", MIXED)
BUDGETS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
FULL = 8
"""Batches that a budget must give to be compared."""

VOCABULARY = 100
"""Tokens are drawn from the first so many, which every model has; which ones they are costs nothing."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table. ``tflops`` are those that the texts need; ``mfu`` their part of the peak given."""

    lengths: str
    texts: int
    token_budget: int
    tokens_per_s: float
    texts_per_s: float
    padding_share: float
    tflops: float | None
    mfu: float | None


def lengths(name: str, tokens: int, longest: int, seed: int = 0) -> list[int]:
    """Texts of about so many tokens together: all of one length, or of mixed ones up to the longest."""
    if name != MIXED:
        return [int(name)] * max(1, tokens // int(name))
    chance, drawn_lengths = random.Random(seed), list[int]()  # noqa: S311  # no secret
    while sum(drawn_lengths) < tokens:
        drawn = chance.lognormvariate(0, MIXED_SPREAD) * MIXED_MEDIAN
        drawn_lengths.append(max(4, min(MIXED_LONGEST, longest, round(drawn))))
    return drawn_lengths


def lengths_to_measure(bundle: Bundle, names: Sequence[str]) -> Sequence[str]:
    """Those that are asked for, else the usual ones; raises Misconfigured for one that the model does not take."""
    longest = bundle.manifest.max_tokens
    for name in names:
        if name != MIXED and not (name.isdigit() and 1 <= int(name) <= longest):
            raise Misconfigured(f"--lengths {name}: numbers up to {longest}, or {MIXED}")
    return names or [name for name in USUAL if name == MIXED or int(name) <= longest]


def measure(
    bundle: Bundle, loaded: LoadedGraph, names: Sequence[str], tokens: int, repeats: int, peak_tflops: float | None
) -> Iterator[Result]:
    """One result per kind of length, the median of the repeats."""
    for name in names:
        drawn = lengths(name, tokens, bundle.manifest.max_tokens)
        seconds = statistics.median(_timed(loaded.forward, drawn, repeats))
        yield _result(bundle, loaded, name, drawn, seconds, peak_tflops)


def tune(bundle: Bundle, loaded: LoadedGraph, tokens: int, advance: Callable[[int], None]) -> tuple[str, int]:
    """Find the token budget with the most tokens a second on mixed lengths, and store it in the bundle.

    Only budgets that ``tokens`` fill several times are tried; larger ones would all give the same batches.
    """
    drawn = lengths(MIXED, tokens, bundle.manifest.max_tokens)
    seconds: dict[int, float] = {}
    for budget in BUDGETS:
        forward = loaded.forward.with_budget(budget)
        if len(forward.batches(drawn)) >= FULL or not seconds:
            seconds[budget] = statistics.median(_timed(forward, drawn, 3))
        advance(1)
    best = min(seconds, key=lambda budget: seconds[budget])
    budgets = dict(bundle.manifest.token_budgets) | {loaded.provider: best}
    write(Bundle(bundle.folder, bundle.manifest.model_copy(update={"token_budgets": budgets})))
    return loaded.provider, best


def peak_memory() -> dict[str, int]:
    """Most bytes that this process held so far, and those of the GPU that it holds now, where there is one."""
    peak = {"host": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if program := shutil.which("nvidia-smi"):
        asked = [program, "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
        lines = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()  # noqa: S603
        held = [line.split(",")[1].strip() for line in lines if line.split(",")[0].strip() == str(os.getpid())]
        if held and held[0].isdigit():
            peak["gpu"] = int(held[0]) << 20
    return peak


def _timed(forward: Forward, drawn: Sequence[int], repeats: int) -> list[float]:
    chance = random.Random(len(drawn))  # noqa: S311  # no secret
    texts = [[chance.randrange(VOCABULARY) for _ in range(length)] for length in drawn]
    forward.run(texts)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        forward.run(texts)
        seconds.append(time.perf_counter() - started)
    return seconds


def _result(
    bundle: Bundle, loaded: LoadedGraph, name: str, drawn: Sequence[int], seconds: float, peak: float | None
) -> Result:
    work = bundle.manifest.work
    tflops = sum(map(work.flops, drawn)) / seconds / 1e12 if work else None
    return Result(
        lengths=name,
        texts=len(drawn),
        token_budget=loaded.token_budget,
        tokens_per_s=round(sum(drawn) / seconds, 1),
        texts_per_s=round(len(drawn) / seconds, 2),
        padding_share=round(loaded.forward.padding_share(drawn), 4),
        tflops=None if tflops is None else round(tflops, 3),
        mfu=round(tflops / peak, 4) if tflops and peak else None,
    )
