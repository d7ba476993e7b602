"""The GPU's own figures, through NVIDIA's management library. The only importer of its binding."""

from contextlib import suppress
from typing import Any


class Gpu:
    """The device that CUDA sees first."""

    def __init__(self, library: Any, handle: Any) -> None:
        self._library, self._handle = library, handle

    @classmethod
    def first(cls) -> "Gpu | None":
        """None where the binding is not installed or the driver does not answer."""
        try:
            import pynvml  # noqa: PLC0415  # comes with the GPU extras only

            pynvml.nvmlInit()
            return cls(pynvml, pynvml.nvmlDeviceGetHandleByIndex(0))
        except Exception:  # noqa: BLE001  # whatever it is, the worker works without these figures
            return None

    def read(self) -> tuple[float, float, float]:
        """Bytes used, bytes in all, and the share of the last moments that it was busy; not-a-number where unknown."""
        used = total = busy = float("nan")
        with suppress(Exception):
            memory = self._library.nvmlDeviceGetMemoryInfo(self._handle)
            used, total = memory.used, memory.total
        with suppress(Exception):  # on MIG there is none
            busy = self._library.nvmlDeviceGetUtilizationRates(self._handle).gpu / 100
        return used, total, busy
