"""ONNX Runtime: a graph on an execution provider that is checked, since the library falls back silently."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from worker.errors import Misconfigured

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class Session:
    """One graph, loaded. ``run`` may be called by several threads at once."""

    def __init__(self, graph: Path, output: str, provider: str, threads: int = 0) -> None:
        """Load on this provider and no other; raises Misconfigured."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        wanted = PROVIDERS[provider]
        if wanted not in onnxruntime.get_available_providers():
            available = ", ".join(onnxruntime.get_available_providers())
            raise Misconfigured(f"model.provider = {provider}: this ONNX Runtime has {available}")
        try:
            self._session = onnxruntime.InferenceSession(str(graph), options, providers=[wanted])
        except Exception as error:
            raise Misconfigured(f"cannot load {graph}: {str(error).splitlines()[0]}") from error
        if self._session.get_providers()[0] != wanted:
            raise Misconfigured(f"model.provider = {provider} did not load; see the log of ONNX Runtime")
        self._output = output
        self.inputs = frozenset(node.name for node in self._session.get_inputs())
        self.provider = wanted

    def run(self, feeds: Mapping[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
        """The graph's output, ``[batch, dimension]``."""
        result: npt.NDArray[np.float32] = self._session.run([self._output], dict(feeds))[0]
        return result
