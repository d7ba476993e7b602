"""ONNX Runtime: a graph on an execution provider that is checked, since the library falls back silently."""

import contextlib
import importlib
import importlib.metadata
import os
import re
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnxruntime

from penstock.core.errors import Misconfigured
from penstock.core.vectors import Vector
from penstock.models.providers import PROVIDERS, Limits, options

Feeds = Mapping[str, npt.NDArray[Any]]

NO_MEMORY = re.compile(r"failed to allocate|out of memory|bad_alloc|alloc_failed", re.IGNORECASE)
SHAPES_KEPT = 32
"""Shapes of input with device buffers of their own."""

LIBRARIES = ("nvidia-cuda-runtime", "nvidia-cudnn-cu13", "nvidia-cublas", "tensorrt-cu13")
UNSIGNED_BY_SIGNED = {"avx512_vnni", "avx_vnni", "avx10", "amx_int8", "asimddp", "i8mm"}
"""Flags of processors that multiply bytes without saturating at 16 bits."""


class OutOfMemory(Exception):
    """The runtime could not get the memory for this batch; a smaller one may fit."""


class Session:
    """One graph, loaded. ``run`` may be called by several threads at once."""

    def __init__(
        self, graph: Path, output: str, provider: str, limits: Limits | None = None, precision: str = "fp32"
    ) -> None:
        """Load on this provider; raises Misconfigured when ONNX Runtime would take another one."""
        limits = limits or Limits()
        choices = onnxruntime.SessionOptions()
        choices.intra_op_num_threads = limits.threads
        choices.add_session_config_entry("session.intra_op.allow_spinning", "1" if limits.spinning else "0")
        choices.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        choices.log_severity_level = 3
        wanted = PROVIDERS[provider]
        asked = [(wanted, options(provider, limits, precision))]
        if provider == "tensorrt":  # what its parser does not take
            asked.append((PROVIDERS["cuda"], options("cuda", limits)))
        try:
            with contextlib.redirect_stdout(sys.stderr):
                _load_libraries(provider)
                self._session = onnxruntime.InferenceSession(
                    str(graph), choices, providers=asked, enable_fallback=False
                )
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise Misconfigured(f"cannot load {graph} on {provider}: {reason}") from error
        if self._session.get_providers()[0] != wanted:
            raise Misconfigured(f"{provider} did not load; see the log of ONNX Runtime")
        self._output = output
        self._bound = None if provider == "cpu" else BoundSession(self._session, output, "cuda")
        self.inputs = frozenset(node.name for node in self._session.get_inputs())
        shapes = {node.name: node.shape for node in self._session.get_outputs()}
        self.width = int(shapes[output][-1])
        self.provider = wanted

    def run(self, feeds: Feeds) -> Vector:
        """The graph's output, ``[batch, width]``; raises OutOfMemory."""
        try:
            if self._bound is not None:
                return self._bound.run(feeds)
            result: Vector = self._session.run([self._output], dict(feeds))[0]
        except Exception as error:
            if NO_MEMORY.search(str(error)):
                raise OutOfMemory(str(error)[:200].splitlines()[0]) from error
            raise
        return result


class BoundSession:
    """Runs with inputs in device buffers that are made once per shape, and copies nothing but the result back."""

    def __init__(self, session: onnxruntime.InferenceSession, output: str, device: str) -> None:
        self._session, self._output, self._device = session, output, device
        self._buffers: OrderedDict[tuple[str, tuple[int, ...]], onnxruntime.OrtValue] = OrderedDict()
        self._lock = threading.Lock()

    def run(self, feeds: Feeds) -> Vector:
        """One at a time, since the buffers are shared."""
        with self._lock:
            binding = self._session.io_binding()
            for name, values in feeds.items():
                binding.bind_ortvalue_input(name, self._buffer(name, values))
            binding.bind_output(self._output, self._device)
            self._session.run_with_iobinding(binding)
            result: Vector = binding.copy_outputs_to_cpu()[0]
            return result

    def _buffer(self, name: str, values: npt.NDArray[Any]) -> onnxruntime.OrtValue:
        key = name, values.shape
        if key in self._buffers:
            self._buffers.move_to_end(key)
            self._buffers[key].update_inplace(values)
        else:
            self._buffers[key] = onnxruntime.OrtValue.ortvalue_from_numpy(values, self._device, 0)
            if len(self._buffers) > SHAPES_KEPT * len(self._session.get_inputs()):
                self._buffers.popitem(last=False)
        return self._buffers[key]


def providers() -> list[str]:
    """Those that this build of ONNX Runtime has, whether or not the machine does."""
    return [name for name, known in PROVIDERS.items() if known in onnxruntime.get_available_providers()]


def versions() -> dict[str, str]:
    """Of ONNX Runtime and the libraries under it, as far as they are Python packages."""
    installed = {"onnxruntime": onnxruntime.__version__}
    for name in LIBRARIES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def cores(quota: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Those that this process may use, by its affinity and its control group's quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        most, period = quota.read_text().split()
        return max(1, min(allowed, int(most) // int(period)))
    except (OSError, ValueError):
        return allowed


def gpu_name() -> str:
    """The first GPU's model as the driver says it, or nothing."""
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in path.read_text().splitlines():
            if line.startswith("Model:"):
                return line.removeprefix("Model:").strip()
    return ""


def multiplies_bytes(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether int8 graphs are exact on this processor; where Linux does not tell, they are not trusted."""
    try:
        flags = set(cpuinfo.read_text().split())
    except OSError:
        return False
    return bool(flags & UNSIGNED_BY_SIGNED)


def _load_libraries(provider: str) -> None:
    """Make the libraries that came as packages known to the loader; those of the system need none of this."""
    if provider == "cpu":
        return
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls(cuda=True, cudnn=True, directory="")
    if provider == "tensorrt":
        try:
            importlib.import_module("tensorrt")
        except ImportError:
            return
