"""What activations become before they are multiplied in bytes: each token in steps of its own size."""

from dataclasses import dataclass

import numpy as np

from penstock.models.export.checkpoint import Array


@dataclass(frozen=True, slots=True)
class Steps:
    """Unsigned bytes, since the kernels for processors multiply unsigned by signed.

    Zero is the byte ``zero``; a token's largest value is ``above`` steps over it. A token is at least as large as
    ``least``, so that none is divided by zero, and what is below zero has a byte.
    """

    zero: int
    above: int
    least: float
    signed: bool = True

    def rounded(self, rows: Array) -> Array:
        """Rows ``[tokens, n]`` as they come back from bytes."""
        largest = (np.abs(rows) if self.signed else rows).max(axis=1, keepdims=True)
        step = np.maximum(largest, np.float32(self.least)) / np.float32(self.above)
        return np.asarray(np.clip(np.rint(rows / step), -self.zero, 255 - self.zero) * step)


ANY = Steps(zero=128, above=127, least=1e-30)
"""Of values of both signs; a row of zeros is divided by ``least``."""

BEHIND_GELU = Steps(zero=24, above=231, least=0.17 * 231 / 24, signed=False)
"""GELU has no value below -0.17: nearly all bytes are for what is above zero, which halves the steps."""
